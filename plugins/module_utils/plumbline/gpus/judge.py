"""Judges the figures of one node's devices: reasons, each naming the GPU.

Where the limits are from:

- **Equals.** Reads and copies of a memory differ by some tenths of a percent between healthy GPUs, a matrix product under a power cap by
  some percent, since each chip needs another voltage. So :data:`SHARES` are the least differences that count, beside the score.
- **A lower clock is a reason, no fault.** A GPU whose product is slow, and whose product per clock is that of the others, is held down:
  by its power cap or by heat, which the driver names; the cap may by :data:`CAP_SHARE`. One that is slow at the clock of the others is
  broken: ``failed``. Where its higher clock makes up for it, it is ``degraded``.
- **No limit from elsewhere for a matrix rate**: under the power cap it depends on data and kernel.
- **Reads** have the limit of the GPU's model in ``roles/sku``, which was measured. Transfers have that of the SKU's Azure NHC, which
  measures with another program: below it is ``degraded``.
- **Values.** One wrong element is one too many: ``failed``.
"""

from __future__ import annotations

import statistics

from ..core.fact import reason
from . import equals

# Least shares of the median by which a rate must be lower, beside being far from the others.
SHARES = {
    "read_gbps": 0.02,
    "copy_gbps": 0.02,
    "bf16_tflops": 0.03,
    "tflops_per_ghz": 0.03,
    "h2d_gbps": 0.1,
    "d2h_gbps": 0.1,
    "peers": 0.04,
}
TITLES = {"read_gbps": "read", "copy_gbps": "copy", "bf16_tflops": "matrix", "h2d_gbps": "h2d", "d2h_gbps": "d2h"}
UNITS = {"bf16_tflops": "TFLOP/s"}
# Clocks are held down by these; a power cap is part of normal life.
HEAT = ("sw_thermal_slowdown", "hw_thermal_slowdown", "hw_slowdown", "hw_power_brake_slowdown")
CAP = "sw_power_cap"
# By so much a power cap alone may hold a healthy GPU below the others: Sinha et al., "Not All GPUs Are Created Equal" (SC 2022), found
# 8 % from GPU to GPU under the same work. So much the cap explains, or may where clocks are not known; a lower power limit is more.
CAP_SHARE = 0.08
# Of a window: less changes no mean by more than that.
HELD_SHARE = 0.01
# Below this share of its highest clock a GPU's read rate is not that of its model.
READ_CLOCK = 0.9

REPLACE = "take the node out of service and report the GPU; run playbooks/gpu_baseline.yml again to see it twice"
SOFTWARE = "it is no single GPU's fault: look at torch, cuBLAS and their settings in the serving environment"
LOOK = "compare nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER,CLOCK of these GPUs; measure again with nothing else on the node"
COOL = "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER: look at cooling, power limit and what else runs there"


def label(row):
    """Return how a row is called; one of a fleet with its node."""
    if row["bus_id"] is None:
        return "the processors"
    name = "GPU %d" % row["index"] + (" %s %s" % (row["mig"], row["uuid"]) if row["mig"] else "")
    return "%s of %s" % (name, row["host"]) if row.get("host") else name


def kind(row):
    """Return what must be the same for two rows to be equals; None for processors."""
    return None if row["bus_id"] is None else (row["model"], row["mig"], row["sm_count"])


def judge(rows, known=None, transfers=None):
    """Return the reasons of the rows (``figures.row``), peers apart.

    ``known`` is ``{model: {"hbm_read_gbps", "hbm_read_min_gbps", "source"}}``, ``transfers`` ``{"h2d_min_gbps", "source"}`` of the SKU.
    """
    found = values(rows)
    for key in TITLES:
        found += rates(rows, key)
    found += per_clock(rows)
    for row in rows:
        found += [read_limit(row, known or {})] if row["read_gbps"] else []
    return found + transfer_limits(rows, transfers or {})


# --- What was computed -----------------------------------------------------------------------------


