"""What the nodes of a layout knew of its failure, put into the fact that says that it failed."""

from __future__ import annotations

from ..core.fact import KINDS, kind_of, reason
from . import unreachable


def kind_of_failed(fact):
    """Return the kind of a fact that can be amended; raise ValueError for something else than a fact."""
    kind = kind_of(fact)
    if kind not in KINDS or "reasons" not in fact:
        raise ValueError("this is no fact: keys %s, expected at least schema and reasons" % sorted(fact))
    return kind


def sentences(results):
    """Return what ``serve_postmortem`` brought back from each node of a loop as sentences ``who: where: what``.

    A node that no longer answers says something too: its message, under its name.
    """
    said = [sentence for item in results for sentence in item.get("causes") or ()]
    return said + ["%s: %s" % (item.get("item", "a node"), unreachable.said(item)) for item in results if "msg" in item]


def findings(results):
    """Return what the nodes' logs gave as ``{sentence: finding}``, each with ``remedy`` and ``weight`` (see ``serve_postmortem``)."""
    return {item["cause"]: item for result in results for item in result.get("findings") or ()}


def amended(fact, check, said, remedy=None, found=None):
    """Return ``fact`` with a reason for each sentence of ``said``, without those whose last part the fact says already.

    The status does not change: the added reasons explain it. ``found`` are the :func:`findings` behind the sentences. Their own remedies
    stand before ``remedy``, and what explains more than all that the fact says already becomes its headline.
    """
    found = found or {}
    known = " ".join(item["seen"] for item in fact["reasons"])

    def is_known(sentence):
        return sentence.split(": ", 2)[-1] in known

    def what_to_do(sentence):
        return "; ".join(text for text in (found.get(sentence, {}).get("remedy"), remedy) if text) or None

    def weight(sentence):
        return found.get(sentence, {}).get("weight", 0)

    added = [sentence for sentence in said if not is_known(sentence)]
    told = max((weight(sentence) for sentence in found if is_known(sentence)), default=None)
    first = [sentence for sentence in added if told is not None and weight(sentence) > told]
    first.sort(key=weight, reverse=True)

    def reasons(sentences):
        return [reason(check, fact["status"], sentence, None, what_to_do(sentence)) for sentence in sentences]

    return dict(fact, reasons=[*reasons(first), *fact["reasons"], *reasons([sentence for sentence in added if sentence not in first])])
