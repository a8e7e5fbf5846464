"""Every test that a level of DCGM's diagnostic owes is accounted for, of both generations; its known false verdicts are none of ours."""

from __future__ import annotations

import copy

import pytest
from ansible.module_utils.plumbline.core.fact import worst
from ansible.module_utils.plumbline.health.checks import dcgm, dcgm_owed
from ansible.module_utils.plumbline.health.evidence import dcgm_output
from dcgm_texts import ALLOCATION, COPY_UTIL, MISMATCH, PERSISTENCE, change, runtime_error, text, v3, v4
from dcgm_texts import test_of as entry_of

GPUS = [0, 1]


def judged(document, level=3, exit_code=0, gpus=GPUS):
    """Return ``{check: [reasons]}`` of a document."""
    printed = document if isinstance(document, str) else text(document)
    found = {}
    for item in dcgm.judge(dcgm_output.parse(printed), level, gpus, exit_code):
        found.setdefault(item["check"], []).append(item)
    return found


def status(found, check=None):
    """Return the worst status of a check, or of all."""
    return worst(item["status"] for name, items in found.items() for item in items if check in (None, name))


def seen(found, check):
    return "; ".join(item["seen"] for item in found[check])


@pytest.mark.parametrize("make", [v3, v4])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_good_node_passes_at_every_level(make, level):
    found = judged(make(level), level)
    assert status(found) == "healthy" and {item["status"] for items in found.values() for item in items} == {"healthy"}


@pytest.mark.parametrize("make", [v3, v4])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_each_owed_test_is_missed_by_name(make, level):
    of_node, of_each = dcgm_owed.owed(3 if make is v3 else 4, level)
    whole = dcgm_output.parse(text(make(level)))
    assert set(whole["tests"]) == set(of_node + of_each)
    for name in of_node + of_each:
        answer = dict(whole, tests={other: test for other, test in whole["tests"].items() if other != name})
        found = {item["check"]: item for item in dcgm.judge(answer, level, GPUS)}
        assert found["dcgm." + name]["status"] == "incomplete" and found["dcgm." + name]["remedy"]


@pytest.mark.parametrize("make, name", [(v3, "GPU Memory"), (v4, "memory")])
def test_a_gpu_without_a_result_is_named(make, name):
    document = make(2)
    entry_of(document, name)["results"].pop()
    found = judged(document, 2)
    assert status(found, "dcgm.memory") == "incomplete" and "GPU 1" in seen(found, "dcgm.memory")


def test_a_lower_level_than_asked_for_does_not_pass():
    assert status(judged(v4(1), 3)) == "incomplete" and status(judged(v3(2), 3)) == "incomplete"


@pytest.mark.parametrize("make, name", [(v3, "GPU Memory"), (v4, "memory")])
def test_bad_memory_fails_and_names_the_gpu(make, name):
    found = judged(change(make(2), name, "Fail", [MISMATCH], which=[1]), 2, exit_code=205)
    bad = [item for item in found["dcgm.memory"] if item["status"] == "failed"]
    assert len(bad) == 1 and bad[0]["seen"].startswith("GPU 1: ") and "mismatch" in bad[0]["seen"] and bad[0]["remedy"]


@pytest.mark.parametrize("make, name", [(v3, "GPU Memory"), (v4, "memory")])
def test_issue_284_an_allocation_error_that_passes_is_no_pass(make, name):
    found = judged(change(make(2), name, errors=[ALLOCATION], which=[1]), 2)
    assert status(found, "dcgm.memory") == "incomplete" and "issue 284" in seen(found, "dcgm.memory")
    assert status(judged(change(v4(2), "memory", "Fail", [ALLOCATION], which=[1]), 2), "dcgm.memory") == "failed"  # as 4.6.0 has it


