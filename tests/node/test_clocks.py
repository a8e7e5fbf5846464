"""GPU clocks: locked where gpu_clocks locked them, with nothing holding them down; skipped with the reason elsewhere."""

from __future__ import annotations

import json

import pytest

RECORD = "/run/plumbline/gpu_clocks.json"
STEP_MHZ = 15
# clocks_event_reasons.active: software and hardware thermal slowdown, power brake, hardware slowdown (NVML reference).
HELD_DOWN = 0x08 | 0x20 | 0x40 | 0x80


@pytest.fixture(scope="module")
def record(host, gpus, variables):
    """Return the record of our lock; skip where none was made."""
    if variables.get("gpu_clocks_state", "locked") != "locked":
        pytest.skip("gpu_clocks_state asks for no lock")
    file = host.file(RECORD)
    if not file.exists:
        pytest.skip("gpu_clocks has not locked the clocks since this node booted")
    return json.loads(file.content_string)


def test_lock_is_of_this_boot_and_of_these_gpus(host, record, gpus):
    assert record["boot_id"] == host.file("/proc/sys/kernel/random/boot_id").content_string.strip()
    short = {gpu["pci.bus_id"].lower()[-12:] for gpu in gpus}
    assert {bus[-12:] for bus in record["gpus"]} == short
    assert all(item["echo_mhz"] == [record["mhz"], record["mhz"]] for item in record["gpus"].values()), record["gpus"]


def test_lock_is_the_one_that_the_inventory_asks_for(record, variables):
    assert record["mhz"] == int(variables.get("gpu_clocks_mhz", 1980))
    assert record["mode"] == int(variables.get("gpu_clocks_mode", 1))


def test_sm_clocks_are_at_the_lock(record, gpus):
    seen = {gpu["pci.bus_id"]: int(gpu["clocks.sm"]) for gpu in gpus}
    assert all(abs(clock - record["mhz"]) <= STEP_MHZ for clock in seen.values()), (seen, record["mhz"])


def test_persistence_mode_keeps_the_lock(record, gpus):
    assert {gpu["persistence_mode"] for gpu in gpus} == {"Enabled"}, "the lock goes with the last process that uses the GPU"


def test_nothing_slows_the_gpus_down(host, gpus):
    answer = host.run("nvidia-smi --query-gpu=pci.bus_id,clocks_event_reasons.active --format=csv,noheader")
    if "is not a valid field" in answer.stdout + answer.stderr:
        pytest.skip("this driver does not know clocks_event_reasons.active (older than 535)")
    assert answer.rc == 0, answer.stdout + answer.stderr
    masks = dict(line.split(", ") for line in answer.stdout.splitlines() if line)
    assert len(masks) == len(gpus)
    assert not {bus: mask for bus, mask in masks.items() if int(mask, 16) & HELD_DOWN}
