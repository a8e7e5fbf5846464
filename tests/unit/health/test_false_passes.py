"""The ten ways in which the stock health check passes a broken node; here none may pass. The table is docs/false-passes.md."""

from __future__ import annotations

import json
import re

import node_health
import pytest
import yaml
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.health.evidence import kernel_log, nhc_log, nhc_run
from ansible.module_utils.plumbline.health.verdict import assess
from ansible.module_utils.plumbline.machine import nvidia
from health_nodes import ADDRESSES, CAPTURES, H100, LOG, NVLINK_S, ROOT, SKUS, judged, node, reasons, smi_xml, statuses, write
from module_run import run_module
from nhc_mock import ERROR, after, install


def test_the_node_that_each_case_breaks_is_healthy(root):
    assert statuses(node(root)) == {}
    found = assess(node(root), H100)
    # The SKU's data say nothing of these: shown, not judged. A virtual machine does not see the host's bridges.
    shown = ["pci.acs", "memory.huge_pages", "cpu.governor", "nic.speed"]
    assert [item["check"] for item in found if item["status"] != "healthy"] == shown
    checks = {item["check"] for item in found}
    assert {"gpu.nvlink", "gpu.fabric", "gpu.pcie", "ib.state", "ib.flaps", "nvme.count", "net.interfaces", "nhc"} <= checks


def test_false_pass_01_ib_failure_exits_zero(root):
    died = ERROR + "check_ib_bw_gdr: ib_write_bw, IB=mlx5_ib5, mlx5_ib5, IB BW (expected > 380 Gbps, but measured 12.3 Gbps. "
    died += "FaultCode: NHC2003"
    log = after('Running check:  "check_ib_bw_gdr', died)
    evidence = node(root, log=log)
    assert nhc_log.parse(log)["exit_code"] == 0 and evidence["nhc"]["rc"] == 0
    assert statuses(evidence) == {"nhc.check_ib_bw_gdr": "failed"}


@pytest.mark.parametrize("state", ["pending", "failure"])
def test_false_pass_02_row_remap_is_yes_or_no(root, state):
    assert "row remap pending, (No)" in LOG  # what NHC compares with a number
    xml = smi_xml().replace("<remapped_row_%s>No<" % state, "<remapped_row_%s>Yes<" % state, 1)
    assert statuses(node(root, xml=xml)) == {"gpu.remap": "failed"}
    rows = nvidia.parse_csv((CAPTURES / "h200/nvidia-smi.remapped.csv").read_text())
    assert nvidia.yes(rows[0]["remapped_rows.%s" % state]) is False and nvidia.yes("Yes") is True


def test_false_pass_03_xids_and_flaps_with_iso_timestamps(root):
    entry = {"MESSAGE": "NVRM: Xid (PCI:0003:00:00): 79, pid=1, GPU has fallen off the bus.", "__REALTIME_TIMESTAMP": "1763960000000000"}
    lines = [line["text"] for line in kernel_log.parse_journal(json.dumps(entry) + "\n")]
    write(root, "sys/class/infiniband/mlx5_ib2/ports/1/counters/link_downed", "7")
    evidence = node(root, kernel=lines)
    assert judged(evidence["nhc"]["text"]) == {}  # NHC itself saw nothing
    assert statuses(evidence) == {"kernel_log.xid": "failed", "ib.flaps": "failed"}
    found = reasons(evidence)
    assert "XID 79 at 0003:00:00" in found["kernel_log.xid"][0]["seen"] and "mlx5_ib2" in found["ib.flaps"][0]["seen"]


