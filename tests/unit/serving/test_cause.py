"""Why a start failed: which of a log's candidates is the cause, its place, the next best and what to do.

Whole logs are in ``tests/cases/serving``; here is what they do not show.
"""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.serving import cause
from project import CAPTURES

WORKER = "(Worker_TP%d pid=%d) ERROR 11-24 10:00:%02d [multiproc_executor.py:783] %s\n"
ENGINE = "(EngineCore_DP0 pid=2) ERROR 11-24 10:00:%02d [core.py:1100] %s\n"


def raised(line, *place, error):
    return "".join(
        line % (*place, said) for said in ("Traceback (most recent call last):", '  File "/x/y.py", line 7, in f', "    go()", error)
    )


def test_a_cause_has_its_place_and_what_to_do_and_the_next_best_follow():
    text = "INFO 11-24 10:00:00 [a.py:1] fine\n" + raised(WORKER, 0, 7, 1, error="OSError: [Errno 24] Too many open files")
    text += raised(ENGINE, 3, error="ValueError: second") + "TimeoutError: RPC call to f timed out.\n"
    best = cause.causes(text)
    assert [item.text[:12] for item in best] == ["OSError: [Er", "ValueError: ", "TimeoutError"]
    assert (best[0].line, best[0].process, best[0].kind) == (5, "Worker_TP0 pid=7", "open_files") and "ulimit -n" in best[0].remedy
    assert best[1].kind == best[1].remedy == ""
    seen, remedy = cause.told(best)
    assert seen == "OSError: [Errno 24] Too many open files; also: ValueError: second; also: TimeoutError: RPC call to f timed out."
    assert remedy == best[0].remedy


def test_what_is_told_is_bounded_and_without_echoes():
    text = "".join("%sError: %s\n" % (letter, letter * 3000) for letter in "ABCD")
    text += "RuntimeError: Engine core initialization failed. See root cause above.\n"
    seen, _remedy = cause.told(cause.causes(text))
    assert len(seen) < 900 and seen.count("; also: ") == 2
    assert (
        cause.told(cause.causes("ValueError: x\nRuntimeError: Engine core initialization failed. See root cause above.\n"))[0]
        == "ValueError: x"
    )
    assert cause.told([]) == ("", "")


@pytest.mark.parametrize(("engine_s", "first"), [(5, "worker"), (2, "worker"), (0, "engine")])
def test_the_worker_is_before_the_engine_unless_it_failed_later(engine_s, first):
    """An engine may write a little before the worker whose error it tells; a worker that fails long after it is cleaning up."""
    text = raised(ENGINE, engine_s, error="ValueError: engine") + raised(WORKER, 0, 7, 3, error="ValueError: worker")
    assert cause.root_cause(text) == "ValueError: " + first


def test_logs_are_ranked_together_and_name_themselves():
    logs = [("server.log", "TimeoutError: waited\n"), ("ray-head.log", "\n\nValueError: no room\n")]
    (best, other) = cause.causes_of_logs(logs)
    assert (best.log, best.line, best.text) == ("ray-head.log", 3, "ValueError: no room") and other.log == "server.log"


def test_an_exception_without_a_text_says_where_it_was_raised():
    assert cause.root_cause(raised(WORKER, 0, 7, 1, error="AssertionError")) == "AssertionError at y.py:7: go()"


@pytest.mark.parametrize(
    "text",
    [
        "Exception ignored in: <function f>\nTraceback (most recent call last):\n  File \"a\", line 1, in f\nValueError: ignored\n",
        "Exception ignored in: <stdout>\nBrokenPipeError: [Errno 32] Broken pipe\n",
        "ERROR:    Exception in ASGI application\nTraceback (most recent call last):\n  File \"a\", line 1\nValueError: of a request\n",
        "ValueError: handled\n(APIServer pid=1) INFO:     Application startup complete.\n",
        "WARNING 11-24 10:00:00 [a.py:1] ValueError: a warning\n",
        "/x/y.py:3: UserWarning: NVIDIA driver on your system is too old\n",
        "gpu1:1:1 [0] NCCL WARN Error while creating shared memory segment /dev/shm/nccl-1\n",
        "",
    ],
)  # fmt: skip
def test_what_is_no_failure_has_no_cause(text):
    assert cause.causes(text) == []
    assert cause.root_cause(text + "RuntimeError: true\n") in (
        "RuntimeError: true",
        text.partition("Warning: ")[2].strip() or "RuntimeError: true",
    )


