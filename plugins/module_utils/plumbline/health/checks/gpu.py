"""The GPUs of a node; their evidence is ``{"presence", "smi", "error"}`` (see ``machine.nvidia``)."""

from __future__ import annotations

from ...core.fact import reason
from ...machine import nvidia
from ...machine import nvidia_messages as messages
from .bound import NO_EXPECTATION
from .gpu_state import check_state
from .inforom import check_inforom

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
                    "replace the node, or correct sku_name",
                )
            ]
        return [reason("gpu", "skipped", "no GPU", "none expected" if expected == 0 else None)]
    if gpu["smi"] is None:
        # The driver's silence is evidence of a fault only where the bus shows a GPU.
        on_bus = gpu["presence"]["pci"]
        text = "%d on the PCI bus, but %s" % (len(on_bus), gpu["error"])
        status = "failed" if on_bus or expected else "incomplete"
        return [reason("gpu", status, text, "the driver answers", messages.remedy_of(gpu["error"]))]
    gpus = gpu["smi"]["gpus"]
    found = check_state(gpu["smi"])
    found += [_count(gpu, expected, expect.get("gpu_pci_domains") or []), _driver(gpu["smi"])]
    inforom = check_inforom(gpu)
    found += [inforom] if gpus or inforom["status"] != "healthy" else []
    if gpus:
        found += [_product(gpus, expect.get("gpu_product"))]
        found += [_ecc(gpus, expect), _remap(gpus, expect), _recovery(gpus, expect), _throttle(gpus, expect), _pcie(gpus, expect)]
        if expect.get("gpu_fabric"):
            found.append(_fabric(gpus))
        if expect.get("gpu_persistence"):
            found.append(_persistence(gpus))
    return found


def _count(gpu, expected, domains):
    """GPUs that the driver shows against the bus and the SKU; the address that is missing is named."""
    shown = [item["bus_id"] for item in gpu["smi"]["gpus"]]
    lost = [address for address in gpu["presence"]["pci"] if address not in shown]
    absent = [domain for domain in domains if not any(item.startswith(domain + ":") for item in shown)]
    text = "%d GPUs answer" % len(shown)
    if gpu["presence"].get("others"):
        text += "; not this node's, since it has no device file of them: %s" % ", ".join(gpu["presence"]["others"])
    if lost:
        text += "; on the PCI bus, but not with the driver: %s" % ", ".join(lost)
    if absent:
        # On the NDv5 sizes a GPU is 00:00.0 in a domain of its own (Azure/azhpc-images, topology/ndv5-topo.xml).
        gone = [domain for domain in absent if not any(item.startswith(domain + ":") for item in lost)]
        text += "; no GPU in PCI domain %s" % ", ".join(absent)
        if gone:
            text += "; missing from the PCI bus: %s" % ", ".join(domain + ":00:00.0" for domain in gone)
    attached = gpu["smi"]["attached"]
    if attached is not None and attached != len(shown):
        text += "; the driver counts %d attached" % attached
    threshold = "every GPU on the bus" if expected is None else "%d GPUs" % expected
    remedy = "reboot (a lost GPU is often off the bus until then); replace the node if it stays lost"
    if expected == 0 and not shown and not lost:
        return reason("gpu.count", "healthy", text, threshold)
    if not shown or lost or absent or (expected is not None and len(shown) != expected):
        return reason("gpu.count", "failed", text, threshold, remedy)
    if attached is not None and attached > len(shown):
        return reason("gpu.count", "failed", text, threshold, remedy)
    if len(set(shown)) != len(shown) or (attached is not None and attached < len(shown) and expected is None):
        # It contradicts itself: more shown than attached, or one twice.
        text += "; shown: %s" % ", ".join(shown)
        return reason("gpu.count", "incomplete", text, threshold, "run nvidia-smi -q -x by hand: its answer contradicts itself")
    if expected is None and not gpu["presence"]["pci"]:
        text += ", and the PCI bus is not readable to compare"
        return reason("gpu.count", "incomplete", text, threshold, "set gpu_count for this SKU")
    return reason("gpu.count", "healthy", text, threshold)


