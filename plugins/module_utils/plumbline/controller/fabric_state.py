"""What the kept facts of a run say about its fabric so far: whether to look closer, and torch against nccl-tests."""

from __future__ import annotations

from ..fabric.parity import add_parity
from .kept import failed, is_control
from .report.records.reading import get, texts

ROLE = "fabric_baseline"


def group_failed(entries, incidents, group):
    """Tell whether a measurement across the ``group`` failed, or ended in an incident on one of its nodes."""
    across = [
        entry
        for entry in entries
        if entry["kind"] == "collective" and entry["host"] in group and get(entry["fact"], "context", "scope") == "across"
    ]
    return any(failed(entry) and not is_control(entry) for entry in across) or any(item.get("host") in group for item in incidents)


def ports_missed(entries, nodes):
    """Tell whether some pair of ``nodes`` has a port that missed its threshold."""
    return any(failed(entry) for entry in pairs(entries, "ib", nodes))


def pairs(entries, name, nodes):
    """Return the link facts named ``<name>.…`` of pairs among ``nodes``."""
    found = []
    for entry in entries:
        ends = texts(get(entry["fact"], "context", "nodes"))
        judged = get(entry["fact"], "context", "node")
        if entry["kind"] == "link" and entry["name"].startswith(name + ".") and not judged and len(ends) == 2 and set(ends) <= set(nodes):
            found.append(entry)
    return found


def with_parity(entries, tolerance, min_bytes):
    """Return ``[(host, fact)]``: each collective by torch that nccl-tests measured on the same host too, compared with it.

    A collective that was not measured by one of them is left out: nothing is added to it.
    """
    collectives = {(entry["host"], entry["name"]): entry["fact"] for entry in entries if not is_control(entry)}
    found = []
    for (host, name), fact in sorted(collectives.items()):
        reference = collectives.get((host, "nccl_tests." + name))
        compared = add_parity(fact, reference, tolerance, min_bytes)
        if compared is not fact:
            found.append((host, compared))
    return found