def test_a_warning_explains_a_failure_that_does_not_explain_itself():
    warning = "/x/y.py:3: UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 12040).\n"
    assert "too old" in cause.root_cause(warning + "RuntimeError: Failed to infer device type, please set X\n")
    assert cause.root_cause(warning + "ValueError: a wrong option\n") == "ValueError: a wrong option"


def test_a_long_message_keeps_what_it_was_known_by():
    text = "RuntimeError: %s trust_remote_code=True %s" % ("a" * 900, "b" * 900)
    said = cause.root_cause(text)
    assert len(said) <= cause.LIMIT and said.startswith("RuntimeError: aaa") and "trust_remote_code" in said


@pytest.mark.parametrize("name", ["same-gpu", "tp2.same-gpu"])
def test_two_nodes_that_are_one_machine_are_told_and_not_the_death_that_follows(name):
    """A real head whose second "node" had its GPU and its /dev/shm; "Worker proc … died" is what became of it."""
    best = cause.causes((CAPTURES / ("h200x2/vllm-0.25.0.serve.native-two-nodes.%s.head.log" % name)).read_text())
    assert best[0].text == "AssertionError at multiproc_executor.py:219: assert remote_message_queue is not None"
    assert best[0].kind == "one_machine" and "/dev/shm" in best[0].remedy and "plumbline_gpus" in best[0].remedy
    assert "died unexpectedly" in best[1].text and not any("NET/IB" in one.text for one in best), "that IB is not there is no failure"


@pytest.mark.parametrize("error", [
    "torch.AcceleratorError: CUDA error: invalid device ordinal",
    "AssertionError: DP adjusted local rank 1 is out of bounds. ",
    "AssertionError: local_world_size (2) must be less than or equal to the number of visible devices (1).",
    "ValueError: World size (2) is larger than the number of available GPUs (1) in this node. If this is intentional and you are using:",
])  # fmt: skip
def test_a_gpu_that_is_hidden_or_lost_at_the_start_is_named_as_that(error):
    best = cause.causes(raised(WORKER, 1, 7, 1, error=error) + "WARNING Worker proc VllmWorker-1 died unexpectedly")
    assert (best[0].kind, best[0].text[:20]) == ("no_gpu", error[:20]) and "plumbline_gpus" in best[0].remedy


def test_another_assertion_is_of_no_kind():
    text = raised(ENGINE, 1, error="AssertionError").replace("go()", "assert self.workers is not None")
    assert cause.causes(text)[0].kind == ""


def test_a_worker_killed_on_four_real_gpus_is_the_cause_and_not_what_it_cancelled():
    best = cause.causes((CAPTURES / "h100x4/killed.server.log").read_text())
    assert best[0].text.startswith("Worker proc VllmWorker-3 died unexpectedly") and "EngineDeadError" not in best[0].text


def test_a_worker_that_was_killed_is_told_by_rank_and_pid():
    """vLLM names it by rank alone; the lines are those of the capture h200x2 with a worker killed by hand after them."""
    text = (
        "(Worker pid=8229) INFO 11-27 11:18:08 [parallel_state.py:1942] rank 0 in world size 2 is assigned as DP rank 0, PP rank 0\n"
        "(Worker_PP0 pid=8229) INFO 11-27 11:18:09 [model_runner.py:281] Loading model from scratch...\n"
        "(Worker_PP1 pid=8230) INFO 11-27 11:18:09 [model_runner.py:281] Loading model from scratch...\n"
        "(EngineCore pid=8100) ERROR 11-27 11:20:31 [multiproc_executor.py:284] "
        "Worker proc VllmWorker-%d died unexpectedly, shutting down executor.\n"
    )
    for rank, pid in ((0, 8229), (1, 8230)):
        assert cause.causes(text % rank)[0].remedy.startswith("it was rank %d, pid %d; see that worker's last lines" % (rank, pid))
    assert cause.causes(text % 5)[0].remedy.startswith("see that worker's last lines"), "of another node"
    four = "".join(
        "(Worker_PP%d_TP%d pid=%d) INFO 11-27 11:18:09 [a.py:1] x\n" % (pp, tp, 90 + 2 * pp + tp) for pp in (0, 1) for tp in (0, 1)
    )
    assert "rank 2, pid 92;" in cause.causes(four + text.splitlines()[3] % 2)[0].remedy
