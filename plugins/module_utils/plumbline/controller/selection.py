"""Chooses the nodes that serve: the best healthy ones, in inventory order; the rest are spares."""

from __future__ import annotations

from ..core.fact import PASSING, worst


def candidates(nodes, judged):
    """Return ``[{"name", "verdicts": {phase: status}}]`` for ``nodes``, from the verdicts on them (``verdicts.node_verdicts(data)``).

    A node that is not judged, or a phase without a verdict, has none. What no phase owns goes by the name of its check.
    """
    found = []
    for name in nodes:
        verdict = judged.get(name) or {"phases": {}, "reasons": []}
        phases = {phase: status for phase, status in verdict["phases"].items() if status and phase != "other"}
        for item in verdict["reasons"]:
            if item["phase"] == "other":
                phases[item["check"]] = worst([phases.get(item["check"], "skipped"), item["status"]])
        found.append({"name": name, "verdicts": phases})
    return found


def select(candidates, layouts):
    """Return the selection for ``candidates`` (dicts with name, verdicts) and ``layouts`` (dicts with name, nodes).

    The result has ``serving`` and ``spares`` (names), ``excluded`` (name to reason), ``layouts`` (name, nodes: the names it gets,
    missing: how many it lacks) and ``replaced`` (node, by, why: who serves in the place of a node that was due and is out).
    A node serves only when none of its verdicts is failed or incomplete; healthy goes before degraded.
    A node without any verdict (its checks were not part of this run) is taken at its word, behind the proven ones.
    """
    usable, excluded = [], {}
    for place, candidate in enumerate(candidates):
        verdicts = candidate.get("verdicts") or {}
        bad = ["%s: %s" % (phase, status) for phase, status in verdicts.items() if status in ("failed", "incomplete")]
        if bad:
            excluded[candidate["name"]] = ", ".join(bad)
            continue
        status = worst(verdicts.values())
        rank = PASSING.index(status) if status in PASSING else len(PASSING)
        usable.append((rank, place, candidate["name"]))
    names = [name for _rank, _place, name in sorted(usable)]
    needed = max([int(layout["nodes"]) for layout in layouts] or [len(names)])
    chosen = names[:needed]
    return {
        "serving": chosen,
        "spares": names[needed:],
        "excluded": excluded,
        "replaced": _replaced([candidate["name"] for candidate in candidates][:needed], chosen, excluded),
        "layouts": [
            {
                "name": layout["name"],
                "nodes": chosen[: int(layout["nodes"])],
                "missing": max(0, int(layout["nodes"]) - len(chosen)),
            }
            for layout in layouts
        ],
    }


def _replaced(due, chosen, excluded):
    """Return ``[{"node", "by", "why"}]`` for the nodes that inventory order would have served with and that are out.

    ``by`` is None where no spare was left.
    """
    substitutes = [name for name in chosen if name not in due]
    out = [name for name in due if name in excluded]
    return [
        {"node": name, "by": substitutes[place] if place < len(substitutes) else None, "why": excluded[name]}
        for place, name in enumerate(out)
    ]
