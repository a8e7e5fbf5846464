"""How the kernel is set: each setting where it is right, where it is not, and where a machine has none."""

from __future__ import annotations

import pytest
import stock_image
from ansible.module_utils.plumbline.health.checks.host import check_host
from ansible.module_utils.plumbline.health.evidence import host
from health_nodes import write

INFINIBAND = [{"link_layer": "InfiniBand"}]


def judged(root, check, ib=(), **expect):
    """Return the reason of one check on the machine below ``root``."""
    found = check_host({"host_settings": host.host(str(root)), "ib": list(ib)}, expect)
    return next(item for item in found if item["check"] == check)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/cpuinfo": "flags\t: fpu hypervisor lm"}, True),
        ({"proc/cpuinfo": "flags\t: fpu lm"}, False),
        ({"proc/cpuinfo": "Features\t: fp asimd"}, None),
        ({"proc/cpuinfo": "Features\t: fp", "sys/class/dmi/id/product_name": "Virtual Machine"}, True),
        ({"proc/cpuinfo": "Features\t: fp", "sys/class/dmi/id/sys_vendor": "QEMU"}, True),
        ({"sys/class/dmi/id/chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}, True),
        ({"proc/cpuinfo": "flags\t: fpu", "sys/class/dmi/id/product_name": "DGXH100"}, False),
    ],
)
def test_virtual(tmp_path, files, expected):
    for path, text in files.items():
        write(tmp_path, path, text)
    assert host.virtual(str(tmp_path)) is expected


def test_locked_memory_is_only_judged_where_infiniband_needs_it(tmp_path):
    stock_image.memory_lock(tmp_path, "8388608", "0")
    assert judged(tmp_path, "memory.lock")["status"] == "skipped"
    assert judged(tmp_path, "memory.lock", ib=[{"link_layer": "Ethernet"}])["status"] == "skipped"
    # A node of the lab sees the machine's ports; its SKU says that none is its own.
    assert judged(tmp_path, "memory.lock", ib=INFINIBAND, ib_ports=[])["status"] == "skipped"
    for given in ({"ib": INFINIBAND}, {"ib_ports": ["mlx5_ib0"]}):
        found = judged(tmp_path, "memory.lock", **given)
        assert found["status"] == "degraded" and "limits.conf" in found["remedy"]
    # A full set of capabilities within a user namespace lifts nothing outside of it.
    stock_image.memory_lock(tmp_path, "8388608", users="0 1000 1")
    assert judged(tmp_path, "memory.lock", ib=INFINIBAND)["status"] == "degraded"
    stock_image.memory_lock(tmp_path, "8388608")
    assert judged(tmp_path, "memory.lock", ib=INFINIBAND)["status"] == "healthy"


def test_huge_pages(tmp_path):
    assert judged(tmp_path, "memory.huge_pages")["status"] == "skipped"
    assert judged(tmp_path, "memory.huge_pages", huge_pages=["madvise"])["status"] == "incomplete"
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
    assert judged(tmp_path, "memory.huge_pages")["status"] == "skipped"
    assert judged(tmp_path, "memory.huge_pages", huge_pages=["always", "madvise"])["status"] == "healthy"
    found = judged(tmp_path, "memory.huge_pages", huge_pages=["madvise", "never"])
    assert (found["status"], found["seen"], found["threshold"]) == ("degraded", "always", "madvise or never")


def test_governors(tmp_path):
    write(tmp_path, "proc/cpuinfo", "flags\t: fpu hypervisor")
    for expect in ({}, {"cpu_governor": "performance"}):
        found = judged(tmp_path, "cpu.governor", **expect)
        assert found["status"] == "skipped" and "virtual machine" in found["seen"]
    write(tmp_path, "proc/cpuinfo", "flags\t: fpu")
    assert judged(tmp_path, "cpu.governor")["status"] == "skipped"
    assert judged(tmp_path, "cpu.governor", cpu_governor="performance")["status"] == "incomplete"
    for number in range(3):
        write(tmp_path, "sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor" % number, "performance")
    assert judged(tmp_path, "cpu.governor")["seen"] == "performance"
    assert judged(tmp_path, "cpu.governor", cpu_governor="performance")["status"] == "healthy"
    write(tmp_path, "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave")
    found = judged(tmp_path, "cpu.governor", cpu_governor="performance")
    assert (found["status"], found["seen"]) == ("degraded", "powersave")


def test_this_machine(tmp_path):
    seen = host.host("/")
    assert seen["memory_lock"]["limit_bytes"] is None or seen["memory_lock"]["limit_bytes"] >= 0
    assert host.host(str(tmp_path)) == {"virtual": None, "memory_lock": None, "huge_pages": None, "governors": []}
