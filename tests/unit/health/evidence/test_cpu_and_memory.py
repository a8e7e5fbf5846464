"""Processors and memory, from a recorded /proc and /sys."""

from __future__ import annotations

from ansible.module_utils.plumbline.health.evidence import cpu, memory
from health_nodes import write

ND96_MEMINFO = "MemTotal:       1979209072 kB\nMemAvailable:   1950000000 kB\nSwapTotal:             0 kB\nHugePages_Total:       0\n"


def test_memory_and_cpu(tmp_path):
    write(tmp_path, "proc/meminfo", ND96_MEMINFO)
    write(tmp_path, "proc/loadavg", "0.25 0.50 0.75 1/900 1234\n")
    write(tmp_path, "sys/devices/system/cpu/online", "0-94\n")
    assert memory.memory(str(tmp_path)) == {
        "total": 1979209072 * 1024,
        "available": 1950000000 * 1024,
        "swap_total": 0,
    }
    seen = cpu.cpu(str(tmp_path))
    assert (seen["count"], seen["load"]) == (95, [0.25, 0.5, 0.75])
    assert cpu.count_list("0-3,8,10-11") == 7
    assert memory.memory(str(tmp_path / "nothing"))["total"] is None