def values(rows):
    """Judge what each device computed: against what is right, against its own first product, and against its equals."""
    seen = [row for row in rows if row["product_sha256"]]
    groups = equals.groups(seen, kind)
    alike = [group for group in groups if _all_alike(group)]
    found = [item for row in seen for item in _own_values(row, exact=not any(row in group for group in alike))]
    found += [_by_software(group) for group in alike]
    for group in groups:
        found += _same_values(group)
    bad = any(item["status"] not in ("healthy", "skipped") for item in found)
    if seen and not bad:
        compared = sum(row["products_compared"] for row in seen)
        text = "%d products, and %d elements against the right values, without a wrong bit" % (
            compared,
            sum(r["exact_elements"] for r in seen),
        )
        found.insert(0, reason("gpu_baseline.values", "healthy", text, "no wrong element"))
    return found


def _all_alike(group):
    """Return whether several equal GPUs are all wrong in the same way: as many elements, and the same product of the same inputs."""
    wrong = {row["exact_wrong_elements"] for row in group}
    products = {(row["inputs_sha256"], row["product_sha256"]) for row in group}
    return len(group) > 1 and group[0]["bus_id"] is not None and len(wrong) == len(products) == 1 and 0 not in wrong and None not in wrong


def _by_software(group):
    """Return what is said of :func:`_all_alike`: chips do not break alike, so it is the library, its settings or the program."""
    text = "all %d equal GPUs differ from the processor in the same %d of %d elements of a product, and agree with each other" % (
        len(group),
        group[0]["exact_wrong_elements"],
        group[0]["exact_elements"],
    )
    return reason("gpu_baseline.values", "degraded", text, "no wrong element", SOFTWARE)


def _own_values(row, exact=True):
    """Return what is wrong with one device by itself; ``exact`` False leaves out the product whose right values are known."""
    told = []
    if exact and row["exact_wrong_elements"]:
        told.append(
            "%d of %d elements of a product are not what the processor computed" % (row["exact_wrong_elements"], row["exact_elements"])
        )
    if row["wrong_elements"]:
        told.append("%d elements differ between %d equal products" % (row["wrong_elements"], row["products_compared"]))
    for key, what in (("wrong_memory", "read or copied within its memory"), ("wrong_transfers", "copied to it and back")):
        if row.get(key):
            told.append("%d values were not what was %s" % (row[key], what))
    return [reason("gpu_baseline.values", "failed", "%s: %s" % (label(row), text), "no wrong element", REPLACE) for text in told]


def _same_values(group):
    """Return what is to be said of the products of equal devices."""
    odd, majority = equals.odd({label(row): (row["inputs_sha256"], row["product_sha256"]) for row in group})
    if group[0]["bus_id"] is None:
        return []
    if not odd:
        if len(group) == 1:
            text = "%s has no equal on this node: its product was compared with itself only" % label(group[0])
            return [reason("gpu_baseline.hash", "skipped", text, "the same product on equal GPUs")]
        return [
            reason("gpu_baseline.hash", "healthy", "%d equal GPUs computed the same product" % len(group), "the same product on equal GPUs")
        ]
    if majority:
        text = "%s computed another product than %d equal GPUs from the same inputs" % (", ".join(odd), len(group) - len(odd))
    else:
        text = "%s computed different products from the same inputs; no majority says which is right" % ", ".join(odd)
    return [reason("gpu_baseline.hash", "failed", text, "the same product on equal GPUs", REPLACE)]


# --- How fast it was -------------------------------------------------------------------------------


def rates(rows, key):
    """Judge one rate of all devices against their equals."""
    check, unit = "gpu_baseline.%s" % TITLES[key], UNITS.get(key, "GB/s")
    seen = [row for row in rows if row[key] is not None]
    found = []
    for group in equals.groups(seen, kind):
        of = {label(row): row[key] for row in group}
        text = listed(of, unit)
        if len(group) == 1:
            found.append(reason(check, "healthy", "%s, no equal to compare with" % text, None))
            continue
        slow, apart = equals.slow(of, SHARES[key])
        threshold = "none more than %g %% below the median of %d equal GPUs and apart from them" % (100 * SHARES[key], len(group))
        if apart is not None:
            found.append(_two(group, key, check, text, apart, threshold))
        elif not slow:
            found.append(reason(check, "healthy", text, threshold))
        found += [slow_one(row, group, key, check, unit, threshold) for row in group if label(row) in slow]
    return found


