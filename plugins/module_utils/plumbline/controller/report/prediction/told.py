"""Predictions of a run: those kept before serving, and for layouts without one what would have been said. Standard library only."""

from __future__ import annotations

import shlex

from ....serving.asked import KV_OF_16_BITS
from ....serving.options import CACHE, SPEED, STEP, TOKEN, WEIGHTS, effective
from ..records.entries import of_kind
from ..records.reading import get, num, plain, rows, text, texts, whole
from . import constants
from .coverage import token_of
from .rates import all_reduce, evidence, read_rate, served_share
from .token import Rates, predict


def foretell(asked, seen, hosts=None, known_rate=None, custom=True):
    """Return ``{"token", "rates", "prediction", "least_ms", "against"}`` for one layout.

    ``asked`` is as in ``coverage``, ``seen`` the ``rates.Evidence`` of the run, ``hosts`` the layout's nodes and
    ``known_rate`` as in ``rates.read_rate``; ``custom`` says that vLLM may use its own all-reduce. Without a prediction ``against`` says
    why. ``least_ms`` are the terms other than all-reduces, None where those are not known either.
    """
    token, against = token_of(asked)
    found = {"token": token, "rates": None, "prediction": None, "least_ms": None, "against": against}
    if not token:
        return found
    rate, rate_source = read_rate(seen, hosts, known_rate)
    share = served_share(seen, hosts)
    time_us, time_source = all_reduce(seen, token, asked["gpu"], custom, asked.get("layout"))
    found["against"] = [why for value, why in ((rate, rate_source), (time_us, time_source)) if value is None]
    if rate is not None:
        found["least_ms"] = predict(token, Rates(rate, rate_source, served_share=share), constants.COSTS).tpot_ms
    if not found["against"]:
        found["rates"] = Rates(rate, rate_source, time_us, time_source, share)
        found["prediction"] = predict(token, found["rates"], constants.COSTS)
    return found


def predictions(data, layouts, collectives):
    """Return what is foretold of each layout, ``{name: {...}}``: of those with a kept fact, and of those that were served.

    ``before`` tells which of the two; the other keys are the names in the fact's ``measured`` and ``context``, with ``terms`` as a list of
    ``{name, ms, how}`` and ``least_ms``. ``tpot_ms`` is None where nothing is predicted, and ``against`` says why.
    """
    kept = {entry["name"]: _kept(entry["fact"]) for entry in of_kind(data, "prediction") if not entry["problems"]}
    seen = evidence(data, collectives)
    served = {layout["name"]: _afterwards(layout, data, seen) for layout in layouts if layout["name"] not in kept and layout["usable"]}
    return {**kept, **served}


def _kept(fact):
    measured, context = plain(get(fact, "measured")), plain(get(fact, "context"))
    terms = [term for term in rows(measured.get("terms")) if num(term.get("ms")) is not None and text(term.get("name"))]
    reduces = sum(term["ms"] for term in terms if term["name"] == "all_reduces")
    tpot = num(measured.get("tpot_ms"))
    keys = ("tpot_low_ms", "tpot_high_ms", "all_reduces", "message_bytes", "group_nodes", "read_gbps", "all_reduce_us")
    return {
        "before": True,
        "tpot_ms": tpot,
        "least_ms": None if tpot is None else tpot - reduces,
        "terms": terms,
        **{key: num(measured.get(key)) for key in keys},
        "fits": measured.get("fits") if isinstance(measured.get("fits"), bool) else None,
        **{key: text(context.get(key)) for key in ("read_source", "all_reduce_source")},
        **{key: texts(context.get(key)) for key in ("missing", "against")},
        **{key: whole(context.get(key)) for key in ("tp", "pp", "nodes")},
        "executor": text(context.get("executor")),
    }


def _afterwards(layout, data, seen):
    """Return what would have been said of a layout that was served without a prediction, from what its facts say of it."""
    context, start = (get(_fact(layout, kind), "context") for kind in ("benchmark", "startup"))
    asked = {key: layout[key] for key in ("tp", "pp", "nodes", "executor", "gpu", "layers", "hidden_size", "concurrency")}
    asked.update(
        layout=layout["name"],
        async_scheduling=get(start, "async_scheduling"),
        dtype=text(get(context, "model_dtype")) or text(get(start, "dtype")),
        weight_bytes=layout["read_per_token_bytes"],
        kv_bytes_per_token=layout["kv_bytes_per_token"],
        input_len=num(layout["measured"].get("input_len_tokens")),
        output_len=num(layout["measured"].get("output_len_tokens")),
        against=_against(layout, start),
    )
    known = (layout["hbm_read_gbps"], layout["hbm_read_source"])
    hosts = next((texts(item.get("nodes")) for item in rows(get(data["selection"], "layouts")) if item.get("name") == layout["name"]), None)
    made = foretell(asked, seen, hosts or None, known, get(start, "custom_all_reduce") is not False)
    prediction, token, rates = made["prediction"], made["token"], made["rates"]
    return {
        "before": False,
        "tpot_ms": prediction.tpot_ms if prediction else None,
        "tpot_low_ms": prediction.low_ms if prediction else None,
        "tpot_high_ms": prediction.high_ms if prediction else None,
        "least_ms": made["least_ms"],
        "terms": [term._asdict() for term in prediction.terms] if prediction else [],
        "missing": list(prediction.missing) if prediction else [],
        "against": made["against"],
        "fits": None,
        **{key: getattr(token, key) if token else None for key in ("all_reduces", "message_bytes", "group_nodes")},
        **{key: getattr(rates, key) if rates else None for key in ("read_gbps", "read_source", "all_reduce_us", "all_reduce_source")},
        **{key: layout[key] for key in ("tp", "pp", "nodes", "executor")},
    }


def _fact(layout, kind):
    entries = layout["entries"][kind]
    return entries[-1]["fact"] if entries else {}


def _against(layout, start):
    """Return what the facts of a served layout say against the model, as sentences."""
    found = [layout["bytes_unknown"], layout["steps_unknown"]]
    if layout["quantization"]:
        found.append("the server's log says quantization=%s" % layout["quantization"])
    if get(start, "enforce_eager") is True:
        found.append("the server ran without CUDA graphs (enforce_eager)")
    if layout["executor"] == "mp" and get(start, "async_scheduling") is False:
        found.append("the server ran without asynchronous scheduling: the costs are with it")
    cache = text(get(start, "kv_cache_dtype"))
    if cache and cache not in KV_OF_16_BITS:
        found.append("a KV cache in %s: the costs are of 16 bits" % cache)
    try:
        words = shlex.split(layout["extra_args"] or "")
    except ValueError:
        words = []
    found.append(effective({"tp": 1, "pp": 1}, extra_args=words).why_not(WEIGHTS, TOKEN, CACHE, STEP, SPEED))
    return [sentence for sentence in dict.fromkeys(found) if sentence]