def _driver(smi):
    if not smi["driver"]:
        return reason("gpu.driver", "incomplete", "nvidia-smi names no driver version", "a version")
    return reason("gpu.driver", "healthy", "driver %s, CUDA %s" % (smi["driver"], smi["cuda"]), "a version")


def _product(gpus, wanted):
    """Every GPU is of the product; one that cannot tell its name says nothing of the SKU, and one of many is no wrong SKU."""
    names = sorted({item["product"] or "unnamed" for item in gpus})
    threshold = "all the same" if wanted is None else wanted
    other = [item["bus_id"] for item in gpus if item["product"] and wanted is not None and wanted not in item["product"]]
    nameless = [item["bus_id"] for item in gpus if not item["product"]]
    if other:
        every = len(other) == len(gpus)
        remedy = "correct sku_name" if every else "replace the node: %s differ from its other GPUs" % ", ".join(other)
        return reason("gpu.product", "failed", ", ".join(names), threshold, remedy)
    if nameless:
        text = "%s: no product name from %s" % (", ".join(names), ", ".join(nameless))
        remedy = "look at the state of the GPU that names nothing (nvidia-smi -q -i <address>): reset it, or reboot"
        return reason("gpu.product", "incomplete", text, threshold, remedy)
    return reason("gpu.product", "healthy" if wanted is not None or len(names) == 1 else "degraded", ", ".join(names), threshold)


def _without(gpus, expect, tag, *keys):
    """Return whether GPUs of no known product all lack a value, which none of them failed to read: they have no such thing.

    ``tag`` is part of the names under which the driver gives it. A SKU that names its product has it, so that there a missing
    value stays ``incomplete``.
    """
    if expect.get("gpu_product") is not None or any(item[key] is not None for item in gpus for key in keys):
        return False
    return not any(tag in name for item in gpus for tags in item["unreadable"].values() for name in tags)


def _worst_of(check, per_gpu, good, threshold, remedy):
    """Fold ``[(status, bus id, text)]`` into one reason: the worst status, with the GPUs that have it."""
    order = ("failed", "incomplete", "degraded")
    for status in order:
        bad = ["%s %s" % (bus, text) for state, bus, text in per_gpu if state == status]
        if bad:
            return reason(check, status, "; ".join(bad), threshold, remedy)
    return reason(check, "healthy", "%s on %d GPUs" % (good, len(per_gpu)), threshold)


def _ecc(gpus, expect):
    """Uncorrected ECC errors since the driver was loaded, what the SKU limits, and whether ECC is on at all."""
    corrected_max, sram_max = expect.get("gpu_ecc_corrected_max"), expect.get("gpu_ecc_sram_corrected_max")
    ever_max = expect.get("gpu_ecc_sram_uncorrected_max")
    if _without(gpus, expect, "ecc", "ecc_mode"):
        return reason("gpu.ecc", "skipped", "no ECC on %d GPUs (N/A)" % len(gpus), NO_EXPECTATION)
    known, states, off = expect.get("gpu_product") is not None, [], []
    for item in gpus:
        bus, bad = item["bus_id"], item["ecc_volatile_uncorrected"]
        if item["ecc_mode"] is None or (item["ecc_mode"] == "Enabled" and bad is None):
            states.append(("incomplete", bus, "reports no ECC state"))
            continue
        if item["ecc_mode"] != "Enabled":
            # Workstation cards are sold with ECC off, so only a SKU makes a fault of it.
            off.append(bus)
            states.append(("failed" if known else "degraded", bus, "has ECC %s" % item["ecc_mode"].lower()))
            continue
        said = []
        if bad > 0:
            said.append("%d uncorrected errors" % bad)
        if item["sram_threshold_exceeded"]:
            said.append("SRAM threshold exceeded")
        for value, limit, words in (
            (item["ecc_volatile_corrected"], corrected_max, "%d corrected errors"),
            (item["ecc_sram_corrected"], sram_max, "%d corrected SRAM errors"),
            (item["ecc_sram_uncorrected_ever"], ever_max, "%d uncorrected SRAM errors over its life"),
        ):
            if limit is not None and (value or 0) > limit:
                said.append(words % value)
        states.append(("failed" if said else "healthy", bus, "has " + ", ".join(said)))
    threshold = "ECC on, 0 uncorrected"
    for limit, words in ((corrected_max, "corrected"), (sram_max, "corrected in SRAM"), (ever_max, "uncorrected in SRAM ever")):
        if limit is not None:
            threshold += ", <= %d %s" % (limit, words)
    remedy = "switch ECC on (nvidia-smi -e 1), then reset the GPU or reboot" if off else RESET
    return _worst_of("gpu.ecc", states, "ECC on, 0 uncorrected errors", threshold, remedy)


