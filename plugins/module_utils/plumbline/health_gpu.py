"""The GPU checks of node health; evidence is ``{"presence", "smi", "error"}`` (see ``nvidia``)."""

from __future__ import annotations

from ansible.module_utils.plumbline import nvidia
from ansible.module_utils.plumbline.fact import reason

# Why a clock is held down, and what that means. gpu_idle and applications_clocks_setting are normal; a power cap
# is normal under load, but not on an idle node.
THROTTLE = {
    "hw_slowdown": "failed",
    "hw_thermal_slowdown": "failed",
    "hw_power_brake_slowdown": "failed",
    "sw_thermal_slowdown": "degraded",
    "sw_power_cap": "degraded",
}
RESET = "nvidia-smi --gpu-reset -i <address>, or reboot; replace the node if it comes back"


def check_gpu(evidence, expect):
    """Everything about GPUs: none expected and none there is one ``skipped`` reason and never a number."""
    gpu, expected = evidence["gpu"], expect.get("gpu_count")
    if not nvidia.is_present(gpu["presence"]):
        if expected:
            return [
                reason(
                    "gpu",
                    "failed",
                    "no GPU: none on the PCI bus, no driver, no nvidia-smi",
                    "%d GPUs" % expected,
                    "replace the node, or correct node_health_sku",
                )
            ]
        return [reason("gpu", "skipped", "no GPU", "none expected" if expected == 0 else None)]
    if gpu["smi"] is None:
        # The driver's silence is evidence of a fault only where the bus shows a GPU.
        on_bus = gpu["presence"]["pci"]
        text = "%d on the PCI bus, but %s" % (len(on_bus), gpu["error"])
        remedy = "install or reload the driver (dmesg | grep NVRM); reboot; replace the node"
        return [reason("gpu", "failed" if on_bus or expected else "incomplete", text, "the driver answers", remedy)]
    found = [_count(gpu, expected, expect.get("gpu_pci_domains") or []), _driver(gpu["smi"])]
    gpus = gpu["smi"]["gpus"]
    if gpus:
        found += [_product(gpus, expect.get("gpu_product"))]
        found += [_ecc(gpus, expect.get("gpu_ecc_corrected_max")), _remap(gpus), _recovery(gpus), _throttle(gpus)]
        if expect.get("gpu_persistence"):
            found.append(_persistence(gpus))
    return found


def _count(gpu, expected, domains):
    """GPUs that the driver shows against the bus and the SKU; the address that is missing is named."""
    shown = [item["bus_id"] for item in gpu["smi"]["gpus"]]
    lost = [address for address in gpu["presence"]["pci"] if address not in shown]
    absent = [domain for domain in domains if not any(item.startswith(domain + ":") for item in shown)]
    text = "%d GPUs answer" % len(shown)
    if lost:
        text += "; on the PCI bus, but not with the driver: %s" % ", ".join(lost)
    if absent:
        text += "; no GPU in PCI domain %s" % ", ".join(absent)
    if gpu["smi"]["attached"] is not None and gpu["smi"]["attached"] != len(shown):
        text += "; the driver counts %d attached" % gpu["smi"]["attached"]
    threshold = "every GPU on the bus" if expected is None else "%d GPUs" % expected
    remedy = "reboot (a lost GPU is often off the bus until then); replace the node if it stays lost"
    if not shown or lost or absent or (expected is not None and len(shown) != expected):
        return reason("gpu.count", "failed", text, threshold, remedy)
    if expected is None and not gpu["presence"]["pci"]:
        text += ", and the PCI bus is not readable to compare"
        return reason("gpu.count", "incomplete", text, threshold, "set gpu_count for this SKU")
    return reason("gpu.count", "healthy", text, threshold)


def _driver(smi):
    if not smi["driver"]:
        return reason("gpu.driver", "incomplete", "nvidia-smi names no driver version", "a version")
    return reason("gpu.driver", "healthy", "driver %s, CUDA %s" % (smi["driver"], smi["cuda"]), "a version")


def _product(gpus, wanted):
    names = sorted({item["product"] or "unnamed" for item in gpus})
    if wanted is None:
        status = "healthy" if len(names) == 1 else "degraded"
        return reason("gpu.product", status, ", ".join(names), "all the same")
    good = all(wanted in (item["product"] or "") for item in gpus)
    return reason(
        "gpu.product",
        "healthy" if good else "failed",
        ", ".join(names),
        wanted,
        None if good else "correct node_health_sku",
    )


def _worst_of(check, per_gpu, good, threshold, remedy):
    """Fold ``[(status, bus id, text)]`` into one reason: the worst status, with the GPUs that have it."""
    order = ("failed", "incomplete", "degraded")
    for status in order:
        bad = ["%s %s" % (bus, text) for state, bus, text in per_gpu if state == status]
        if bad:
            return reason(check, status, "; ".join(bad), threshold, remedy)
    return reason(check, "healthy", "%s on %d GPUs" % (good, len(per_gpu)), threshold)


