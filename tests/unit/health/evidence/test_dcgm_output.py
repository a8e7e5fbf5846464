"""Both generations' answers are read into one shape; half an answer is none."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.evidence import dcgm_output, dcgm_run
from dcgm_texts import BUS_IDS, PERSISTENCE, change, discovery, text, v3, v4


@pytest.mark.parametrize("make, version, driver", [(v3, "3.3.9", "550.90.07"), (v4, "4.6.0", "570.148.08")])
def test_version_driver_and_results(make, version, driver):
    answer = dcgm_output.parse(text(make(2)))
    assert (answer["version"], answer["driver"], answer["generation"]) == (version, driver, int(version[0]))
    assert [(item["gpu"], item["status"]) for item in answer["tests"]["memory"]["results"]] == [(0, "Pass"), (1, "Pass")]


@pytest.mark.parametrize("make, name", [(v3, "Persistence Mode"), (v4, "software")])
def test_the_words_of_an_error_are_read_by_either_key(make, name):
    answer = dcgm_output.parse(text(change(make(1), name, "Fail", [PERSISTENCE])))
    error = answer["tests"][dcgm_output.name_of(name)]["results"][0]["errors"][0]
    assert error["code"] == 29 and "disabled" in error["text"] and answer["errors_count"] in (1, 2)


@pytest.mark.parametrize("make", [v3, v4])
def test_an_answer_that_was_cut_anywhere_is_no_answer(make):
    whole = text(make(1))
    for length in range(0, len(whole.rstrip()), 7):
        with pytest.raises(dcgm_output.UnreadableOutput):
            dcgm_output.parse(whole[:length])
    assert dcgm_output.parse("Warning: something first\n" + whole)["tests"]


@pytest.mark.parametrize(
    "printed", ["", "Error: Unable to start an embedded host engine. NVML error.", "{}", '{"body": {}}', "[1]", "{" * 9999]
)
def test_what_is_no_answer_says_what_it_is(printed):
    with pytest.raises(dcgm_output.UnreadableOutput) as raised:
        dcgm_output.parse(printed)
    assert str(raised.value)


def test_discovery_lists_gpus_and_nothing_else():
    gpus = dcgm_run.parse_discovery(discovery(BUS_IDS, first=4))
    assert [(gpu["id"], gpu["bus_id"]) for gpu in gpus] == [(4, "0001:00:00.0"), (5, "0002:00:00.0")]
    assert dcgm_run.parse_discovery("0 GPUs found.\n") == []
