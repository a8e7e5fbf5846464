"""Is there an NVIDIA GPU, and what does ``nvidia-smi`` say about it: evidence, no verdicts."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

NVIDIA_VENDOR = "0x10de"
# PCI base class 03: display controller. H100 and H200 are 0x0302 (3D controller).
DISPLAY_CLASS = "0x03"
# What the driver prints where a value does not exist on this GPU, driver or permission.
NO_VALUE = ("", "n/a", "[n/a]", "[not supported]", "not supported", "[unknown error]", "unknown error", "[gpu is lost]")


class NvidiaError(Exception):
    """``nvidia-smi`` could not be run, failed, or printed what cannot be read; the text says which."""


def value_or_none(text):
    """Return ``text`` stripped, or None where the driver says that there is no value."""
    text = (text or "").strip()
    return None if text.lower() in NO_VALUE else text


def number(text):
    """Return the leading number of ``"1980 MHz"``, ``"16x"`` or ``"0 us"``; None where there is none."""
    text = value_or_none(text)
    match = re.match(r"[-+]?\d+(?:\.\d+)?", text) if text else None
    if match is None:
        return None
    return float(match.group()) if "." in match.group() else int(match.group())


def yes(text):
    """Return True for ``Yes``, False for ``No``, None where the driver gave neither."""
    return {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}.get((text or "").strip().lower())


def normal_bus_id(text):
    """Return a PCI address in sysfs form: ``00000001:00:00.0`` and ``0001:00:00.0`` are both ``0001:00:00.0``."""
    domain, rest = text.strip().lower().split(":", 1)
    return "%04x:%s" % (int(domain, 16), rest)


def find_tool(path=None):
    """Return the ``nvidia-smi`` to run, or None. A ``path`` given must be an executable file."""
    if path:
        return path if os.access(path, os.X_OK) and os.path.isfile(path) else None
    return shutil.which("nvidia-smi", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin:/usr/local/nvidia/bin")


def pci_gpus(root="/"):
    """Return the addresses of NVIDIA display devices on the PCI bus, in order."""
    base = os.path.join(root, "sys/bus/pci/devices")
    found = []
    for address in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        try:
            with open(os.path.join(base, address, "vendor"), encoding="ascii") as stream:
                vendor = stream.read().strip()
            with open(os.path.join(base, address, "class"), encoding="ascii") as stream:
                device_class = stream.read().strip()
        except OSError:
            continue  # the device left the bus while we looked: it is not there
        if vendor == NVIDIA_VENDOR and device_class.startswith(DISPLAY_CLASS):
            found.append(normal_bus_id(address))
    return found


def presence(tool=None, root="/"):
    """Return what speaks for a GPU here: ``{"pci": [...], "driver": bool, "tool": path or None}``."""
    return {
        "pci": pci_gpus(root),
        "driver": os.path.isdir(os.path.join(root, "proc/driver/nvidia")),
        "tool": find_tool(tool),
    }


def is_present(found):
    """Any of the three signs counts: a node whose driver is broken is not a node without a GPU."""
    return bool(found["pci"] or found["driver"] or found["tool"])


def run(tool, arguments, timeout_s=60):
    """Run ``nvidia-smi``; return ``(exit code, stdout, stderr)``.

    Raises :class:`NvidiaError` when it cannot start or does not answer: a hung driver blocks it for ever.
    """
    if not tool:
        raise NvidiaError("nvidia-smi is not installed, or not executable")
    try:
        done = subprocess.run(
            [tool] + list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=dict(os.environ, LC_ALL="C"),
        )
    except subprocess.TimeoutExpired as error:
        raise NvidiaError("%s did not answer within %g s" % (tool, timeout_s)) from error
    except OSError as error:
        raise NvidiaError("%s did not start: %s" % (tool, error)) from error
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def query_xml(tool, timeout_s=60):
    """Return ``nvidia-smi -q -x`` parsed by :func:`parse_xml`; raises :class:`NvidiaError`."""
    code, stdout, stderr = run(tool, ["-q", "-x"], timeout_s)
    if code != 0:
        said = " ".join((stderr.strip() or stdout.strip() or "no message").split())
        raise NvidiaError("%s -q -x ended with %d: %s" % (tool, code, said[:300]))
    return parse_xml(stdout)


def _per_reason(element):
    """Return ``{"hw_slowdown": True, ...}`` of ``clocks_event_reasons`` (older: ``clocks_throttle_reasons``)."""
    reasons = {}
    for child in element if element is not None else []:
        name = re.sub(r"^clocks_(event|throttle)_reasons?_", "", child.tag)
        reasons[name] = (child.text or "").strip() == "Active"
    return reasons


def _counters_us(element):
    """Return ``{"sw_power_cap": 0, ...}`` in microseconds of ``clocks_event_reasons_counters``."""
    counters = {}
    for child in element if element is not None else []:
        counters[child.tag.replace("clocks_event_reasons_counters_", "")] = number(child.text)
    return counters


def _sum(element, wanted):
    """Sum the counters below ``element`` whose tag ``wanted`` accepts; None when the driver gave none."""
    tags = element if element is not None else []
    seen = [item for item in (number(child.text) for child in tags if wanted(child.tag)) if item is not None]
    return sum(seen) if seen else None


def _uncorrectable(tag):
    return "uncorrectable" in tag


def _correctable(tag):
    return tag.endswith("_correctable")


def _sram(tag):
    """Accept the uncorrectable SRAM counters: one, or parity and SEC-DED on newer drivers."""
    return tag.startswith("sram_uncorrectable")


PCIE = "pci/pci_gpu_link_info/"


def _first_number(gpu, base, *names):
    """Return the first of these values that the driver gives; older drivers lack the device's own."""
    return next((value for value in (number(gpu.findtext(base + name)) for name in names) if value is not None), None)