def test_false_pass_04_second_run_with_the_same_log(tmp_path):
    # The stand-in passes an XID that its log file already has, as Azure's check does.
    script = install(tmp_path)
    seen = [nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5") for _again in range(2)]
    assert seen[0]["log"] != seen[1]["log"]
    for run in seen:
        assert "reported before" not in run["text"]
        assert judged(run["text"], {"nhc_checks": ["check_gpu_xid"]}) == {"nhc.check_gpu_xid": "failed"}


@pytest.mark.parametrize("xid", [94, 95, 140])
def test_false_pass_05_fatal_xids_that_are_not_in_its_list(root, xid):
    evidence = node(root, kernel=["NVRM: Xid (PCI:0008:00:00): %d, pid='<unknown>', name=<unknown>, memory error" % xid])
    assert statuses(evidence) == {"kernel_log.xid": "failed"}
    assert "XID %d at 0008:00:00" % xid in reasons(evidence)["kernel_log.xid"][0]["seen"]


def test_false_pass_06_empty_nvlink_answer_and_degraded_links(root):
    empty = (CAPTURES / "h200/nvidia-smi.nvlink_s.txt").read_text()
    assert empty == ""
    assert statuses(node(root, nvlink_s=empty, nvlink_e=empty)) == {"gpu.nvlink": "incomplete", "gpu.nvlink_errors": "incomplete"}
    for rate in ("1.0 GB/s", "1.562 GB/s", "<inactive>"):
        slow = NVLINK_S.replace("Link 4: 26.562 GB/s", "Link 4: " + rate, 1)
        found = reasons(node(root, nvlink_s=slow))
        assert found["gpu.nvlink"][0]["status"] == "failed"
        assert ADDRESSES[0] in found["gpu.nvlink"][0]["seen"] and "4" in found["gpu.nvlink"][0]["seen"]


def test_false_pass_07_unsupported_size_and_missing_metadata(root, tmp_path):
    unsupported = "The vm SKU 'standard_nd96isr_h100_v5' is currently not supported by Azure health checks.\n"
    found = statuses(node(root, log=unsupported))
    assert found["nhc"] == "incomplete" and set(found.values()) == {"incomplete"}
    # No metadata: the size is the empty word.
    found = statuses(node(root, log=unsupported.replace("nd96isr_h100_v5", "")))
    assert found["nhc"] == "incomplete"
    seen = nhc_run.run(install(tmp_path), str(tmp_path / "log"), "Standard_D2s_v5")
    assert "no conf" in seen["error"] and seen["command"] is None
    evidence = dict(node(root), nhc=seen)
    assert statuses(evidence) == {"nhc": "incomplete"}
    for azure in ({"azure": True, "vm_size": None, "error": "timed out"}, {"azure": True, "vm_size": "Standard_D2s_v5", "error": None}):
        assert health_expect.choose("auto", SKUS, azure)["known"] is False


def test_false_pass_08_timeout_of_the_whole_run(root, tmp_path):
    defaults = yaml.safe_load((ROOT / "roles/node_health/defaults/main.yml").read_text())
    assert defaults["node_health_nhc_timeout_s"] == 1200
    nhc_run.run(install(tmp_path), str(tmp_path / "log"), "Standard_ND96isr_H100_v5", timeout_s=defaults["node_health_nhc_timeout_s"])
    assert "-t 1200" in (tmp_path / "arguments").read_text()
    start = LOG.index('Running check:  "check_nvlink_status"')
    log = LOG[:start] + 'Running check:  "check_nvlink_status"\n'
    log += "NHC watchdog timer 77 (500 secs) has expired.  Signaling NHC:  kill -s ALRM -- 42\nHealth checks completed with exit code: 0.\n"
    found = statuses(node(root, log=log))
    assert found == {
        "nhc": "incomplete", "nhc.check_nvlink_status": "incomplete", "nhc.check_ib_bw_gdr": "incomplete",
        "nhc.check_ib_link_flapping": "incomplete", "nhc.ib_write_gbit_s": "incomplete",
    }  # fmt: skip


def test_false_pass_09_it_unlocks_the_clocks(tmp_path, capsys):
    # Check mode promises to change nothing, so NHC does not run there.
    script = install(tmp_path)
    arguments = {"sku": "generic", "skus": SKUS, "paths": [str(tmp_path)], "nhc_script": script, "nhc": "require"}
    fact = run_module(node_health, capsys, _ansible_check_mode=True, **arguments)["fact"]
    assert not (tmp_path / "arguments").exists()
    said = [item["seen"] for item in fact["reasons"] if item["check"] == "check_mode"]
    assert any("unlocks the GPU clocks" in text for text in said)
    # And the clocks are locked after it, never before.
    order = re.findall(r"playbooks/(\w+)\.yml", (ROOT / "site.yml").read_text())
    assert order.index("health") < order.index("fabric") < order.index("serve") and order.count("health") == 1 and "clocks" not in order
    roles = re.findall(r"name: (node_health|gpu_clocks)$", (ROOT / "playbooks/health.yml").read_text(), re.M)
    assert roles[:2] == ["node_health", "gpu_clocks"]


def test_false_pass_10_seven_of_eight_gpus(root):
    seven = [address for address in ADDRESSES if not address.startswith("0008")]
    evidence = node(root, xml=smi_xml(seven), pci=seven)
    found = reasons(evidence)
    assert found["gpu.count"][0]["status"] == "failed"
    assert "missing from the PCI bus: 0008:00:00.0" in found["gpu.count"][0]["seen"]
    on_bus = reasons(node(root, xml=smi_xml(seven)))["gpu.count"][0]
    assert "on the PCI bus, but not with the driver: 0008:00:00.0" in on_bus["seen"] and "missing from" not in on_bus["seen"]