def per_clock(rows):
    """Name the device whose product is slow at its clock where a higher clock than that of the others hides it in the rate."""
    found, share = [], SHARES["tflops_per_ghz"]
    for group in equals.groups([row for row in rows if row["bf16_tflops"] and row["tflops_per_ghz"]], kind):
        of = {label(row): row["tflops_per_ghz"] for row in group}
        in_rate, apart = equals.slow({label(row): row["bf16_tflops"] for row in group}, SHARES["bf16_tflops"])
        hidden = set(equals.slow(of, share)[0]) - set(in_rate) if apart is None else ()
        for row in (row for row in group if label(row) in hidden):
            below = 100 * equals.below(of[label(row)], list(of.values()))
            text = "%s: %.0f TFLOP/s per GHz, %.1f %% below the median of %d; its clock is higher than theirs, which hides it in its rate"
            threshold = "none more than %g %% below the median of %d equal GPUs at its clock" % (100 * share, len(of))
            found.append(reason("gpu_baseline.matrix", "degraded", text % (label(row), of[label(row)], below, len(of)), threshold, LOOK))
    return found


def listed(of, unit):
    """Return rates in a sentence: each of a few, the range of many."""
    if len(of) <= 4:
        return ", ".join("%s %s %s" % (name, _digits(rate), unit) for name, rate in of.items())
    low, high = min(of.values()), max(of.values())
    return "%d GPUs between %s and %s %s" % (len(of), _digits(low), _digits(high), unit)


def _digits(rate):
    return "%.0f" % rate if rate >= 100 else "%.3g" % rate


def _two(group, key, check, text, apart, threshold):
    """Return the reason of devices that differ without a majority; a product that is equal per clock is explained by the clock."""
    told = "%s: they differ by %.1f %%" % (text, 100 * apart)
    if key == "bf16_tflops" and apart <= CAP_SHARE and not any(row["tflops_per_ghz"] for row in group):
        return reason(check, "healthy", told + "; clocks, which may explain it, are not known", threshold)
    if key == "bf16_tflops" and all(row["tflops_per_ghz"] for row in group):
        per_clock = [row["tflops_per_ghz"] for row in group]
        if 1 - min(per_clock) / max(per_clock) <= SHARES["tflops_per_ghz"]:
            lowest = min(group, key=lambda row: row[key])
            why, heat = _held(lowest)
            status = "degraded" if heat or why is None or apart > CAP_SHARE else "healthy"
            return reason(
                check, status, "%s, by their clocks: %s" % (told, _clock(lowest, why)), threshold, COOL if status != "healthy" else None
            )
    return reason(check, "degraded", told + ", and no majority says which of them is slow", threshold, LOOK)


def slow_one(row, group, key, check, unit, threshold):
    """Return the reason of one device that is slower than its equals."""
    rate, of = row[key], [other[key] for other in group]
    text = "%s: %s %s, %.1f %% below the median of %d (%s)" % (
        label(row), _digits(rate), unit, 100 * equals.below(rate, of), len(of), _digits(statistics.median(of)),
    )  # fmt: skip
    if key in ("h2d_gbps", "d2h_gbps"):
        return reason(
            check, "degraded", text, threshold, "look at its PCIe link: nvidia-smi -q, section PCI; a lane or a generation is lost"
        )
    if key != "bf16_tflops":
        return reason(check, "failed", text + _memory_clock(row, group), threshold, REPLACE)
    known = {label(other): other["tflops_per_ghz"] for other in group if other["tflops_per_ghz"]}
    if label(row) not in known or len(known) < len(group):
        status = "degraded" if equals.below(rate, of) > CAP_SHARE else "healthy"
        return reason(
            check, status, text + "; clocks, which may explain it, are not known", threshold, LOOK if status == "degraded" else None
        )
    if label(row) in equals.slow(known, SHARES["tflops_per_ghz"])[0]:
        told = "; per clock it is %.1f %% below: slow at an equal clock" % (100 * equals.below(row["tflops_per_ghz"], list(known.values())))
        return reason(check, "failed", text + told, threshold, REPLACE)
    why, heat = _held(row)
    status = "degraded" if heat or why is None or equals.below(rate, of) > CAP_SHARE else "healthy"
    remedy = COOL if status == "degraded" else None
    return reason(check, status, "%s, by its clock: %s" % (text, _clock(row, why)), threshold, remedy)


