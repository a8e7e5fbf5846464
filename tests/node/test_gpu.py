"""GPUs, InfiniBand and containers: asserted where the hardware is, skipped with the reason where it is not."""

from __future__ import annotations

import re

import pytest


def test_driver_is_the_same_on_all_gpus(gpus):
    versions = {gpu["driver_version"] for gpu in gpus}
    assert len(versions) == 1 and re.fullmatch(r"\d+(\.\d+)+", versions.pop())


def test_gpu_count(gpus, expect):
    if expect.get("gpu_count") is None:
        pytest.skip("the SKU of this node does not say how many GPUs it has")
    assert len(gpus) == expect["gpu_count"], [gpu["pci.bus_id"] for gpu in gpus]


def test_persistence_mode(gpus):
    assert {gpu["persistence_mode"] for gpu in gpus} == {"Enabled"}


def test_clocks_are_locked(gpus, host, variables):
    if variables.get("gpu_clocks_state", "locked") != "locked":
        pytest.skip("gpu_clocks_state asks for no lock")
    if not host.file("/run/plumbline/gpu_clocks.json").exists:
        pytest.skip("gpu_clocks has not locked the clocks since this node booted")
    wanted = int(variables.get("gpu_clocks_mhz", 1980))
    assert all(abs(int(gpu["clocks.sm"]) - wanted) <= 15 for gpu in gpus), [gpu["clocks.sm"] for gpu in gpus]


def test_infiniband_ports_are_active(host):
    ports = host.run("ls -d /sys/class/infiniband/*/ports/*").stdout.split()
    if not ports:
        pytest.skip("no InfiniBand device on this node")
    seen = 0
    for port in ports:
        if host.file(port + "/link_layer").content_string.strip() != "InfiniBand":
            continue  # the Ethernet function of the same adapter (accelerated networking)
        seen += 1
        assert host.file(port + "/state").content_string.strip() == "4: ACTIVE", port
        assert host.file(port + "/phys_state").content_string.strip() == "5: LinkUp", port
    if not seen:
        pytest.skip("no port of this node speaks InfiniBand")


def test_container_runtime_answers(host, variables):
    if variables.get("vllm_serve_runtime", "host") != "docker":
        pytest.skip("vllm_serve_runtime of this node is host: no container runtime is needed")
    assert host.exists("docker"), "vllm_serve_runtime is docker, but there is no docker on this node"
    answer = host.run("docker info --format '{{.ServerVersion}}'")
    assert answer.rc == 0 and answer.stdout.strip(), answer.stderr
