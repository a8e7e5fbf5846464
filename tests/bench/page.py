"""``make bench``: how long the report of 1,000 synthetic nodes takes, and how large its page is.

No number of the run is measured: the facts are made up, in the shape and the size of real ones (48 checks a node, a sweep of 24 sizes
within each). What is measured is this project's own rendering, with an earlier run of as many nodes to compare with, and no index yet.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_S, MOST_BYTES = 10, 5_000_000


def prepare():
    """Put the project's code and the tests' run folders on the path."""
    import ansible.module_utils

    ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))
    sys.path.insert(0, str(ROOT / "tests" / "unit"))


def synthetic(folder, run_id, nodes, hour):
    """Write a run folder of so many nodes; every hundredth failed."""
    from report_runs import collective, health, put, reason, whole_run, write

    files = whole_run()
    files["run.json"].update(run_id=run_id, started_at="2026-11-24T%02d:00:00Z" % hour)
    names = ["n%04d" % number for number in range(nodes)]
    files["run.json"]["hosts"] += names
    clocks = next(made for path, made in files.items() if "clocks." in path)
    for number, name in enumerate(names):
        reasons = [
            reason("check.%02d" % place, "healthy", "as it should be, number %d" % place, "what it should be") for place in range(48)
        ]
        if number % 100 == 7:
            reasons.append(reason("disk.free", "failed", "1 GiB free on /", "at least 5 GiB", "free space there"))
        put(files, name, health("failed" if len(reasons) > 48 else "healthy", reasons))
        put(files, name, clocks)
        put(files, name, collective("all_reduce", "within", 20.0 + number % 7 / 10, 400.0 - number % 5))
    write(files, folder / run_id)
    return folder / run_id


def main():
    """Make, render, print, and fail above the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    given = parser.parse_args()
    prepare()
    from ansible.module_utils.plumbline.controller.report.compare.compared import Against
    from ansible.module_utils.plumbline.controller.report.render import build

    schemas, templates = str(ROOT / "docs" / "schema"), str(ROOT / "roles" / "report" / "templates")
    print("| synthetic nodes | index | report | its CPU | report.html | most memory |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="plumbline-bench-") as work:
        synthetic(Path(work), "before", given.nodes, 1)
        run, slowest = synthetic(Path(work), "now", given.nodes, 2), 0
        for state in ("new", "there"):
            start, cpu = time.monotonic(), time.process_time()
            files, _found = build(str(run), schemas, templates, Against(str(run), schemas))
            took, cpu = time.monotonic() - start, time.process_time() - cpu
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            size = len(files["report.html"])
            print("| %d | %s | %.1f s | %.1f s | %.2f MB | %d MiB |" % (given.nodes, state, took, cpu, size / 1e6, memory))
            # One process does it: its processor time is what it takes on a machine that does nothing else.
            slowest = max(slowest, cpu)
    return int(slowest > MOST_S or size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
