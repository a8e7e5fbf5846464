"""Model arithmetic, a server's options and a benchmark's inputs, on cases from files: a new one is added to a file of ``serving/``.

``options.json``: what an 80 GB GPU and Qwen2.5-72B in float16 make of options (72B fits on four of them and not on one). ``models.json``:
config.json of families, in one type or another, at TP 1. ``results.json``: results of the benchmark's client and texts of ``/metrics``.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.benchmark import counters, measure, result
from ansible.module_utils.plumbline.benchmark.options import Options
from ansible.module_utils.plumbline.model import config as served_model
from ansible.module_utils.plumbline.model import memory as model_memory
from ansible.module_utils.plumbline.serving import checks, options

HERE = Path(__file__).parent / "serving"
OPTIONS, MODELS, RESULTS = (json.loads((HERE / (name + ".json")).read_text()) for name in ("options", "models", "results"))
GPUS = [{"index": index, "total_mib": 81559, "used_mib": 0} for index in range(8)]
QWEN_72B = json.loads((HERE / "configs/Qwen2.5-72B.json").read_text())


def by_id(cases):
    assert len({case["id"] for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", cases, ids=[case["id"] for case in cases])


def layout_of(case):
    found = {"name": "a", "tp": case.get("tp", 1), "pp": case.get("pp", 1), "nodes": 1, "executor": "mp"}
    return dict(found, extra_args=case["layout_args"]) if "layout_args" in case else found


def benchmark_context(case, folder):
    """Return what a benchmark notes of the model under these options."""
    fields = dict.fromkeys(Options.__dataclass_fields__)
    fields.update(
        layout=layout_of(case), dtype="float16", extra_args=tuple(case.get("args", ())), env=case.get("env", {}), context={}, sweep=(),
        slo={}, runs=5, max_runs=0, interval_percent=0, prompts=1, concurrency=1, input_len=57, output_len=512, seed=1, work_dir="/w",
        program="vllm", url="http://h:8000", served_name="m", model=str(folder), clock_window={}, node_addresses=(),
    )  # fmt: skip
    return measure.begin(Options(**fields)).context


@by_id(OPTIONS)
def test_options(case, tmp_path):
    expect, args, env = case["expect"], case.get("args", []), case.get("env", {})
    seen = options.effective(layout_of(case), "float16", 2048, args, env)
    for key in ("utilization", "max_model_len", "dtype", "kv_dtype", "tp", "pp", "block_size"):
        if key in expect:
            assert getattr(seen, key) == expect[key]
    if "partition" in expect:
        assert list(seen.partition) == expect["partition"]
    said = checks.check_memory(GPUS, QWEN_72B, layout_of(case), "float16", 2048, args, "0.17.1", env)[0][0]
    assert said["status"] == expect.get("memory", said["status"]), said
    assert expect.get("seen", "") in said["seen"]
    (tmp_path / "config.json").write_text(json.dumps(QWEN_72B))
    if expect.get("bytes", "any") is not None and not isinstance(case.get("layout_args"), str):
        told = judge_bytes(expect, benchmark_context(case, tmp_path))
    else:
        told = ""
    assert expect.get("why", "") in seen.why_not(*options.SCOPES) + said["seen"] + told
    assert expect.get("unsaid", "\0") not in seen.why_not(*options.SCOPES) + said["seen"] + told


def judge_bytes(expect, context):
    """Compare a benchmark's bytes with those that are expected; return the reason where there are none."""
    plain = model_memory.weight_bytes(QWEN_72B, "float16")["read_per_token_bytes"]
    if expect.get("bytes") is True:
        assert context["read_per_token_bytes"] == expect.get("read_times", 1) * plain
        each = expect.get("cache_times", expect.get("read_times", 1))
        assert context["kv_bytes_per_token"] == each * model_memory.kv_bytes_per_token(QWEN_72B, "auto", "float16")
        assert "model_bytes_unknown" not in context
    elif expect.get("bytes") is False:
        assert "read_per_token_bytes" not in context and context["model_bytes_unknown"]
    return context.get("model_bytes_unknown", "")


def put(case, folder):
    """Write a case's model into a folder."""
    text = case.get("text") or json.dumps(case.get("config"))
    if "file" in case:
        text = (HERE / "configs" / case["file"]).read_text()
    if "deep" in case:
        text = "[" * case["deep"] + "]" * case["deep"]
    (folder / "config.json").write_text(text)
    for name, content in case.get("beside", {}).items():
        (folder / name).write_text(json.dumps(content))


@by_id(MODELS)
def test_models(case, tmp_path):
    expect = case["expect"]
    put(case, tmp_path)
    found = served_model.context(str(tmp_path), "auto")
    for key, name in (("layers", "model_layers"), ("hidden", "model_hidden_size"), ("model_dtype", "model_dtype")):
        if key in expect:
            assert found.get(name) == expect[key]
    if expect["bytes"]:
        weights = model_memory.weight_bytes(served_model.config_of(str(tmp_path)))
        assert weights["read_per_token_bytes"] == found["read_per_token_bytes"] and "model_bytes_unknown" not in found
        assert weights["parameters"] / 1e9 == pytest.approx(expect.get("parameters", weights["parameters"] / 1e9), abs=0.001)
    elif expect["bytes"] is False:
        assert "read_per_token_bytes" not in found and expect["why"] in found["model_bytes_unknown"]
    layout = {"name": "a", "tp": 1, "pp": 1}
    said = checks.check_memory(GPUS, served_model.config_of(str(tmp_path)), layout, "auto", 2048, [])[0][0]
    assert said["status"] == expect["memory"], said
    if expect["bytes"] is False:
        assert expect["why"] in said["seen"]


@by_id(RESULTS["results"])
def test_results(case):
    """A result that cannot be counted with is refused by a sentence, and a good one gives finite numbers."""
    found = json.loads(case["text"]) if "text" in case else changed(case)
    problems = result.problems(found, 5, 64, case.get("goodput", False))
    assert all(isinstance(problem, str) for problem in problems)
    if case["expect"] is not None:
        assert any(case["expect"] in problem for problem in problems), problems
        result.first_error(found)
        return
    assert problems == []
    numbers = list(result.run(found, 64).values()) + [value for values in result.requests(found).values() for value in values]
    assert all(value is None or math.isfinite(value) for value in numbers)


def changed(case):
    found = copy.deepcopy(RESULTS["good"])
    found.update(case.get("change", {}))
    for key in case.get("drop", ()):
        del found[key]
    return found


@by_id(RESULTS["metrics"])
def test_metrics(case):
    assert list(counters.parse(case["text"]).values()) == case["expect"]


def test_a_log_that_tells_of_quantization_or_a_drafter_stands_against_the_arithmetic():
    told = options.told_against((HERE / "l01.log").read_text())
    assert "quantization=compressed-tensors" in told and "speculative_config=SpeculativeConfig" in told
    assert options.told_against((HERE / "l06.log").read_text()) == "" == options.told_against("")