def _ecc(gpus, corrected_max):
    """Uncorrected ECC errors since the driver was loaded, and whether ECC is on at all."""
    states = []
    for item in gpus:
        bus, bad = item["bus_id"], item["ecc_volatile_uncorrected"]
        if item["ecc_mode"] is None or (item["ecc_mode"] == "Enabled" and bad is None):
            states.append(("incomplete", bus, "reports no ECC state"))
        elif item["ecc_mode"] != "Enabled":
            states.append(("failed", bus, "has ECC %s" % item["ecc_mode"].lower()))
        elif bad > 0 or item["sram_threshold_exceeded"]:
            text = "has %d uncorrected errors" % bad
            states.append(
                ("failed", bus, text + (", SRAM threshold exceeded" if item["sram_threshold_exceeded"] else ""))
            )
        elif corrected_max is not None and (item["ecc_volatile_corrected"] or 0) > corrected_max:
            states.append(("failed", bus, "has %d corrected errors" % item["ecc_volatile_corrected"]))
        else:
            states.append(("healthy", bus, ""))
    threshold = "ECC on, 0 uncorrected"
    if corrected_max is not None:
        threshold += ", <= %d corrected" % corrected_max
    return _worst_of("gpu.ecc", states, "ECC on, 0 uncorrected errors", threshold, RESET)


def _remap(gpus):
    """Row remapping; the driver prints Yes and No, which is why Azure NHC's own numeric check never fires."""
    states = []
    for item in gpus:
        bus, pending, failure = item["bus_id"], item["remap_pending"], item["remap_failure"]
        if failure:
            states.append(("failed", bus, "has failed to remap a row: replace the node"))
        elif pending:
            states.append(("failed", bus, "has a remap pending: reset the GPU"))
        elif pending is None or failure is None:
            states.append(("incomplete", bus, "reports no remap state"))
        else:
            states.append(("healthy", bus, ""))
    remedy = "pending: %s. Failure: replace the node and report it to Azure" % RESET
    return _worst_of("gpu.remap", states, "no remap pending or failed", "pending No, failure No", remedy)


def _recovery(gpus):
    states = []
    for item in gpus:
        action = item["recovery_action"]
        if action is None:
            states.append(("incomplete", item["bus_id"], "reports no recovery action (older driver)"))
        else:
            states.append(("healthy" if action == "None" else "failed", item["bus_id"], "asks for: %s" % action))
    return _worst_of(
        "gpu.recovery_action",
        states,
        "none asked for",
        "None",
        "do what the driver asks for (reset, reboot, drain); an older driver: list it under optional",
    )


def _throttle(gpus):
    states = []
    for item in gpus:
        active = [name for name, on in item["throttle"].items() if on and name in THROTTLE]
        if not item["throttle"]:
            states.append(("incomplete", item["bus_id"], "reports no throttle reasons"))
        elif active:
            worst = "failed" if any(THROTTLE[name] == "failed" for name in active) else "degraded"
            states.append((worst, item["bus_id"], "is held down by %s" % ", ".join(sorted(active))))
        else:
            states.append(("healthy", item["bus_id"], ""))
    return _worst_of(
        "gpu.throttle",
        states,
        "not throttled",
        "no slowdown active",
        "thermal or power: report the node to Azure; software: stop what loads the GPU",
    )


def _persistence(gpus):
    states = []
    for item in gpus:
        mode = item["persistence"]
        status = "incomplete" if mode is None else "healthy" if mode == "Enabled" else "degraded"
        states.append((status, item["bus_id"], "has persistence mode %s" % (mode or "unknown")))
    return _worst_of(
        "gpu.persistence", states, "persistence mode on", "Enabled", "systemctl enable --now nvidia-persistenced"
    )


def gpu_measured(gpu):
    """Return ``gpu_count`` and per-GPU numbers by PCI address; nothing at all without an answer of the driver."""
    if gpu["smi"] is None:
        return {}
    keys = (
        ("sm_mhz", "sm_mhz"),
        ("sm_max_mhz", "sm_max_mhz"),
        ("memory_mhz", "memory_mhz"),
        ("temperature_c", "temperature_c"),
        ("power_w", "power_w"),
        ("memory_total_mib", "memory_total_mib"),
        ("memory_used_mib", "memory_used_mib"),
        ("ecc_volatile_corrected_count", "ecc_volatile_corrected"),
        ("ecc_volatile_uncorrected_count", "ecc_volatile_uncorrected"),
        ("ecc_aggregate_uncorrected_count", "ecc_aggregate_uncorrected"),
        ("remap_uncorrected_count", "remap_uncorrected"),
    )
    gpus = {}
    for item in gpu["smi"]["gpus"]:
        numbers = {name: item[key] for name, key in keys}
        numbers["throttle_us"] = item["throttle_us"]
        gpus[item["bus_id"]] = numbers
    return {"gpu_count": len(gpus), "gpus": gpus}
