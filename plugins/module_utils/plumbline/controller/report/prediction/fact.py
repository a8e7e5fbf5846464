"""A prediction as a fact: kept before its layout is served. Standard library only."""

from __future__ import annotations

from ....core.fact import Measurement
from ..format import digits
from ..records.collect import collect
from ..records.reading import num, plain, texts, whole
from . import told
from .rates import Evidence, evidence

NO_ROOM = "weights and one request do not fit a GPU"
FITS = {"healthy": True, "failed": False}
# By the status of what serving itself will judge, ``serve.memory``.
WORDS = {"healthy": "fits; ", "degraded": "may not fit; ", "failed": "", "incomplete": "", "skipped": ""}
# Whose rate, time or sizes these are, beside the numbers.
CONTEXT = ("layout", "tp", "pp", "nodes", "executor", "gpu", "layers", "hidden_size", "dtype", "weight_bytes", "kv_bytes_per_token")


def facts(asked, data, given):
    """Return a fact of kind ``prediction`` for each of ``asked`` (what the module ``layout_prediction`` returned).

    ``data`` is what the run has kept so far (None: nothing), ``given`` are the module's arguments: ``hosts``, ``concurrency``,
    ``input_len``, ``output_len``, ``hbm_read_gbps``, ``hbm_read_known``.
    """
    seen = evidence(data, collect(data).collectives) if data else Evidence()
    return [_fact(one, seen, given) for one in asked]


def unasked(layouts, why):
    """Return a fact without a number for each of ``layouts`` (the module's argument): the head could not be asked, as ``why`` says."""
    found = []
    for layout in layouts:
        made = Measurement("prediction", str(plain(layout).get("name")))
        made.context.update(layout=str(plain(layout).get("name")), against=[why])
        made.add("prediction.tpot", "skipped", "no prediction: the head could not be asked: %s" % why)
        found.append(made.fact())
    return found


def _fact(asked, seen, given):
    found, fit = Measurement("prediction", asked["layout"]), asked["fit"]
    request = {key: whole(given.get(key)) for key in ("concurrency", "input_len", "output_len")}
    against = list(asked.get("against") or ()) + ([NO_ROOM] if fit["status"] == "failed" else [])
    hosts = texts(given.get("hosts"))[: whole(asked.get("nodes")) or 1] or None
    wanted = {**asked, **request, "against": against}
    told_of = told.foretell(wanted, seen, hosts, known_rate(asked.get("gpu"), given), asked.get("custom_all_reduce", True))
    found.context.update({key: asked.get(key) for key in CONTEXT}, **request)
    found.measured.update(numbers(told_of), fits=FITS.get(fit["status"]))
    found.context.update(sources(told_of))
    status, seen_of = sentence(told_of)
    found.add("prediction.tpot", status, WORDS[fit["status"]] + seen_of)
    # Whether it fits is judged when the layout is served: here it is said.
    bad = fit["status"] == "failed"
    found.add("prediction.fit", "degraded" if bad else fit["status"], fit["seen"], fit["threshold"], fit["remedy"])
    return found.fact("degraded" if bad else status)


def known_rate(gpu, given):
    """Return ``(10⁹ bytes/s, source)`` of a variable, or of a GPU by its name; None where neither knows."""
    set_by_hand = num(given.get("hbm_read_gbps"))
    if set_by_hand and set_by_hand > 0:
        return set_by_hand, "the variable serve_benchmark_hbm_read_gbps"
    known = plain(plain(given.get("hbm_read_known")).get(gpu))
    return (num(known.get("hbm_read_gbps")), known.get("source")) if known else None


def numbers(told_of):
    """Return what a prediction has in figures, as the fact's ``measured``."""
    made, token, rates = (told_of[key] for key in ("prediction", "token", "rates"))
    if not made:
        return {}
    return {
        "tpot_ms": made.tpot_ms,
        "tpot_low_ms": made.low_ms,
        "tpot_high_ms": made.high_ms,
        "decode_tok_s": 1e3 / made.tpot_ms,
        "terms": [term._asdict() for term in made.terms],
        "all_reduces": token.all_reduces,
        "message_bytes": token.message_bytes,
        "group_nodes": token.group_nodes,
        "read_gbps": rates.read_gbps,
        "all_reduce_us": rates.all_reduce_us,
    }


def sources(told_of):
    """Return where a prediction's figures are from, and what it leaves out, as the fact's ``context``."""
    rates, made = told_of["rates"], told_of["prediction"]
    if not made:
        return {"against": told_of["against"]}
    return {"read_source": rates.read_source, "all_reduce_source": rates.all_reduce_source, "missing": list(made.missing)}


def sentence(told_of):
    """Return ``(status, seen)`` of the prediction: the number with its range, or why there is none."""
    made = told_of["prediction"]
    if not made:
        return "skipped", "no prediction: %s" % "; ".join(told_of["against"])
    return "healthy", said(made)


def said(made):
    """Return a prediction in words: ``TPOT 21.3 ms (20.4 to 22.2), 47.0 tok/s (45.1 to 49.1)``."""
    rates = [digits(1e3 / value) if value else None for value in (made.tpot_ms, made.high_ms, made.low_ms)]
    if made.high_ms is None:
        return "TPOT at least %s (from %s), at most %s tok/s while decoding; not counted: %s" % (
            digits(made.tpot_ms, "ms"), digits(made.low_ms), rates[0], "; ".join(made.missing),
        )  # fmt: skip
    return "TPOT %s (%s to %s), %s tok/s (%s to %s) while decoding" % (
        digits(made.tpot_ms, "ms"), digits(made.low_ms), digits(made.high_ms), *rates,
    )  # fmt: skip
