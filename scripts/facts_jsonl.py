#!/usr/bin/env python3
"""Prints the facts of a run as JSON lines, for a pipe: ``python scripts/facts_jsonl.py results/<run id>`` (docs/facts.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parent.parent / "plugins" / "module_utils"))

from ansible.module_utils.plumbline.controller.report import data  # noqa: E402
from ansible.module_utils.plumbline.controller.report.exports import json_lines  # noqa: E402


def main():
    """Print them; exit status 1 for what is no run folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("run_dir", help="results/<run id>")
    run_dir = parser.parse_args().run_dir
    try:
        sys.stdout.write(json_lines.json_lines(data.load(run_dir)).decode("ascii"))
    except (data.NotARunFolder, data.SchemasMissing) as error:
        sys.exit("facts_jsonl: %s. Expected results/<run id> of an earlier run: see `ls results`." % error)


if __name__ == "__main__":
    main()
