"""The module: when it runs, on which GPUs, and what it says of a dcgmi that does not answer. dcgmi is a stand-in (``dcgm_texts.MOCK``)."""

from __future__ import annotations

import json
import time

import dcgm_diag
import pytest
from ansible.module_utils.plumbline.health import dcgm_diag as measuring
from ansible.module_utils.plumbline.health.evidence import dcgm_run
from dcgm_texts import BUS_IDS, COPY_UTIL, change, discovery, install, runtime_error, text, v3, v4
from jsonschema import Draft202012Validator
from module_run import run_module
from project import SCHEMAS

VALIDATORS = [Draft202012Validator(json.loads((SCHEMAS / ("%s.schema.json" % name)).read_text())) for name in ("fact", "health")]
FIRST_UUID = "GPU-00000000-0000-0000-0000-000000000000"


@pytest.fixture(autouse=True)
def nobody_serves(monkeypatch):
    monkeypatch.setattr(dcgm_diag, "who_serves", lambda: None)


def run(capsys, tmp_path, answer, level=2, check_mode=False, given=None, **mock):
    """Return the fact with a stand-in that prints ``answer``, checked against its schema."""
    dcgmi, smi = install(tmp_path, answer, **mock)
    arguments = dict({"level": level, "tool": dcgmi, "nvidia_smi": smi}, **(given or {}))
    result = run_module(dcgm_diag, capsys, _ansible_check_mode=check_mode, **arguments)
    fact = result["fact"]
    for validator in VALIDATORS:
        validator.validate(fact)
    assert result["changed"] is False and fact["name"] == "dcgm_diag"
    return fact


def calls(tmp_path):
    path = tmp_path / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("make", [v3, v4])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_good_node_is_healthy(capsys, tmp_path, make, level):
    fact = run(capsys, tmp_path, text(make(level)), level)
    assert fact["status"] == "healthy" and fact["measured"]["gpus_count"] == 2
    assert fact["context"]["host_engine"] == "running" and fact["command"].endswith("diag -r %d -j -v" % level)
    assert fact["measured"]["tests"]["memory" if level > 1 else "software" if make is v4 else "inforom"]


def test_the_tests_of_the_chosen_gpus_alone_are_asked_for_and_owed(capsys, tmp_path):
    table = discovery([BUS_IDS[1], BUS_IDS[0]], first=4)  # DCGM's numbers are its own
    fact = run(capsys, tmp_path, text(v4(2, gpus=(5,))), discovered=table, given={"gpus": [FIRST_UUID]})
    assert fact["status"] == "healthy" and fact["command"].endswith("-i 5") and fact["measured"]["gpus_count"] == 1
    assert fact["context"]["gpus"] == [{"id": 5, "bus_id": "0001:00:00.0", "uuid": FIRST_UUID}]


def test_a_gpu_that_the_host_engine_does_not_know_is_named(capsys, tmp_path):
    fact = run(capsys, tmp_path, text(v4(2)), discovered=discovery(["00000009:00:00.0", BUS_IDS[0]]))
    assert fact["status"] == "incomplete" and "0002:00:00.0" in fact["reasons"][0]["seen"]
    assert not any(call.startswith("diag") for call in calls(tmp_path))


NO_ENGINE = (
    "Error: unable to establish a connection to the specified host: localhost\n"
    "Error: Unable to connect to host engine. Host engine connection invalid/disconnected.\n"
)


def test_without_a_host_engine_dcgmi_has_its_own_but_not_for_chosen_gpus(capsys, tmp_path):
    fact = run(capsys, tmp_path, text(v4(2)), discovered=NO_ENGINE)
    assert fact["status"] == "healthy" and fact["context"]["host_engine"] == "embedded"
    (tmp_path / "calls").unlink()
    fact = run(capsys, tmp_path, text(v4(2)), discovered=NO_ENGINE, given={"gpus": [0]})
    assert fact["status"] == "incomplete" and "nvidia-dcgm" in fact["reasons"][0]["remedy"]
    assert not any(call.startswith("diag") for call in calls(tmp_path))


def test_versions_that_do_not_fit_are_said_before_anything_runs(capsys, tmp_path):
    words = "Error: Cannot get GPU list from remote node. Return: API version mismatch\n"
    fact = run(capsys, tmp_path, text(v4(2)), discovered=words)
    assert fact["status"] == "incomplete" and "dcgmi -v" in fact["reasons"][0]["remedy"]