def _any_yes(gpu, *names):
    """Return whether any of these ECC states says Yes; None where the driver knows none of them."""
    seen = [yes(gpu.findtext("ecc_errors/" + name)) for name in names]
    return None if all(item is None for item in seen) else any(seen)


def parse_xml(text):
    """Parse ``nvidia-smi -q -x``.

    Returns ``{"driver": str, "cuda": str, "attached": int, "gpus": [...]}``; a value that the driver did not
    give is None, never a default. Raises :class:`NvidiaError` on text that is no such document.
    """
    try:
        # The doctype names a DTD file; ElementTree loads neither DTDs nor external entities.
        top = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise NvidiaError("nvidia-smi -q -x printed no XML (%s): %r" % (error, text[:120])) from error
    if top.tag != "nvidia_smi_log":
        raise NvidiaError("nvidia-smi -q -x printed <%s>, expected <nvidia_smi_log>" % top.tag)
    gpus = []
    for index, gpu in enumerate(top.findall("gpu")):
        reasons = gpu.find("clocks_event_reasons")
        if reasons is None:
            reasons = gpu.find("clocks_throttle_reasons")
        gpus.append(
            {
                "index": index,
                "bus_id": normal_bus_id(gpu.get("id", "0:")),
                "uuid": value_or_none(gpu.findtext("uuid")),
                "product": value_or_none(gpu.findtext("product_name")),
                "vbios": value_or_none(gpu.findtext("vbios_version")),
                "persistence": value_or_none(gpu.findtext("persistence_mode")),
                "mig": value_or_none(gpu.findtext("mig_mode/current_mig")),
                # "None" is the driver's word for "nothing to do", not a missing value.
                "recovery_action": value_or_none(gpu.findtext("gpu_recovery_action")),
                "ecc_mode": value_or_none(gpu.findtext("ecc_mode/current_ecc")),
                "ecc_volatile_corrected": _sum(gpu.find("ecc_errors/volatile"), _correctable),
                "ecc_volatile_uncorrected": _sum(gpu.find("ecc_errors/volatile"), _uncorrectable),
                "ecc_aggregate_uncorrected": _sum(gpu.find("ecc_errors/aggregate"), _uncorrectable),
                "sram_threshold_exceeded": yes(gpu.findtext("ecc_errors/aggregate/sram_threshold_exceeded")),
                "ecc_sram_corrected": number(gpu.findtext("ecc_errors/volatile/sram_correctable")),
                "ecc_sram_uncorrected_ever": _sum(gpu.find("ecc_errors/aggregate"), _sram),
                "repair_pending": _any_yes(gpu, "channel_repair_pending", "tpc_repair_pending"),
                "unrepairable": yes(gpu.findtext("ecc_errors/unrepairable_memory")),
                "remap_uncorrected": number(gpu.findtext("remapped_rows/remapped_row_unc")),
                "remap_pending": yes(gpu.findtext("remapped_rows/remapped_row_pending")),
                "remap_failure": yes(gpu.findtext("remapped_rows/remapped_row_failure")),
                "throttle": _per_reason(reasons),
                "throttle_us": _counters_us(gpu.find("clocks_event_reasons_counters")),
                "pcie_gen": _first_number(gpu, PCIE + "pcie_gen/", "device_current_link_gen", "current_link_gen"),
                "pcie_gen_max": _first_number(gpu, PCIE + "pcie_gen/", "max_device_link_gen", "max_link_gen"),
                "pcie_width": number(gpu.findtext(PCIE + "link_widths/current_link_width")),
                "pcie_width_max": number(gpu.findtext(PCIE + "link_widths/max_link_width")),
                "fabric_state": value_or_none(gpu.findtext("fabric/state")),
                "fabric_status": value_or_none(gpu.findtext("fabric/status")),
                "fabric_health": value_or_none(gpu.findtext("fabric/health/summary")),
                "temperature_c": number(gpu.findtext("temperature/gpu_temp")),
                "power_w": number(gpu.findtext("gpu_power_readings/instant_power_draw") or gpu.findtext("gpu_power_readings/power_draw")),
                "memory_total_mib": number(gpu.findtext("fb_memory_usage/total")),
                "memory_used_mib": number(gpu.findtext("fb_memory_usage/used")),
                "sm_mhz": number(gpu.findtext("clocks/sm_clock")),
                "sm_max_mhz": number(gpu.findtext("max_clocks/sm_clock")),
                "memory_mhz": number(gpu.findtext("clocks/mem_clock")),
            }
        )
    return {
        "driver": value_or_none(top.findtext("driver_version")),
        "cuda": value_or_none(top.findtext("cuda_version")),
        "attached": number(top.findtext("attached_gpus")),
        "gpus": gpus,
    }


def parse_csv(text):
    """Parse ``nvidia-smi --query-gpu=... --format=csv`` into one dictionary per GPU, keyed by the header.

    Units stay in the values (``"345 MHz"``; see :func:`number`) and leave the keys (``clocks.current.sm``).
    Raises :class:`NvidiaError` on a row that does not fit the header, which is how a lost GPU shows.
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise NvidiaError("nvidia-smi printed nothing where a CSV header was expected")
    header = [re.sub(r"\s*\[.*\]$", "", name) for name in rows[0]]
    for row in rows[1:]:
        if len(row) != len(header):
            raise NvidiaError("nvidia-smi printed %d columns, expected %d: %r" % (len(row), len(header), ", ".join(row)))
    return [dict(zip(header, row)) for row in rows[1:]]  # noqa: B905 -- strict= needs Python 3.10
