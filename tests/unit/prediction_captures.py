"""The captures of this project that a prediction is fitted to and held against, as the fit and the arithmetic take them."""

from __future__ import annotations

import json

from ansible.module_utils.plumbline.controller.report.prediction import constants
from ansible.module_utils.plumbline.controller.report.prediction.fit import Seen
from ansible.module_utils.plumbline.controller.report.prediction.token import Rates, Token, reading_ms
from project import ROOT

H200 = 4322  # roles/sku/vars/main/gpus.yml
# What the constants are fitted to, and nothing else.
FITTED = {
    "7B TP1": "h200/plumbline.benchmark.qwen7b.json",
    "32B TP1": "h200/plumbline.benchmark.qwen32b.json",
    "72B TP2": "h200x2/served/benchmark.tp2.json",
    "72B PP2": "h200x2/served/benchmark.pp2.json",
}


def capture(path):
    """Return ``(Token, measured TPOT in ms, the median of the runs)`` of a benchmark's fact."""
    return of_fact(json.loads((ROOT / "tests/captures" / path).read_text()))[:2]


def rates(token, read_gbps=H200):
    """Return the rates of a token in one node: the GPU's, and vLLM's own all-reduce as it is published."""
    return Rates(read_gbps, "measured", constants.CUSTOM_US.get(token.tp, 0.0), constants.CUSTOM_SOURCE)


def seen(path, read_gbps=H200):
    """Return one equation of the fit."""
    token, tpot_ms = capture(path)
    known = reading_ms(token.weight_bytes + token.kv_bytes, token.tp, read_gbps) + token.all_reduces * rates(token).all_reduce_us / 1e3
    return Seen(token.layers, token.hand_overs, known, tpot_ms)


# Held against, and fitted to nothing: the study's layouts, with an H100's read rate, and one of two lab nodes with two H200s each.
STUDY = {"A, TP4": "a_tp4", "B, TP8": "b_tp8", "C, TP8 × PP2": "c_tp8_pp2", "D, TP16": "d_tp16"}
STUDY_FACTS = ROOT / "docs/reference/study/facts/vmssE6JHE7"
H200X4 = "h200x4/benchmark.tp2_pp2_across.json"
# AIConfigurator 0.12 on the study's four: its TPOT against the measured one.
AICONFIGURATOR = {"A, TP4": "−7.9 %", "B, TP8": "+2.0 %", "C, TP8 × PP2": "−31 %", "D, TP16": "−51 %"}


def of_fact(fact):
    """Return ``(Token, measured TPOT in ms, context)`` of a benchmark's fact."""
    context, measured = fact["context"], fact["measured"]
    token = Token(
        layers=context["model_layers"],
        message_bytes=context["model_hidden_size"] * 2,
        weight_bytes=context["read_per_token_bytes"],
        kv_bytes=context["kv_bytes_per_token"] * (measured["input_len_tokens"] + measured["output_len_tokens"] / 2),
        **{key: context[key] for key in ("tp", "pp", "nodes", "executor")},
    )
    return token, measured["summary"]["tpot_ms"]["median"], context


def study(name):
    """Return :func:`of_fact` of one of the study's layouts."""
    return of_fact(json.loads((STUDY_FACTS / ("benchmark.%s.json" % STUDY[name])).read_text()))
