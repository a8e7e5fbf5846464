"""A number is said for what the model was fitted on; for anything else a sentence says why there is none."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from ansible.module_utils.plumbline.controller.report.prediction.coverage import token_of
from hypothesis import given

ASKED = {
    "tp": 2, "pp": 1, "nodes": 1, "executor": "mp", "gpu": "NVIDIA H200", "layers": 80, "hidden_size": 8192, "dtype": "float16",
    "weight_bytes": 142_920_990_720, "kv_bytes_per_token": 327_680, "concurrency": 1, "input_len": 57, "output_len": 512, "against": [],
}  # fmt: skip


def test_what_the_captures_had_is_a_token():
    token, against = token_of(ASKED)
    assert against == []
    assert (token.message_bytes, token.kv_bytes, token.all_reduces, token.hand_overs) == (16384, 327_680 * 313, 161, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.float16", "half"])
@pytest.mark.parametrize("gpu", ["NVIDIA H100 80GB HBM3", "NVIDIA H200"])
def test_sixteen_bits_on_hopper_are_covered(dtype, gpu):
    assert token_of({**ASKED, "dtype": dtype, "gpu": gpu})[1] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpu": ""}, "no GPU"),
        ({"gpu": None}, "which GPU it is was not said"),
        ({"gpu": "NVIDIA A100-SXM4-80GB"}, "NVIDIA A100-SXM4-80GB: what a layer costs is known of H100 and H200 (SXM) only"),
        ({"gpu": "NVIDIA L4"}, "known of H100 and H200 (SXM) only"),
        ({"gpu": "NVIDIA H100 PCIe"}, "known of"),
        ({"gpu": "NVIDIA H100 NVL"}, "known of"),
        ({"gpu": "NVIDIA GH200 480GB"}, "known of"),
        ({"gpu": "NVIDIA H100 80GB HBM3 MIG 1g.10gb"}, "known of"),
        ({"gpu": 1}, "was not said"),
        ({"layers": 2.5}, "the number of layers"),
        ({"dtype": "float32"}, "weights in float32"),
        ({"dtype": None}, "a type that nobody said"),
        ({"concurrency": 8}, "8 requests at a time"),
        ({"concurrency": None}, "how many requests at a time is not known"),
        ({"layers": None}, "the number of layers"),
        ({"hidden_size": 0}, "the hidden size"),
        ({"weight_bytes": None}, "the bytes of weights"),
        ({"tp": None}, "not known: tp"),
        ({"tp": 3, "nodes": 2}, "do not divide"),
        ({"output_len": None}, "the tokens of a request"),
        ({"against": ["config.json: quantization_config (fp8) is set: weights of mixed sizes"]}, "quantization_config (fp8)"),
    ],
)
def test_what_is_not_covered_has_a_reason_and_no_token(change, words):
    token, against = token_of({**ASKED, **change})
    assert token is None
    assert any(words in sentence for sentence in against), against


odd = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["", "3", "H200"]) | st.lists(st.integers(), max_size=1)
)


@given(st.dictionaries(st.sampled_from(sorted(set(ASKED) - {"against"})), odd))
def test_odd_values_are_a_sentence_and_never_an_exception(change):
    token, against = token_of({**ASKED, **change})
    assert (token is None) == bool(against)
