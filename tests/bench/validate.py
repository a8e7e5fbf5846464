"""``make bench``: site.yml --tags validate against parallel-ssh with the same checks, on the same nodes, in one run.

It needs an inventory of nodes that answer (a lab), and root on them. Each kind of run is made in turn, --repeat times, and the
medians are compared, so that what else the machine does meets both. The result is a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from one_script import ROOT, script

FORKS = 32  # as ansible.cfg has it
STRICT = ["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15", "-o", "ControlMaster=no"]


def timed(argv, **options):
    """Run a command; return ``(seconds, CPU seconds of it and its children, process)``."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    took, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


def nodes_of(inventory):
    """Return ``{name: variables}`` of the group ``nodes``."""
    done = subprocess.run(["ansible-inventory", "-i", inventory, "--list"], capture_output=True, text=True, check=True, cwd=ROOT)
    listing = json.loads(done.stdout)
    return {name: listing["_meta"]["hostvars"].get(name, {}) for name in listing["nodes"]["hosts"]}


def sku_table():
    """Return the table of roles/sku, as the role gives it to the module."""
    import ansible.module_utils

    ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))
    sys.path.insert(0, str(ROOT / "tests"))
    import skus

    return skus.table()


def ours(inventory, folder, forks):
    """Run site.yml --tags validate; return ``(seconds, CPU seconds, {host: [task, ...]}, verdicts)``."""
    run_id = "bench-%d" % time.monotonic_ns()
    env = dict(os.environ, PLUMBLINE_RESULTS_DIR=str(folder), PLUMBLINE_RUN_ID=run_id, ANSIBLE_FORCE_COLOR="0")
    for path in Path.home().glob(".ansible/cp/*"):
        path.unlink()  # so that ours opens its connections too; parallel-ssh keeps none
    argv = ["ansible-playbook", "-i", inventory, "-f", str(forks), "site.yml", "--tags", "validate"]
    took, cpu, done = timed(argv, cwd=ROOT, env=env)
    facts = folder / run_id / "facts.json"
    if not facts.exists():
        raise SystemExit("no report after %s:\n%s" % (shlex.join(argv), done.stdout[-3000:] + done.stderr[-2000:]))
    verdicts = json.loads(facts.read_text())["verdicts"]["nodes"]
    return took, cpu, done.stdout, verdicts


def peer(nodes, text, forks):
    """Run the one script on every node with parallel-ssh; return ``(seconds, CPU seconds, output)``."""
    one = next(iter(nodes.values()))
    options = STRICT + shlex.split(one.get("ansible_ssh_common_args", ""))
    if one.get("ansible_ssh_private_key_file"):
        options += ["-i", one["ansible_ssh_private_key_file"]]
    with tempfile.TemporaryDirectory() as folder:
        hosts, wrapper = Path(folder, "hosts"), Path(folder, "ssh")
        hosts.write_text("".join("%s@%s\n" % (item.get("ansible_user", "root"), item["ansible_host"]) for item in nodes.values()))
        wrapper.write_text('#!/bin/sh\nexec %s %s "$@"\n' % (shutil.which("ssh"), shlex.join(options)))
        wrapper.chmod(0o755)
        python = one.get("ansible_python_interpreter", "python3")
        argv = ["parallel-ssh", "-h", str(hosts), "-p", str(forks), "-t", "120", "-i", "-I", "%s -" % python]
        took, cpu, done = timed(argv, input=text, env=dict(os.environ, PATH="%s:%s" % (folder, os.environ["PATH"])))
    return took, cpu, done.stdout + done.stderr


def compare(inventory, repeat, forks, healthy):
    """Run both in turn; return the table's row as a dict, and the verdicts that are not healthy."""
    nodes, text, rows, bad = nodes_of(inventory), script("lab", sku_table()), [], {}
    folder = Path(tempfile.mkdtemp(prefix="plumbline-bench-"))
    try:
        for _number in range(repeat):
            took, cpu, _said, verdicts = ours(inventory, folder, forks)
            other, other_cpu, said = peer(nodes, text, forks)
            answered = said.count('"schema": "plumbline.health/1"')
            if answered != healthy:
                raise SystemExit("parallel-ssh got %d answers, expected %d:\n%s" % (answered, healthy, said[-2000:]))
            rows.append((took, cpu, other, other_cpu))
            for name, verdict in verdicts.items():
                if verdict["status"] not in ("healthy", "skipped"):
                    why = next(item for item in verdict["reasons"] if item["status"] == verdict["status"])
                    bad.setdefault(name, []).append("%s: %s: %s" % (verdict["status"], why["check"], why["seen"]))
    finally:
        shutil.rmtree(folder)
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    return {"nodes": len(nodes), "runs": rows, "median": middle, "ratio": middle[0] / middle[2]}, bad


def main():
    """Compare, print, fail above the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inventory")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--forks", type=int, default=FORKS)
    parser.add_argument("--answers", type=int, help="nodes that answer parallel-ssh; all, if not given")
    parser.add_argument("--max-ratio", type=float, default=3.0)
    given = parser.parse_args()
    if not shutil.which("parallel-ssh"):
        raise SystemExit("parallel-ssh is not installed: apt-get install pssh")
    given.inventory = os.path.abspath(given.inventory)
    count = len(nodes_of(given.inventory))
    row, bad = compare(given.inventory, given.repeat, given.forks, given.answers or count)
    print("| nodes | site.yml --tags validate | controller CPU | parallel-ssh | its CPU | ratio |")
    print("|---|---|---|---|---|---|")
    print("| %d | %.1f s | %.1f s | %.1f s | %.1f s | %.2f |" % (row["nodes"], *row["median"], row["ratio"]))
    print("each run: " + "; ".join("%.1f s, %.1f s, %.1f s, %.1f s" % item for item in row["runs"]))
    for name, found in sorted(bad.items()):
        print("%s: %s" % (name, " | ".join(found)))
    return int(row["ratio"] > given.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