def _held(row):
    """Return ``(what held the clock down during the product, whether that was heat or a brake)``; None where the driver named nothing."""
    shares = (row["matrix_clocks"] or {}).get("reasons") or {}
    heat = [name for name in HEAT if shares.get(name, 0) >= HELD_SHARE]
    if heat:
        return " and ".join(heat), True
    return (CAP, False) if shares.get(CAP, 0) >= HELD_SHARE else (None, False)


def _clock(row, why):
    """Return a GPU's clock during the product in words."""
    clocks = row["matrix_clocks"]
    text = "%.0f MHz" % clocks["sm_mhz"]
    text += ", %.0f W" % clocks["power_w"] if clocks["power_w"] else ""
    text += ", %g °C" % clocks["temperature_c"] if clocks["temperature_c"] is not None else ""
    return "%s at %s (%s)" % (label(row), text, why or "the driver names nothing that held it down")


def _memory_clock(row, group):
    """Say so where the memory's clock is lower than that of the others."""
    mine = (row["read_clocks"] or {}).get("memory_mhz")
    others = [other["read_clocks"]["memory_mhz"] for other in group if other["read_clocks"] and other["read_clocks"]["memory_mhz"]]
    if mine and others and mine < 0.99 * statistics.median(others):
        return "; its memory is clocked at %.0f MHz, that of the others at %.0f" % (mine, statistics.median(others))
    return ""


# --- Limits of the model and of the SKU ------------------------------------------------------------


def read_limit(row, known):
    """Judge the read rate by what is known of the GPU's model."""
    check, entry = "gpu_baseline.read.baseline", known.get(row["model"]) or {}
    least = entry.get("hbm_read_min_gbps")
    text = "%s: %s GB/s" % (label(row), _digits(row["read_gbps"]))
    if not least or row["mig"]:
        why = "an instance of MIG has a part of the memory's rate" if row["mig"] else "no baseline for %s" % (row["model"] or "processors")
        return reason(check, "skipped", "%s; %s" % (text, why), None)
    threshold = "at least %g GB/s (%s)" % (least, entry.get("source"))
    if row["read_gbps"] >= least:
        return reason(check, "healthy", text, threshold)
    clocks = row["read_clocks"] or {}
    if clocks.get("sm_mhz") and clocks.get("sm_max_mhz") and clocks["sm_mhz"] < READ_CLOCK * clocks["sm_max_mhz"]:
        text += " at %.0f of %d MHz" % (clocks["sm_mhz"], clocks["sm_max_mhz"])
        return reason(check, "degraded", text, threshold, "measure at its full clock: gpu_clocks_mhz, cooling, power limit")
    return reason(check, "failed", text, threshold, REPLACE)


def transfer_limits(rows, transfers):
    """Judge copies from and to the host by the SKU's limit, if it has one."""
    least = transfers.get("h2d_min_gbps")
    seen = [row for row in rows if row["h2d_gbps"] is not None and row["d2h_gbps"] is not None and not row["mig"]]
    if not seen:
        return []
    if not least:
        return [reason("gpu_baseline.transfer.baseline", "skipped", "no baseline", None)]
    threshold = "at least %g GB/s each way (%s)" % (least, transfers.get("source"))
    slow = [row for row in seen if min(row["h2d_gbps"], row["d2h_gbps"]) < least]
    told = "; ".join("%s: %.1f GB/s to it, %.1f from it" % (label(row), row["h2d_gbps"], row["d2h_gbps"]) for row in slow)
    if slow:
        return [
            reason("gpu_baseline.transfer.baseline", "degraded", told, threshold, "look at its PCIe link and its NUMA node; run Azure NHC")
        ]
    low = min(min(row["h2d_gbps"], row["d2h_gbps"]) for row in seen)
    return [reason("gpu_baseline.transfer.baseline", "healthy", "the lowest is %.1f GB/s" % low, threshold)]