@pytest.mark.parametrize("words", ["utilization", "utilitization"])
def test_issue_272_nvbandwidth_that_did_not_measure_is_no_failure(words):
    error = COPY_UTIL[:2] + (COPY_UTIL[2].replace("utilization", words),)
    document = change(v4(3, version="4.5.0"), "nvbandwidth", "Fail")
    change(document, "nvbandwidth", errors=[error], which=[1])
    answer = dcgm_output.parse(text(document))
    assert dcgm.false_alarm(answer)
    found = judged(document, 3, exit_code=205)
    assert status(found) == "incomplete" and status(found, "dcgm.nvbandwidth") == "incomplete"
    assert "4.5.0" in seen(found, "dcgm.nvbandwidth") and "issue 272" in seen(found, "dcgm.nvbandwidth")
    again = dcgm_output.parse(text(v4(3)))
    assert worst(item["status"] for item in dcgm.judge(dcgm.put_in(answer, again), 3, GPUS)) == "healthy"


def test_a_bandwidth_that_is_too_low_is_a_failure_also_beside_the_words_of_272():
    low = (30, 4, "Bandwidth of GPU 1 in direction h2d of 3.10 did not exceed minimum required bandwidth of 20.00")
    assert not dcgm.false_alarm(dcgm_output.parse(text(change(v4(3), "nvbandwidth", "Fail", [low]))))
    both = change(v4(3), "nvbandwidth", "Fail", [COPY_UTIL, low], which=[1])
    assert dcgm.false_alarm(dcgm_output.parse(text(both)))  # worth another run, and until then a failure
    assert status(judged(both), "dcgm.nvbandwidth") == "failed"


def test_issue_215_what_was_dropped_is_no_evidence_and_no_accusation():
    document = change(v4(3, version="4.1.1"), "memory", info=["Allocated 83618558100 bytes (98.4%)"] * 8)
    found = judged(document)
    assert status(found) == "healthy" and found["dcgm.messages"][0]["status"] == "skipped" and "215" in seen(found, "dcgm.messages")
    silent = judged(change(copy.deepcopy(document), "targeted_power", "Skip"))
    assert status(silent, "dcgm.targeted_power") == "incomplete" and "215" in seen(silent, "dcgm.targeted_power")
    newer = copy.deepcopy(document)
    newer["metadata"]["version"] = "4.2.3"
    assert "dcgm.messages" not in judged(newer)


def test_a_list_of_errors_that_is_full_may_hide_one():
    document = change(v4(2), "pcie", "Fail", [(30, 4, "Bandwidth of GPU 0 is low %d" % number) for number in range(32)], which=[0])
    assert status(judged(document, 2), "dcgm.errors") == "incomplete"


def test_a_pass_with_any_other_error_is_no_pass():
    assert status(judged(change(v4(2), "pcie", errors=[(98, 2, "Detected 3 PCIe replays")], which=[0]), 2), "dcgm.pcie") == "incomplete"
    assert status(judged(change(v3(2), "PCIe", errors=[(98, 2, "Detected 3 PCIe replays")], which=[0]), 2), "dcgm.pcie") == "incomplete"


def test_a_skip_counts_by_its_reason():
    def of(name, *info, **keys):
        return status(judged(change(v4(3), name, "Skip", info=info, **keys)), "dcgm." + name)

    assert of("pcie", "The pcie test is skipped.") == "skipped"
    assert of("memory", "ECC Memory is not turned on or is unsupported. Skipping test.") == "skipped"
    assert of("memory", "Only 900 mb of memory is free, but we need to allocate 60000 mb to pass this test. Skipping") == "incomplete"
    assert of("memory") == "incomplete"
    assert of("pcie", errors=[(47, 5, "Test was aborted early due to user signal")]) == "incomplete"
    # DCGM 4 tells what is of no GPU in the summary.
    document = change(v4(2), "pcie", "Skip")
    entry_of(document, "pcie")["test_summary"]["info"] = ["The pcie test is skipped."]
    assert status(judged(document, 2), "dcgm.pcie") == "skipped"
    older = judged(change(v3(2), "PCIe", "Skip"), 2)
    assert status(older, "dcgm.pcie") == "incomplete" and "issue 55" in seen(older, "dcgm.pcie")


@pytest.mark.parametrize("make, name", [(v3, "EUD Test"), (v4, "eud"), (v4, "nccl_tests")])
def test_what_needs_a_package_of_its_own_is_not_owed_but_counts(make, name):
    document = make(3)
    hardware = next(iter(document.values()))["test_categories"][-1]["tests"]
    hardware.append(dict(copy.deepcopy(hardware[0]), name=name))
    check = "dcgm." + dcgm_output.name_of(name)
    assert status(judged(change(document, name, "Skip")), check) == "skipped" and status(judged(document)) in ("healthy", "skipped")
    assert status(judged(change(document, name, "Fail", [(95, 4, "EUD test failed")])), check) == "failed"
    assert status(judged(change(document, name, "Fail", [(90, 5, "EUD is not running as root")])), check) == "incomplete"