def _remap(gpus, expect):
    """Row remapping (retired pages on older GPUs); the driver prints Yes and No, so Azure NHC's own numeric check never fires."""
    if _without(gpus, expect, "remap", "remap_pending", "remap_failure", "retirement_pending"):
        return reason("gpu.remap", "skipped", "no row remapping on %d GPUs (N/A)" % len(gpus), NO_EXPECTATION)
    states = [(*_remap_state(item), item["bus_id"]) for item in gpus]
    remedy = "pending: %s. Failure: replace the node and report it to Azure" % RESET
    good, threshold = "no remap pending or failed", "pending No, failure No"
    return _worst_of("gpu.remap", [(status, bus, text) for status, text, bus in states], good, threshold, remedy)


def _remap_state(item):
    """Return ``(status, text)`` of one GPU's memory rows."""
    pending, failure, banks = item["remap_pending"], item["remap_failure"], item["remap_banks_none"]
    if failure:
        return "failed", "has failed to remap a row: replace the node"
    if item["unrepairable"]:
        return "failed", "has memory that cannot be repaired: replace the node"
    if pending:
        return "failed", "has a remap pending: reset the GPU"
    if item["repair_pending"]:
        return "failed", "has a repair pending: reset the GPU"
    if item["retirement_pending"]:
        return "failed", "has a page retirement pending: reset the GPU"
    if (pending is None or failure is None) and (item["retirement_pending"] is None or pending is not failure):
        return "incomplete", "reports no remap state"
    if banks:
        return "degraded", "has %d memory banks without a spare row: the next bad row there cannot be remapped" % banks
    return "healthy", ""


def _recovery(gpus, expect):
    """What the driver asks for: its own answer, and "requires reset" in place of values."""
    if _without(gpus, expect, "recovery", "recovery_action"):
        text = "this driver does not tell what its GPUs need"
        return reason("gpu.recovery_action", "skipped", text, NO_EXPECTATION)
    states = []
    for item in gpus:
        action = item["recovery_action"]
        resets = sum(len(tags) for words, tags in item["unreadable"].items() if messages.state_of(words) == messages.RESET)
        if action not in (None, "None"):
            states.append(("failed", item["bus_id"], "asks for: %s" % action))
        elif resets:
            states.append(("failed", item["bus_id"], "asks for: Reset (it says so in place of %d values)" % resets))
        elif action is None:
            states.append(("incomplete", item["bus_id"], "reports no recovery action (older driver)"))
        else:
            states.append(("healthy", item["bus_id"], ""))
    return _worst_of(
        "gpu.recovery_action",
        states,
        "none asked for",
        "None",
        "do what the driver asks for (reset, reboot, drain); an older driver: list it under optional",
    )


def _pcie(gpus, expect):
    """Generation and width of the link to the host, against the SKU or, without one, against the GPU's own maximum."""
    gen, width = expect.get("gpu_pcie_gen"), expect.get("gpu_pcie_width")
    if not gen and not width and _without(gpus, expect, "link", "pcie_gen", "pcie_width"):
        return reason("gpu.pcie", "skipped", "no PCIe link told by %d GPUs (N/A)" % len(gpus), NO_EXPECTATION)
    states = []
    for item in gpus:
        want_gen, want_width = gen or _reachable_gen(item), width or item["pcie_width_max"]
        if None in (item["pcie_gen"], item["pcie_width"], want_gen, want_width):
            states.append(("incomplete", item["bus_id"], "reports no PCIe link"))
            continue
        text = "runs at PCIe %d x%d" % (item["pcie_gen"], item["pcie_width"])
        # An idle GPU may lower its own generation to save power; only a SKU knows that its GPUs do not (H200 capture: 5 x16 idle).
        saving = not gen and item["throttle"].get("gpu_idle") is True
        good = (item["pcie_gen"] >= want_gen or saving) and item["pcie_width"] >= want_width
        states.append(("healthy" if good else "failed" if gen or width else "degraded", item["bus_id"], text))
    if gen or width:
        threshold = "PCIe %s x%s" % (gen or "any", width or "any")
    else:
        threshold = "the GPU's own maximum"
    good = "PCIe %s x%s" % tuple(
        "/".join(sorted({"%d" % item[key] for item in gpus if item[key] is not None})) for key in ("pcie_gen", "pcie_width")
    )
    return _worst_of("gpu.pcie", states, good, threshold, "reboot; replace the node if it stays so (fault code NHC2020)")


