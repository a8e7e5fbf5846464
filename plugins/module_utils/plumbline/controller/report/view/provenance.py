"""Where the numbers come from: the run, its commands, its environment, its phases, every measurement. Standard library only."""

from __future__ import annotations

import shlex

from ..format import MISSING, seconds
from ..records.entries import entry_status
from ..records.reading import get, num, plain, texts

# Context keys that say what the numbers depend on, beyond every key that ends in _version.
ENVIRONMENT = (
    "os",
    "kernel",
    "driver",
    "cuda",
    "python",
    "sku",
    "gpu",
    "gpu_model",
    "cpu_model",
    "image",
    "image_id",
    "image_digest",
    "backend",
    "tool",
    "runtime",
    "transport",
    "interface",
    "link_rate_gbit_s",
    "model",
    "manifest_sha256",
    "dtype",
)

# Keys of run.json -> what the report calls them.
RUN = (
    ("run_id", "run"),
    ("started_at", "started"),
    ("finished_at", "finished"),
    ("playbook", "playbook"),
    ("inventory", "inventory"),
    ("limit", "limit"),
    ("tags", "tags"),
    ("skip_tags", "skipped tags"),
    ("check", "check mode"),
    ("ansible_version", "ansible-core"),
    ("plumbline_version", "Plumbline"),
)


def run_lines(run):
    """Return ``[(label, value)]`` of what run.json says of the run, without what it does not say."""
    shown = []
    for key, label in RUN:
        value = run.get(key)
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, list):
            value = ", ".join(str(item) for item in value)
        if value:
            shown.append((label, str(value)))
    return shown


def environment(facts):
    """Return ``[(key, value, where)]``; a key with different values on different facts shows each of them."""
    seen = {}
    for entry in facts:
        for key, value in plain(get(entry["fact"], "context")).items():
            wanted = key.endswith("_version") or key == "version" or key in ENVIRONMENT
            if wanted and isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
                label = key if key != "version" else "%s version" % entry["kind"]
                seen.setdefault(label, {}).setdefault(str(value), set()).add(entry["host"])
    return [(key, value, ", ".join(sorted(hosts))) for key in sorted(seen) for value, hosts in sorted(seen[key].items())]


def commands(run):
    """Return ``[(what for, command)]``: the commands that repeat this run and render its report again, as far as run.json tells them."""
    parts = ["ansible-playbook", str(run["playbook"] or "site.yml")]
    inventory = run["inventory"]
    for item in texts(inventory) if isinstance(inventory, (str, list)) else []:
        parts += ["-i", item]
    for key, option in (("tags", "--tags"), ("skip_tags", "--skip-tags")):
        values = [str(item) for item in run[key] if str(item) != "all"]
        if values:
            parts += [option, ",".join(values)]
    if run["limit"]:
        parts += ["--limit", str(run["limit"])]
    if run["check"]:
        parts.append("--check")
    again = ["ansible-playbook", "playbooks/report.yml", "-e"]
    return [
        ("repeat this run", shlex.join(parts)),
        ("render this report again", shlex.join([*again, "report_run_dir=results/%s" % run["run_id"]])),
    ]


def phase_lines(run):
    """Return ``[{name, duration}]`` of the run's plays."""
    return [{"name": str(phase.get("name") or "unnamed"), "duration": seconds(phase.get("duration_s"))} for phase in run["phases"]]


def measurement_lines(facts, large=False):
    """Return a line for every loaded fact: how it was measured, how long it took, and what is wrong with it.

    Of a large fleet, nodes that measured the same by the same command and with the same verdict share a line: it has the longest time.
    """
    lines = [_measurement(entry) for entry in facts]
    if not large:
        return lines
    groups = {}
    for line, entry in zip(lines, facts):
        problems = tuple(line["problems"])
        groups.setdefault((line["kind"], line["name"], line["status"], line["command"], problems), []).append((line, entry))
    return [_shared(mine) for mine in groups.values()]


def _shared(mine):
    first, longest = mine[0][0], max((num(get(entry["fact"], "duration_s")) or 0 for _line, entry in mine), default=None)
    if len(mine) == 1:
        return first
    return dict(first, host="%s and %d more" % (first["host"], len(mine) - 1), duration="up to %s" % seconds(longest))


def _measurement(entry):
    return {
        "host": entry["host"],
        "kind": entry["kind"],
        "name": entry["name"],
        "status": entry_status(entry),
        "duration": seconds(get(entry["fact"], "duration_s")),
        "command": str(get(entry["fact"], "command") or MISSING),
        "file": entry["file"],
        "problems": entry["problems"],
    }