def test_not_installed_is_skipped_unless_asked_for(capsys, tmp_path, monkeypatch):
    _dcgmi, smi = install(tmp_path, "")
    monkeypatch.setattr(dcgm_run, "find", lambda path=None: None)
    for given, status in (({}, "skipped"), ({"required": True}, "incomplete"), ({"tool": "/opt/not/here/dcgmi"}, "incomplete")):
        fact = run_module(dcgm_diag, capsys, level=2, nvidia_smi=smi, **given)["fact"]
        assert fact["status"] == status and "dcgmi is not" in fact["reasons"][0]["seen"]


def test_it_loads_no_gpu_that_somebody_uses(capsys, tmp_path):
    apps = "4711, 70000 MiB, VLLM::Worker_TP0, %s\n" % FIRST_UUID
    fact = run(capsys, tmp_path, text(v4(2)), apps=apps)
    assert fact["status"] == "incomplete" and "4711" in fact["reasons"][0]["seen"]
    assert not any(call.startswith("diag") for call in calls(tmp_path))
    assert run(capsys, tmp_path, text(v4(1)), level=1, apps=apps)["status"] == "healthy"


def test_it_does_not_run_between_two_layouts_of_another_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(dcgm_diag, "who_serves", lambda: "run x of a@b")
    fact = run(capsys, tmp_path, text(v4(2)))
    assert fact["status"] == "incomplete" and "run x of a@b serves" in fact["reasons"][0]["seen"]


def test_in_check_mode_it_says_what_would_run(capsys, tmp_path):
    fact = run(capsys, tmp_path, text(v4(3)), level=3, check_mode=True)
    assert fact["reasons"][0]["check"] == "check_mode" and "-r 3" in fact["reasons"][0]["seen"]
    assert not any(call.startswith("diag") for call in calls(tmp_path))


def test_a_failed_test_fails_the_node_and_another_run_of_it_is_not_made(capsys, tmp_path):
    fact = run(capsys, tmp_path, text(change(v4(2), "pcie", "Fail", [(30, 4, "Bandwidth of GPU 1 is low")], which=[1])), exit_code=226)
    assert fact["status"] == "failed" and fact["context"]["exit_code"] == 226
    assert sum(call.startswith("diag") for call in calls(tmp_path)) == 1


def issue_272():
    return text(change(change(v4(3, version="4.5.0"), "nvbandwidth", "Fail"), "nvbandwidth", errors=[COPY_UTIL], which=[1]))


def alone(document):
    """Return the answer of nvbandwidth alone."""
    root = document["DCGM Diagnostic"]
    root["test_categories"] = [
        dict(item, tests=[test for test in item["tests"] if test["name"] == "nvbandwidth"]) for item in root["test_categories"]
    ]
    return text(document)


def test_issue_272_is_run_again_alone_and_that_counts(capsys, tmp_path):
    fact = run(capsys, tmp_path, issue_272(), level=3, exit_code=205, again=alone(v4(3, version="4.5.0")))
    assert fact["status"] == "healthy" and fact["context"]["run_again"] == ["nvbandwidth"]
    assert any("issue 272" in item["seen"] and "4.5.0" in item["seen"] for item in fact["reasons"])
    low = (30, 4, "Bandwidth of GPU 1 did not exceed minimum required bandwidth")
    fact = run(capsys, tmp_path, issue_272(), level=3, exit_code=205, again=alone(change(v4(3), "nvbandwidth", "Fail", [low], which=[1])))
    assert fact["status"] == "failed"
    fact = run(capsys, tmp_path, issue_272(), level=3, exit_code=205, again="nothing")
    assert fact["status"] == "incomplete" and any("issue 272" in item["seen"] for item in fact["reasons"])


def test_another_failure_beside_issue_272_stays(capsys, tmp_path):
    document = json.loads(issue_272())
    change(document, "targeted_power", "Fail", [(63, 4, "Max power of 200 did not reach desired power minimum")], which=[0])
    fact = run(capsys, tmp_path, text(document), level=3, exit_code=205, again=alone(v4(3)))
    assert fact["status"] == "failed" and [item["check"] for item in fact["reasons"] if item["status"] == "failed"] == [
        "dcgm.targeted_power"
    ]


