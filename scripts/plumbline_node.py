"""The command ``plumbline-node``: the assertions of tests/node on the nodes of an inventory, from any folder.

``pip install --editable <clone>`` (which ``make setup`` does) installs it. What it does not know it gives to pytest.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "node"


def pytest_arguments(arguments):
    """Return pytest's arguments for those of the command; ends with a sentence and status 2 for an inventory that is not there."""
    parser = argparse.ArgumentParser(
        prog="plumbline-node", description="Assert what every node must show, over SSH.", epilog="More: pytest's."
    )
    parser.add_argument("-i", "--inventory", help="inventory of the nodes; without it the lab's, if it is up")
    parser.add_argument("-l", "--limit", default="nodes", help="hosts of the inventory, a pattern (default: nodes)")
    known, rest = parser.parse_known_args(arguments)
    found = [str(TESTS), "--rootdir=%s" % ROOT, "--config-file=%s" % (ROOT / "pyproject.toml")]
    if known.inventory:
        if not os.path.exists(known.inventory):
            parser.error("there is no inventory %s, expected a file or a folder: see docs/operations.md" % known.inventory)
        found += ["--hosts=ansible://%s" % known.limit, "--ansible-inventory=%s" % os.path.abspath(known.inventory)]
    return found + rest


def main():
    """Run pytest; its exit status is the command's."""
    arguments = pytest_arguments(sys.argv[1:])
    if not TESTS.is_dir():
        sys.exit("plumbline-node: %s is not there: install it from a clone, `pip install --editable <clone>`" % TESTS)
    import pytest

    os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))  # where the inventory plugin is
    sys.exit(pytest.main(arguments))


if __name__ == "__main__":
    main()
