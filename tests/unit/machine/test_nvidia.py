"""What nvidia-smi prints, on the real output of an H200, and what is no answer."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.machine import nvidia
from project import H200

XML = (H200 / "nvidia-smi.q.xml").read_text()
BUS = "0000:00:06.0"


def test_capture_is_read():
    read = nvidia.parse_xml(XML)
    gpu = read["gpus"][0]
    assert (read["driver"], read["cuda"], read["attached"]) == ("580.159.04", "13.0", 1)
    assert gpu["bus_id"] == BUS
    assert gpu["product"] == "NVIDIA H200"
    assert (gpu["sm_mhz"], gpu["sm_max_mhz"], gpu["memory_mhz"]) == (345, 1980, 3201)
    assert gpu["recovery_action"] == "None"
    assert (gpu["remap_pending"], gpu["remap_failure"]) == (False, False)
    assert (gpu["ecc_mode"], gpu["ecc_volatile_uncorrected"], gpu["ecc_aggregate_uncorrected"]) == ("Enabled", 0, 0)
    assert gpu["throttle"]["gpu_idle"] is True and gpu["throttle"]["hw_slowdown"] is False
    assert gpu["throttle_us"]["hw_therm_slowdown"] == 0
    assert gpu["power_w"] == 81.89


@pytest.mark.parametrize("text", ["", "No devices were found\n", "<html></html>", XML[:5000]])
def test_what_is_no_answer_is_refused(text):
    with pytest.raises(nvidia.NvidiaError, match="nvidia-smi -q -x printed"):
        nvidia.parse_xml(text)


def test_csv():
    rows = nvidia.parse_csv((H200 / "nvidia-smi.query.csv").read_text())
    assert rows[0]["clocks.current.sm"] == "345 MHz"
    assert nvidia.number(rows[0]["power.draw"]) == 87.76
    assert nvidia.value_or_none(rows[0]["retired_pages.pending"]) is None
    remapped = nvidia.parse_csv((H200 / "nvidia-smi.remapped.csv").read_text())
    assert nvidia.yes(remapped[0]["remapped_rows.pending"]) is False
    with pytest.raises(nvidia.NvidiaError, match="columns"):
        nvidia.parse_csv("index, name\n0, NVIDIA H200\nUnable to determine the device handle for GPU 0001:00:00.0\n")
    with pytest.raises(nvidia.NvidiaError, match="nothing"):
        nvidia.parse_csv("\n")


def test_pci_bus(tmp_path):
    for address, vendor, kind in (
        ("0001:00:00.0", "0x10de", "0x030200"),
        ("0002:00:00.0", "0x10de", "0x068000"),  # an NVSwitch is no GPU
        ("0003:00:00.0", "0x15b3", "0x020700"),  # a ConnectX port
    ):
        place = tmp_path / "sys/bus/pci/devices" / address
        place.mkdir(parents=True)
        (place / "vendor").write_text(vendor + "\n")
        (place / "class").write_text(kind + "\n")
    assert nvidia.pci_gpus(str(tmp_path)) == ["0001:00:00.0"]


def test_tool_that_hangs_or_fails(tmp_path):
    hanging = tmp_path / "mock-nvidia-smi-hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 30\n")
    failing = tmp_path / "mock-nvidia-smi-failing"
    failing.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    for path in (hanging, failing):
        path.chmod(0o755)
    with pytest.raises(nvidia.NvidiaError, match="did not answer within 0.3 s"):
        nvidia.query_xml(str(hanging), timeout_s=0.3)
    with pytest.raises(nvidia.NvidiaError, match="ended with 18: Failed to initialize NVML"):
        nvidia.query_xml(str(failing))
    with pytest.raises(nvidia.NvidiaError, match="not installed"):
        nvidia.query_xml(None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1980 MHz", 1980), ("16x", 16), ("x8", 8), ("81.26 W", 81.26), ("1,980 MHz", None), ("12.5.3", None), ("[GPU requires reset]", None)],
)
def test_a_number_is_whole_or_none(text, expected):
    assert nvidia.number(text) == expected


def test_messages_are_read_beside_the_document_and_in_place_of_values():
    read = nvidia.parse_xml("GPU 0 is fine\n" + XML + "WARNING: infoROM is corrupted at gpu 0000:00:06.0\n")
    assert read["messages"] == ["GPU 0 is fine", "WARNING: infoROM is corrupted at gpu 0000:00:06.0"]
    assert nvidia.parse_xml(XML)["messages"] == [] and nvidia.parse_xml(XML)["gpus"][0]["unreadable"] == {}
    lost = nvidia.parse_xml(XML.replace("<gpu_temp>34 C<", "<gpu_temp>[GPU is lost]<"))["gpus"][0]
    assert lost["temperature_c"] is None and lost["unreadable"] == {"GPU is lost": ["gpu_temp"]}


def test_a_document_that_is_cut_is_refused_wherever_it_ends():
    for end in range(0, len(XML) - 1, 997):
        with pytest.raises(nvidia.NvidiaError):
            nvidia.parse_xml(XML[:end])


@pytest.mark.parametrize("address", ["", "Unknown Error", "00:06.0", "0000:zz:00.0", None])
def test_what_is_no_address_is_an_error(address):
    with pytest.raises(nvidia.NvidiaError, match="address"):
        nvidia.normal_bus_id(address)


def test_plain_call_tells_of_the_inforom_and_is_asked_for_nothing_else(tmp_path):
    tool = tmp_path / "mock-nvidia-smi"
    (tmp_path / "xml").write_text(XML)
    shell = '#!/bin/sh\n[ "$*" = "-q -x" ] && exec cat %s/xml\n%s\n'
    tool.write_text(shell % (tmp_path, "echo table; exit 14"))
    tool.chmod(0o755)
    assert nvidia.query_xml(str(tool))["messages"] == ["nvidia-smi ended with 14: infoROM is corrupted"]
    assert nvidia.query_xml(str(tool), plain=False)["messages"] == []
    tool.write_text(shell % (tmp_path, "exit 2"))
    assert nvidia.query_xml(str(tool))["messages"] == []


def test_csv_needs_its_columns():
    with pytest.raises(nvidia.NvidiaError, match="no CSV header with index"):
        nvidia.parse_csv("No devices were found\n", ("index",))
    warned = "WARNING: infoROM is corrupted at gpu 0000:00:06.0\nindex, name\n0, NVIDIA H200\n"
    assert nvidia.parse_csv(warned, ("index",)) == [{"index": "0", "name": "NVIDIA H200"}]