@pytest.mark.parametrize(
    "answer, mock, words, remedy",
    [
        ("", {"exit_code": 255}, "nothing was printed", "nvvs.log"),
        (text(v4(2))[:900], {}, "does not come to its end", "nvvs.log"),
        (text(v4(2))[:900], {"diag": "kill -9 $$"}, "signal 9", "kernel log"),
        ("Error: Unable to start an embedded host engine. NVML doesn't exist on this system.\n", {"exit_code": 200}, "no JSON", "driver"),
        (runtime_error("Error: Return: (-39) : A diag instance is already running"), {"exit_code": 217}, "already running", "wait"),
        (runtime_error("Error: Unable to complete diagnostic. ", "3.3.9"), {"exit_code": 203}, "Unable", "ended it"),
    ],
)
def test_an_answer_that_is_none_is_incomplete_with_a_remedy(capsys, tmp_path, answer, mock, words, remedy):
    fact = run(capsys, tmp_path, answer, **mock)
    assert fact["status"] == "incomplete" and words in fact["reasons"][0]["seen"] and remedy in fact["reasons"][0]["remedy"]


def test_one_that_hangs_is_told_to_end_and_not_just_killed(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(dcgm_run, "STOP_S", 5)
    began = time.monotonic()
    hangs = "trap 'echo stopped >> %s/calls; exit 203' TERM; sleep 60 & wait" % tmp_path
    fact = run(capsys, tmp_path, "", diag=hangs, given={"timeout_s": 1})
    assert fact["status"] == "incomplete" and "after 1 s" in fact["reasons"][0]["seen"] and time.monotonic() - began < 15
    assert "stopped" in calls(tmp_path)  # dcgmi stops the diagnostic of the host engine only so


def test_each_level_has_a_limit(capsys, tmp_path, monkeypatch):
    limits = []

    def diagnose(argv, timeout_s, stop_s=0):
        limits.append(timeout_s)
        return {"stdout": text(v4(4)), "stderr": "", "exit_code": 0, "timed_out": False, "error": None, "duration_s": 1.0}

    monkeypatch.setattr(dcgm_run, "diagnose", diagnose)
    for level in (1, 2, 3, 4):
        run(capsys, tmp_path, "", level=level)
    assert limits == [measuring.TIMEOUTS_S[level] for level in (1, 2, 3, 4)] == sorted(limits)


def test_wrong_arguments(capsys, tmp_path):
    assert run_module(dcgm_diag, capsys, level=5)["failed"]
    assert "timeout_s is -1" in run_module(dcgm_diag, capsys, level=1, timeout_s=-1)["msg"]
    fact = run(capsys, tmp_path, text(v4(2)), given={"gpus": [7]})
    assert fact["status"] == "failed" and fact["reasons"][0]["check"] == "dcgm.gpus"


NOT_HERE = (
    "Error: Unable to complete diagnostic. Return: (-30) : DCGM GPU Diagnostic returned an error GPU 0's MIG configuration is incompatible "
    "with the diagnostic because it prevents access to the entire GPU.",
    "Error: Diagnostic can only be performed on a homogeneous group of GPUs.",
    "Error: Diagnostic could not be run because the Tesla recommended driver is not being used.",
)
CODES = (226, 233, 250)  # 256 less DCGM_ST_NVVS_ERROR, _GROUP_INCOMPATIBLE, _NOT_SUPPORTED


@pytest.mark.parametrize("words, exit_code", list(zip(NOT_HERE, CODES)))
def test_what_dcgm_does_not_do_on_this_machine_is_no_fault_of_it(capsys, tmp_path, words, exit_code):
    fact = run(capsys, tmp_path, runtime_error(words), level=1, exit_code=exit_code)
    assert fact["status"] == "skipped" and words[:40] in fact["reasons"][0]["seen"]
    fact = run(capsys, tmp_path, runtime_error(words), level=1, exit_code=exit_code, given={"required": True})
    assert fact["status"] == "incomplete" and "node_health_dcgm: never" in fact["reasons"][0]["remedy"]


def test_half_an_answer_is_incomplete_whatever_its_words_are(capsys, tmp_path):
    document = change(v4(2), "software", info=["MIG is off", "This GPU is not supported by DCGM"])
    assert run(capsys, tmp_path, text(document)[:1500], exit_code=226)["status"] == "incomplete"
