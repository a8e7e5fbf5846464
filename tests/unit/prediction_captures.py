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
    fact = json.loads((ROOT / "tests/captures" / path).read_text())
    context, measured = fact["context"], fact["measured"]
    token = Token(
        layers=context["model_layers"],
        message_bytes=context["model_hidden_size"] * 2,
        weight_bytes=context["read_per_token_bytes"],
        kv_bytes=context["kv_bytes_per_token"] * (measured["input_len_tokens"] + measured["output_len_tokens"] / 2),
        **{key: context[key] for key in ("tp", "pp", "nodes", "executor")},
    )
    return token, measured["summary"]["tpot_ms"]["median"]


def rates(token, read_gbps=H200):
    """Return the rates of a token in one node: the GPU's, and vLLM's own all-reduce as it is published."""
    return Rates(read_gbps, "measured", constants.CUSTOM_US.get(token.tp, 0.0), constants.CUSTOM_SOURCE)


def seen(path):
    """Return one equation of the fit."""
    token, tpot_ms = capture(path)
    known = reading_ms(token.weight_bytes + token.kv_bytes, token.tp, H200) + token.all_reduces * rates(token).all_reduce_us / 1e3
    return Seen(token.layers, token.hand_overs, known, tpot_ms)
