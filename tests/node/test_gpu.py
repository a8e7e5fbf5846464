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
    shown = [gpu["pci.bus_id"].lower() for gpu in gpus]
    missing = [domain for domain in expect.get("gpu_pci_domains") or [] if not any(item.startswith("0000" + domain) for item in shown)]
    assert not missing, f"no GPU in PCI domain {', '.join(missing)}"
    assert len(gpus) == expect["gpu_count"], shown


def test_kernel_driver_is_the_one_that_nvidia_smi_names(gpus, host):
    version = host.file("/proc/driver/nvidia/version")
    assert version.exists, "nvidia-smi answers, but no kernel driver is loaded"
    assert gpus[0]["driver_version"] in version.content_string, "library and kernel driver differ: reboot"


def test_fabric_manager_has_set_up_every_gpu(gpus, host, expect):
    if not expect.get("gpu_fabric"):
        pytest.skip("the SKU of this node has no NVLink fabric")
    states = re.findall(r"^\s+Fabric\s*\n\s+State\s+: (.+)\n\s+Status\s+: (.+)$", host.check_output("nvidia-smi -q"), re.MULTILINE)
    assert states == [("Completed", "Success")] * len(gpus)


def test_nvlinks_run_at_their_rate(gpus, host, expect):
    if not expect.get("gpu_nvlink_count"):
        pytest.skip("the SKU of this node has no NVLink")
    rates = [float(rate) for rate in re.findall(r"Link \d+: (\d+(?:\.\d+)?) GB/s", host.check_output("nvidia-smi nvlink -s"))]
    assert len(rates) == expect["gpu_nvlink_count"] * len(gpus), "links are inactive or not shown"
    assert min(rates) >= expect["gpu_nvlink_min_gbps"] * 0.999


def test_persistence_mode(gpus):
    assert {gpu["persistence_mode"] for gpu in gpus} == {"Enabled"}


def test_infiniband_ports_are_active(host, expect):
    ports = host.run("ls -d /sys/class/infiniband/*/ports/*").stdout.split()
    owed = expect.get("ib_ports") or []
    missing = [name for name in owed if not any(f"/{name}/ports/" in port for port in ports)]
    assert not missing, f"InfiniBand devices that this SKU has and the node lacks: {', '.join(missing)}"
    if not ports:
        pytest.skip("no InfiniBand device on this node, and its SKU names none")
    seen = 0
    for port in ports:
        if host.file(port + "/link_layer").content_string.strip() != "InfiniBand":
            continue  # the Ethernet function of the same adapter (accelerated networking)
        seen += 1
        assert host.file(port + "/state").content_string.strip() == "4: ACTIVE", port
        assert host.file(port + "/phys_state").content_string.strip() == "5: LinkUp", port
        if expect.get("ib_rate_min_gbit_s") and port.split("/")[4] in owed:
            rate = host.file(port + "/rate").content_string.split()[0]
            assert float(rate) >= expect["ib_rate_min_gbit_s"], f"{port}: {rate} Gbit/s"
    if not seen:
        pytest.skip("no port of this node speaks InfiniBand")


def test_container_runtime_answers(host, variables, expect):
    owed = "docker0" in (expect.get("net_interfaces") or [])
    if variables.get("vllm_serve_runtime", "host") != "docker" and not owed:
        pytest.skip("vllm_serve_runtime of this node is host, and its SKU has no docker: no container runtime is needed")
    assert host.exists("docker"), "docker is needed by the runtime or the SKU of this node, and is not there"
    answer = host.run("docker info --format '{{.ServerVersion}}'")
    assert answer.rc == 0 and answer.stdout.strip(), answer.stderr