@pytest.mark.parametrize("make, name", [(v3, "Persistence Mode"), (v4, "software")])
def test_persistence_mode_alone_is_a_setting(make, name):
    found = judged(change(make(1), name, "Fail", [PERSISTENCE]), 1, exit_code=226)
    assert status(found) == "degraded" and "disabled" in "".join(item["seen"] for items in found.values() for item in items)
    other = change(make(1), name, "Fail", [PERSISTENCE, (80, 2, "Row remapping failed on GPU 0")])
    assert status(judged(other, 1)) == "failed"


def test_a_deployment_check_of_dcgm_3_that_names_a_gpu_is_still_of_the_node():
    document = change(
        v3(1), "Page Retirement/Row Remap", "Fail", [(85, 6, "GPU 7 had uncorrectable memory errors and row remapping is pending")]
    )
    entry_of(document, "Page Retirement/Row Remap")["results"][0]["gpu_id"] = 7
    found = judged(document, 1)
    assert [item["status"] for item in found["dcgm.page_retirement_row_remap"]] == ["failed"]


def test_gpus_that_fail_with_another_have_its_words():
    document = change(v4(2), "pcie", "Fail")
    change(document, "pcie", errors=[(67, 1, "DCGM API failed")], which=[0])
    assert status(judged(document, 2), "dcgm.pcie") == "incomplete"


def test_results_of_processors_and_of_gpus_not_asked_for_count_for_nobody():
    document = change(v4(2, gpus=(0, 1, 2)), "memory", "Fail", [MISMATCH], which=[2])
    entry_of(document, "pcie")["results"].append({"entity_group": "CPU", "entity_group_id": 7, "entity_id": 0, "status": "Skip"})
    assert status(judged(document, 2, gpus=[0, 1])) == "healthy"
    assert status(judged(document, 2, gpus=[1, 2])) == "failed"


def test_a_summary_and_an_exit_code_may_not_contradict_the_results():
    document = v4(2)
    entry_of(document, "memory")["test_summary"]["status"] = "Fail"
    assert status(judged(document, 2), "dcgm.memory") == "incomplete"
    assert status(judged(v4(2), 2, exit_code=226)) == "incomplete"


@pytest.mark.parametrize("word", ["", "Not Run", "NaN", "Passed?"])
def test_a_word_that_is_no_verdict_is_incomplete(word):
    document = v4(2)
    entry_of(document, "memory")["results"][1]["status"] = word
    assert status(judged(document, 2), "dcgm.memory") == "incomplete"


RUNTIME = {
    "Error: Unable to complete diagnostic for group 2147483647. Return: (-39) : A diag instance is already running, cannot run a new diag "
    "until the current one finishes": ("incomplete", "another diagnostic"),
    "Error: Unable to complete diagnostic. Return: (-12) : API version mismatch": ("incomplete", "dcgmi -v"),
    "Error: Unable to complete diagnostic. Return: (-53) : The DCGM diagnostic was killed by a signal": ("incomplete", "ended it"),
    "Error: Unable to complete diagnostic. Return: (-52) : The NVVS binary was not found in the specified location": (
        "incomplete",
        "install",
    ),
    "Error: Unable to complete diagnostic. Return: (-18) : GPU is lost": ("failed", "reset"),
    "Error: Diagnostic could not be run while DCGM is paused.": ("incomplete", "restart"),
    "Error: Unable to complete diagnostic. Return: (-3) : Generic unspecified error": ("incomplete", "nvvs.log"),
}


@pytest.mark.parametrize("words", RUNTIME)
@pytest.mark.parametrize("version", ["3.3.9", "4.5.3"])
def test_a_run_without_results_says_why_and_what_to_do(words, version):
    found = judged(runtime_error(words, version), 3)
    expected, remedy = RUNTIME[words]
    assert status(found) == expected and remedy in found["dcgm"][0]["remedy"] and version in found["dcgm"][0]["seen"]
