"""The InfoROM: warned of, told by its checksum, and neither."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.checks.inforom import check_inforom
from ansible.module_utils.plumbline.health.remedy import classify
from ansible.module_utils.plumbline.machine import nvidia
from health_nodes import ADDRESSES, CAPTURES

HEADER = "pci.bus_id, inforom.checksum_validation\n"
WARNING = "WARNING: infoROM is corrupted at gpu 0008:00:00.0\n"


def rows(*words):
    """Return the answer of a driver about eight GPUs: these words, and ``valid`` for the rest."""
    told = list(words) + ["valid"] * (8 - len(words))
    return HEADER + "".join("0000%s, %s\n" % pair for pair in zip(ADDRESSES, told, strict=True))


@pytest.fixture
def judge(tmp_path):
    def run(answer, code=0, messages=()):
        (tmp_path / "answer").write_text(answer)
        tool = tmp_path / "nvidia-smi"
        tool.write_text(
            '#!/bin/sh\n[ "$*" = "--query-gpu=pci.bus_id,inforom.checksum_validation --format=csv" ] || exit 9\n'
            "cat %s/answer\nexit %d\n" % (tmp_path, code)
        )
        tool.chmod(0o755)
        smi = {"gpus": [{"bus_id": address} for address in ADDRESSES], "messages": list(messages)}
        return check_inforom({"smi": smi, "inforom": nvidia.inforom_checksums(str(tool))})

    return run


def test_every_checksum_is_valid(judge):
    found = judge(rows())
    assert (found["status"], found["seen"]) == ("healthy", "valid on 8 GPUs")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('Field "inforom.checksum_validation" is not a valid field to query.\n', 2),  # an older driver
        (rows(*["[N/A]"] * 8), 0),
        (rows(*["N/A"] * 8), 0),
    ],
)
def test_a_driver_that_tells_no_checksum_leaves_its_warnings(judge, answer, code):
    found = judge(answer, code)
    assert found["status"] == "healthy" and found["seen"] == "no warning; the driver tells no checksums"
    assert judge(answer, code, [WARNING.strip()])["status"] == "failed"


@pytest.mark.parametrize(("answer", "code"), [(rows("valid", "invalid"), 0), (rows("valid", "invalid") + WARNING, 14)])
def test_an_invalid_checksum_takes_another_node(judge, answer, code):
    found = judge(answer, code)
    assert found["status"] == "failed" and ADDRESSES[1] in found["seen"] and ADDRESSES[0] not in found["seen"]
    assert classify(found) == ("replace", "NHC2008")


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (rows("valid", "[Unknown Error]"), 0, "unknown error of 0002:00:00.0"),
        (rows("valid", "checking"), 0, "checking of 0002:00:00.0"),
        (rows("[N/A]"), 0, "valid on 7 GPUs, not told of 0001:00:00.0"),
        ("No devices were found\n", 6, "ended with 6: No devices were found"),
        ("", 0, "printed nothing"),
        (HEADER + "0001:00:00.0\n", 0, "1 columns, expected 2"),
    ],
)
def test_what_cannot_be_read_is_no_pass(judge, answer, code, words):
    found = judge(answer, code)
    assert found["status"] == "incomplete" and words in found["seen"] and found["remedy"]


def test_a_plain_call_that_hangs_is_no_pass(judge):
    found = judge(rows(), messages=["/usr/bin/nvidia-smi did not answer within 60 s"])
    assert found["status"] == "incomplete" and "did not answer" in found["seen"]


def test_real_gpus_with_a_sound_inforom_are_healthy():
    smi = nvidia.parse_xml((CAPTURES / "h200/nvidia-smi.q.xml").read_text())
    assert check_inforom({"smi": smi})["status"] == "healthy"
