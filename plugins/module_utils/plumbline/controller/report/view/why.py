"""Why a run is not proven: what failed and what lacks evidence, the same together, with what to do. Standard library only."""

from __future__ import annotations

from ....core.fact import STATUSES

# Names that one line has, and lines that stand open; the others are behind a fold.
NAMED, SHOWN_LINES = 8, 12


def why_lines(failed):
    """Return ``{shown, folded}`` of lines ``{what, names, status, why, remedy}``, the worst first; ``failed`` is the verdicts' own list."""
    groups = {}
    for item in failed:
        key = item["what"], item["status"], item["why"], item["remedy"]
        groups.setdefault(key, []).append(str(item["name"]))
    lines = [
        {"what": what if len(names) == 1 else what + "s", "names": _names(names), "status": status, "why": why, "remedy": remedy}
        for (what, status, why, remedy), names in groups.items()
    ]
    lines.sort(key=lambda line: -STATUSES.index(line["status"]))
    return {"shown": lines[:SHOWN_LINES], "folded": lines[SHOWN_LINES:]}


def _names(names):
    return ", ".join(names[:NAMED]) + (" and %d more" % (len(names) - NAMED) if len(names) > NAMED else "")
