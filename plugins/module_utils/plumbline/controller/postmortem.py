"""What the nodes of a layout knew of its failure, put into the fact that says that it failed."""

from __future__ import annotations

from ..core.fact import KINDS, reason


def kind_of(fact):
    """Return the kind of a fact by its schema (``plumbline.startup/1``); raise ValueError for something else than a fact."""
    kind = str(fact.get("schema", "")).rpartition("/")[0].rpartition(".")[2]
    if kind not in KINDS or "reasons" not in fact:
        raise ValueError("this is no fact: keys %s, expected at least schema and reasons" % sorted(fact))
    return kind


def sentences(results):
    """Return what ``serve_postmortem`` brought back from each node of a loop as sentences ``who: where: what``.

    A node that no longer answers says something too: its message, under its name.
    """
    said = [sentence for item in results for sentence in item.get("causes") or ()]
    return said + ["%s: %s" % (item.get("item", "a node"), item["msg"]) for item in results if "msg" in item]


def amended(fact, check, said, remedy=None):
    """Return ``fact`` with a reason for each sentence of ``said``, without those whose last part the fact says already.

    The status does not change: the added reasons explain it.
    """
    known = " ".join(item["seen"] for item in fact["reasons"])
    added = [reason(check, fact["status"], sentence, None, remedy) for sentence in said if sentence.split(": ", 2)[-1] not in known]
    return dict(fact, reasons=[*fact["reasons"], *added])
