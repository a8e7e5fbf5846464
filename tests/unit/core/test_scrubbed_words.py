"""What other programs said goes into facts without the secrets that it may carry, also where it is cut."""

from __future__ import annotations

import subprocess

import pytest
import serve_postmortem
import vllm_processes
from ansible.module_utils.plumbline.benchmark import result as bench_result
from ansible.module_utils.plumbline.benchmark import run as bench_run
from ansible.module_utils.plumbline.fabric import collective
from ansible.module_utils.plumbline.fabric.nccl import run as nccl_run
from ansible.module_utils.plumbline.gpus import judge_run
from ansible.module_utils.plumbline.model import peer
from ansible.module_utils.plumbline.serving import cause, ray, runtime

SIGNED = "https://me.blob.core.windows.net/c?sv=2024&sig=%s&se=1" % ("SECRET" * 70)
# What tells that it is a password comes after it, and is cut off.
NAMED = "x" * 200 + " https://robot:%s@hub.example/v2/" % ("SECRET" * 20)


def bench_log(text, tmp_path):
    path = tmp_path / "log"
    path.write_text(text)
    return bench_run._last_line(str(path))


def engine_log(text):
    line = "(EngineCore pid=1) ERROR 07-01 10:00:00 [core.py:10] RuntimeError: %s"
    return [(item.text, str(item)) for item in cause.causes(line % text)]


SAYS = [
    collective.last_line,
    lambda text: nccl_run.cause("NCCL WARN " + text),
    lambda text: judge_run._last_line(text),
    lambda text: bench_result.first_error({"errors": [text]}),
    lambda text: peer.explain(text, "node1"),
    engine_log,
]


@pytest.mark.parametrize("text", [SIGNED, NAMED])
@pytest.mark.parametrize("said", SAYS)
def test_words_of_a_program_are_kept_without_secrets(said, text):
    found = str(said(text))
    assert found and "SECRET" not in found and "https://" in found


@pytest.mark.parametrize("text", [SIGNED, NAMED])
def test_so_is_the_last_line_of_a_benchmark(text, tmp_path):
    assert "SECRET" not in bench_log(text, tmp_path)


@pytest.fixture
def refuses(monkeypatch):
    """Every program ends with 1 and an address whose signature is longer than what is kept of it."""
    done = subprocess.CompletedProcess([], 1, "", "Error: " + SIGNED)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_more: done)


def test_so_are_the_words_of_docker_and_ray(refuses, tmp_path):
    inside = runtime.Runtime("a-container", "docker")
    with pytest.raises(runtime.RuntimeProblem) as refused:
        inside.start(["true"], "id", {}, str(tmp_path / "log"))
    with pytest.raises(ray.RayProbeError) as silent:
        ray.probe(inside, "python3", "10.0.0.4:6379", "10.0.0.4", {})
    with pytest.raises(vllm_processes.EngineProblem) as ended:
        vllm_processes.docker("docker", "rm", "x")
    (gone,) = serve_postmortem.container_causes("docker", "a-container")
    for text in (refused.value, silent.value, ended.value, gone):
        assert "SECRET" not in str(text) and "[scrubbed]" in str(text)