def _reachable_gen(item):
    """Return the generation that a GPU reaches where it is: a slot of an older one limits it, which is no fault."""
    known = [value for value in (item["pcie_gen_max"], item["pcie_gen_slot"]) if value is not None]
    return min(known) if known else None


def _fabric(gpus):
    """What the fabric manager says of each GPU: without it no NVLink is usable between them."""
    states = []
    for item in gpus:
        bus, state, status, health = item["bus_id"], item["fabric_state"], item["fabric_status"], item["fabric_health"]
        text = "fabric state %s, status %s" % (state, status)
        if state is None and status is None:
            states.append(("incomplete", bus, "reports no fabric state"))
        elif state != "Completed" or status != "Success":
            states.append(("failed", bus, text))
        elif health not in (None, "Healthy", "Not Supported"):
            states.append(("failed" if health == "Unhealthy" else "degraded", bus, "fabric health %s" % health))
        else:
            states.append(("healthy", bus, text))
    return _worst_of(
        "gpu.fabric",
        states,
        "fabric Completed, Success",
        "State Completed, Status Success",
        "systemctl restart nvidia-fabricmanager (its version must be the driver's: journalctl -u nvidia-fabricmanager)",
    )


def _throttle(gpus, expect):
    """What holds clocks down now; a reason that cannot be read is not one that is not active."""
    if _without(gpus, expect, "reasons") and not any(set(item["throttle"].values()) - {None} for item in gpus):
        return reason("gpu.throttle", "skipped", "no throttle reasons told by %d GPUs (N/A)" % len(gpus), NO_EXPECTATION)
    told = {name for item in gpus for name, on in item["throttle"].items() if on is not None}
    states = []
    for item in gpus:
        active = [name for name, on in item["throttle"].items() if on and name in THROTTLE]
        blind = [name for name in sorted(THROTTLE) if item["throttle"].get(name) is None and _owed(name, item, told, expect)]
        if active:
            worst = "failed" if any(THROTTLE[name] == "failed" for name in active) else "degraded"
            states.append((worst, item["bus_id"], "is held down by %s" % ", ".join(sorted(active))))
        elif not item["throttle"] or set(item["throttle"].values()) == {None}:
            states.append(("incomplete", item["bus_id"], "reports no throttle reasons"))
        elif blind:
            states.append(("incomplete", item["bus_id"], "does not tell %s" % ", ".join(blind)))
        else:
            states.append(("healthy", item["bus_id"], ""))
    return _worst_of(
        "gpu.throttle",
        states,
        "not throttled",
        "no slowdown active",
        "thermal or power: report the node to Azure; software: stop what loads the GPU; unreadable: nvidia-smi -q -d PERFORMANCE",
    )


def _owed(name, item, told, expect):
    """Return whether a GPU must tell a reason: where it names it, another GPU does, and where the product is known."""
    return name in told or (name in item["throttle"] and (bool(item["unreadable"]) or expect.get("gpu_product") is not None))


def _persistence(gpus):
    states = []
    for item in gpus:
        mode = item["persistence"]
        status = "incomplete" if mode is None else "healthy" if mode == "Enabled" else "degraded"
        states.append((status, item["bus_id"], "has persistence mode %s" % (mode or "unknown")))
    return _worst_of("gpu.persistence", states, "persistence mode on", "Enabled", "systemctl enable --now nvidia-persistenced")
