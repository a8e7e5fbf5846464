"""The module: a whole node in one call, with stand-ins for nvidia-smi and NHC, and this machine as it is."""

from __future__ import annotations

import json

import node_health
import pytest
from ansible.module_utils.plumbline.health.evidence import kernel_events, kernel_log, nhc_log
from ansible.module_utils.plumbline.machine import nvidia
from health_nodes import ADDRESSES, COMPOSED, H100, SKUS, smi_xml, sysfs, write
from jsonschema import Draft202012Validator
from module_run import run_module
from project import SCHEMAS

FACT = json.loads((SCHEMAS / "fact.schema.json").read_text())
SCHEMA = json.loads((SCHEMAS / "health.schema.json").read_text())


def test_module_measures_this_machine(capsys, tmp_path):
    result = run_module(node_health, capsys, sku="generic", skus=SKUS, paths=[str(tmp_path)])
    fact = result["fact"]
    Draft202012Validator(FACT).validate(fact)
    Draft202012Validator(SCHEMA).validate(fact)
    assert result["changed"] is False
    assert fact["measured"]["memory_total_bytes"] > 0
    assert fact["measured"]["disk_write_ms"][str(tmp_path)] > 0
    assert list(tmp_path.iterdir()) == []
    # Nobody compared the clocks here, so it cannot pass.
    assert fact["status"] in ("incomplete", "failed")
    assert next(item for item in fact["reasons"] if item["check"] == "clock.skew")["status"] == "incomplete"


def test_module_writes_nothing_in_check_mode(capsys, tmp_path, monkeypatch):
    def refuse(*_arguments, **_keywords):
        raise AssertionError("a probe was written in check mode")

    monkeypatch.setattr("ansible.module_utils.plumbline.health.evidence.disk.write_probe", refuse)
    result = run_module(node_health, capsys, _ansible_check_mode=True, sku="generic", skus=SKUS, paths=[str(tmp_path)])
    assert any(item["check"] == "check_mode" for item in result["fact"]["reasons"])


def test_unknown_sku_is_incomplete(capsys, tmp_path):
    sample = {"sent": 1.0, "node": 1.0, "received": 1.001}
    fact = run_module(node_health, capsys, sku="Standard_X", skus=SKUS, paths=[str(tmp_path)], clock_samples=[sample])["fact"]
    assert fact["status"] in ("incomplete", "failed")
    assert fact["reasons"][0]["check"] == "sku" and fact["reasons"][0]["status"] == "incomplete"


def test_wrong_arguments_fail(capsys):
    result = run_module(node_health, capsys, skus={"lab": {"health": {"cpus": 2}, "gpu": {"count": "many"}}}, paths=[])
    assert result["failed"]
    for word in ("health.cpus", "gpu.count", "generic", "paths is empty"):
        assert word in result["msg"]


@pytest.fixture
def whole_node(tmp_path):
    """Return the module's arguments for everything but the hardware: stand-ins for nvidia-smi and NHC, and a recorded sysfs."""
    root = tmp_path
    sysfs(root)
    (root / "smi.xml").write_text(smi_xml())
    tool = root / "mock-nvidia-smi"
    says = {"-q -x": root / "smi.xml", "nvlink -s": COMPOSED / "nvidia-smi.nvlink_s.h100.txt"}
    says["nvlink -e"] = COMPOSED / "nvidia-smi.nvlink_e.h100.txt"
    says["topo -m"] = COMPOSED / "nvidia-smi.topo_m.nd96isr_h100_v5.txt"
    cases = "".join('"%s") cat %s;;\n' % item for item in says.items())
    tool.write_text('#!/bin/sh\ncase "$*" in\n%s*) exit 2;;\nesac\n' % cases)
    script = root / "mock-run-health-checks.sh"
    script.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && log=$2; shift; done\ncat %s > "$log"\n' % (COMPOSED / "nhc.nd96isr_h100_v5.log")
    )
    write(root, "conf/nd96isr_h100_v5.conf", "".join(" * || %s\n" % command for command in H100["nhc_checks"]))
    for path in (tool, script):
        path.chmod(0o755)
    for address in ADDRESSES:
        write(root, "sys/bus/pci/devices/%s/vendor" % address, "0x10de")
        write(root, "sys/bus/pci/devices/%s/class" % address, "0x030200")
    return {
        "sku": "Standard_ND96isr_H100_v5", "skus": SKUS, "paths": [str(root)], "nvidia_smi": str(tool), "root": str(root),
        "nhc_script": str(script), "nhc_log_dir": str(root / "log"),
    }  # fmt: skip


def test_module_reads_a_whole_node_in_one_call(whole_node, capsys):
    fact = run_module(node_health, capsys, **whole_node)["fact"]
    Draft202012Validator(FACT).validate(fact)
    Draft202012Validator(SCHEMA).validate(fact)
    checks = {item["check"]: item["status"] for item in fact["reasons"]}
    about_hardware = {name: status for name, status in checks.items() if name.split(".")[0] in ("gpu", "ib", "net", "nvme", "nhc", "numa")}
    assert len(about_hardware) > 30 and set(about_hardware.values()) == {"healthy"}
    assert fact["context"]["nhc"]["log"].startswith(whole_node["nhc_log_dir"]) and fact["context"]["physical_host"] == "PHYSHOST000001"
    # This machine is no ND H100 v5, and the fact says so: nobody compared the clocks, and its memory is not 1.8 TiB.
    assert checks["clock.skew"] == "incomplete" and fact["status"] == "failed"


def test_each_text_is_parsed_once(whole_node, capsys, monkeypatch):
    parsed = []
    lines = [{"text": "Linux version 5.15.0-1074-azure", "at_s": 0.0}]
    monkeypatch.setattr(kernel_log, "parse_journal", lambda _text: lines)
    monkeypatch.setattr(kernel_log, "parse_ring", lambda _text: lines)
    monkeypatch.setattr(kernel_log, "read_ring", lambda: "")

    def count(reader, name):
        parse = getattr(reader, name)

        def counted(text):
            parsed.extend([reader.__name__.rpartition(".")[2]] if text else [])
            return parse(text)

        monkeypatch.setattr(reader, name, counted)

    for reader, name in ((kernel_events, "parse"), (nhc_log, "parse"), (nvidia, "parse_xml")):
        count(reader, name)
    fact = run_module(node_health, capsys, **whole_node)["fact"]
    assert fact["measured"]["kernel_log_lines_count"] == 1 and fact["measured"]["nhc"]["nccl_allreduce_gbps"] == 477.8
    assert sorted(parsed) == ["kernel_events", "nhc_log", "nvidia"]
