"""Is there an NVIDIA GPU, and what does ``nvidia-smi`` say about it: evidence, no verdicts."""

from __future__ import annotations

import csv
import glob
import io
import os
import re
import shutil
import subprocess
from xml.etree import ElementTree

from ..core.files import read_text
from . import nvidia_messages as messages

NVIDIA_VENDOR = "0x10de"
# PCI base class 03: display controller. H100 and H200 are 0x0302 (3D controller).
DISPLAY_CLASS = "0x03"
# What the driver tells of each GPU that it has, and the line with the number of its device file.
INFORMATION = "/proc/driver/nvidia/gpus/*/information"
MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.M)
# The GPUs that this process looks at, index by UUID (``gpu_choice.look_only_at``); none is all.
ONLY = {}


class NvidiaError(Exception):
    """``nvidia-smi`` could not be run, failed, or printed what cannot be read; the text says which."""


def value_or_none(text):
    """Return ``text`` stripped, or None where the driver says that there is no value, or that it could not read it."""
    text = (text or "").strip()
    return None if messages.is_absent(text) or messages.is_unreadable(text) else text


def number(text):
    """Return the leading number of ``"1980 MHz"``, ``"16x"`` or ``"0 us"``; None where there is none.

    A number that goes on after its end (``1,980``, ``12.5.3``) cannot be read: better none than its first digits.
    """
    text = value_or_none(text)
    match = re.match(r"x?([-+]?[0-9]+(?:\.[0-9]+)?)(?![0-9.,])", text) if text else None
    if match is None:
        return None
    return float(match.group(1)) if "." in match.group(1) else int(match.group(1))


def count(text):
    """Return a number of things: whole and not negative, else None; NVML's "no value" of 64 bits is none either."""
    value = number(text)
    return value if isinstance(value, int) and 0 <= value < 2**64 - 1 else None


def yes(text):
    """Return True for ``Yes``, False for ``No``, None where the driver gave neither."""
    return {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}.get((text or "").strip().lower())


def normal_bus_id(text):
    """Return a PCI address in sysfs form: ``00000001:00:00.0`` and ``0001:00:00.0`` are both ``0001:00:00.0``.

    Raises :class:`NvidiaError` for what is no address: a GPU that cannot be told from others cannot be judged.
    """
    match = re.fullmatch(r"([0-9a-f]{1,8}):([0-9a-f]{1,2}:[0-9a-f]{1,2}\.[0-9a-f])", (text or "").strip().lower())
    if match is None:
        raise NvidiaError("nvidia-smi printed a PCI address that cannot be read: %r" % (text or "")[:60])
    return "%04x:%s" % (int(match.group(1), 16), match.group(2))


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
            found.append(address.lower())
    return found


def parse_information(text):
    """Return the minor number in ``/proc/driver/nvidia/gpus/<address>/information``, None without one."""
    found = MINOR.search(text)
    return int(found.group(1)) if found else None


def minors(root="/"):
    """Return ``{PCI address: minor number}`` as the driver has it; a GPU of which it does not tell is left out."""
    paths = glob.glob(os.path.join(root, INFORMATION.lstrip("/")))
    found = {os.path.basename(os.path.dirname(path)).lower(): parse_information(read_text(path) or "") for path in paths}
    return {address: minor for address, minor in found.items() if minor is not None}


def others(root="/"):
    """Return the PCI addresses of GPUs that the driver has, but that this node was not given: their device file is not here.

    A container or a lab node sees the whole machine's PCI bus and ``/proc``, and the device files of its own GPUs only. A GPU that is
    lost keeps its file, and one that the driver could not start has no entry, so neither is taken for another node's. Where no GPU
    has a file, nothing is: then the files are what is wrong.
    """
    given, missing = [], []
    for address, minor in sorted(minors(root).items()):
        (given if os.path.exists(os.path.join(root, "dev/nvidia%d" % minor)) else missing).append(address)
    return missing if given else []


def presence(tool=None, root="/"):
    """Return what speaks for a GPU here: ``{"pci": [...], "others": [...], "driver": bool, "tool": path or None}``.

    ``pci`` are the GPUs on the bus without ``others``, those that belong to another node on this machine (see :func:`others`).
    """
    elsewhere = others(root)
    return {
        "pci": [address for address in pci_gpus(root) if address not in elsewhere],
        "others": elsewhere,
        "driver": os.path.isdir(os.path.join(root, "proc/driver/nvidia")),
        "tool": find_tool(tool),
    }


def is_present(found):
    """Any of the three signs counts: a node whose driver is broken is not a node without a GPU."""
    return bool(found["pci"] or found["driver"] or found["tool"])


def run(tool, arguments, timeout_s=60, only=ONLY):
    """Run ``nvidia-smi`` for the GPUs that ``only`` names, none for all; return ``(exit code, stdout, stderr)``.

    Raises :class:`NvidiaError` when it cannot start or does not answer: a hung driver blocks it for ever.
    """
    if not tool:
        raise NvidiaError("nvidia-smi is not installed, or not executable")
    try:
        done = subprocess.run(
            [tool, *arguments, *(["-i", ",".join(only)] if only else [])],
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


def query_xml(tool, timeout_s=60, plain=True):
    """Return ``nvidia-smi -q -x`` parsed by :func:`parse_xml`; raises :class:`NvidiaError`.

    With ``plain`` the tool is also called without arguments: only that call tells of a corrupted InfoROM (exit code 14).
    A code that tells of a GPU's state, beside a whole document, is one of its ``messages``.
    """
    code, stdout, stderr = run(tool, ["-q", "-x"], timeout_s)
    if code != 0 and END not in stdout:
        raise NvidiaError("%s -q -x ended with %d: %s" % (tool, code, _said(stdout, stderr)))
    smi = parse_xml(stdout)
    if ONLY:
        smi["attached"] = None  # the driver counts all of the machine's
        for gpu in smi["gpus"]:
            gpu["index"] = ONLY.get(gpu["uuid"], gpu["index"])
    smi["messages"] += [line for line in stderr.splitlines() if messages.state_of(line)]
    if code != 0:
        smi["messages"].append("nvidia-smi -q -x ended with %d: %s" % (code, messages.EXIT_CODES.get(code, "an internal error")))
    if plain:
        smi["messages"] += [line for line in plain_messages(tool, timeout_s) if line not in smi["messages"]]
    return smi


def inforom_checksums(tool, timeout_s=60):
    """Return ``{"told": {bus id: word}, "said": None or why nothing is told}``; a word is ``valid``, ``invalid`` or ``N/A``.

    Older drivers do not know the question and exit with 2 (man nvidia-smi: an invalid argument): nothing is told, and that is all right.
    """
    try:
        code, stdout, stderr = run(tool, ["--query-gpu=pci.bus_id,inforom.checksum_validation", "--format=csv"], timeout_s)
        if code == 2:
            return {"told": {}, "said": None}
        if code not in (0, 14):  # 14: one of them is corrupted
            raise NvidiaError("nvidia-smi ended with %d: %s" % (code, _said(stdout, stderr)))
        rows = parse_csv(stdout, ("pci.bus_id", "inforom.checksum_validation"))
        return {"told": {normal_bus_id(row["pci.bus_id"]): row["inforom.checksum_validation"].strip() for row in rows}, "said": None}
    except NvidiaError as error:
        return {"told": {}, "said": str(error)}


def plain_messages(tool, timeout_s=60):
    """Return what ``nvidia-smi`` without arguments says of a GPU's state, in its exit code or in words."""
    try:
        code, stdout, stderr = run(tool, [], timeout_s)
    except NvidiaError as error:
        return [str(error)]
    found = [line.strip() for line in (stdout + "\n" + stderr).splitlines() if messages.state_of(line) and "|" not in line]
    if code in messages.EXIT_CODES and not found:
        found.append("nvidia-smi ended with %d: %s" % (code, messages.EXIT_CODES[code]))
    return found


def _said(stdout, stderr):
    """Return what the tool said on one line of at most 300 characters; an XML document is no message."""
    text = stderr.strip() or re.split(r"<\?xml|<nvidia_smi_log", stdout)[0].strip() or stdout.strip() or "no message"
    return " ".join(text.split())[:300]


def _per_reason(element):
    """Return ``{"hw_slowdown": True, ...}`` of ``clocks_event_reasons`` (older: ``clocks_throttle_reasons``), None if unreadable."""
    reasons = {}
    for child in element if element is not None else []:
        name = re.sub(r"^clocks_(event|throttle)_reasons?_", "", child.tag)
        # Neither of the two words: not readable, which is not the same as not active.
        reasons[name] = {"active": True, "not active": False}.get((child.text or "").strip().lower())
    return reasons


def _counters_us(element):
    """Return ``{"sw_power_cap": 0, ...}`` in microseconds of ``clocks_event_reasons_counters``."""
    counters = {}
    for child in element if element is not None else []:
        counters[child.tag.replace("clocks_event_reasons_counters_", "")] = count(child.text)
    return counters


def _sum(element, wanted):
    """Sum the counters below ``element`` whose tag ``wanted`` accepts; None when the driver gave none."""
    tags = element if element is not None else []
    seen = [item for item in (count(child.text) for child in tags if wanted(child.tag)) if item is not None]
    return sum(seen) if seen else None


def _ecc(gpu, period, wanted, old):
    """Sum ECC counters of a period; up to Volta the driver groups them, and ``old`` names the group with the ``total``.

    In MIG mode the driver may give them by instance (``mig_devices``) and not for the GPU.
    """
    found = _sum(gpu.find("ecc_errors/" + period), wanted)
    if found is None:
        found = count(gpu.findtext("ecc_errors/%s/%s/total" % (period, old)))
    if found is None and period == "volatile":
        parts = [_sum(item, wanted) for item in gpu.findall("mig_devices/mig_device/ecc_error_count/volatile_count")]
        found = None if None in parts or not parts else sum(parts)
    return found


def _uncorrectable(tag):
    return "uncorrectable" in tag


def _correctable(tag):
    return tag.endswith("_correctable")


def _sram(tag):
    """Accept the uncorrectable SRAM counters: one, or parity and SEC-DED on newer drivers."""
    return tag.startswith("sram_uncorrectable")


PCIE = "pci/pci_gpu_link_info/"
END = "</nvidia_smi_log>"


def _first_number(gpu, base, *names):
    """Return the first of these values that the driver gives; older drivers lack the device's own."""
    return next((value for value in (number(gpu.findtext(base + name)) for name in names) if value is not None), None)


def _any_yes(gpu, *names):
    """Return whether any of these ECC states says Yes; None where the driver knows none of them."""
    seen = [yes(gpu.findtext("ecc_errors/" + name)) for name in names]
    return None if all(item is None for item in seen) else any(seen)


def _recovery_action(gpu):
    """Return what the driver asks for, ``None`` (its word) for nothing; older drivers say it in two answers."""
    action = value_or_none(gpu.findtext("gpu_recovery_action"))
    if action is not None:
        return action
    reset = yes(gpu.findtext("gpu_reset_status/reset_required"))
    drain = yes(gpu.findtext("gpu_reset_status/drain_and_reset_recommended"))
    if reset or drain:
        return "Reset" if reset else "Drain and Reset"
    return None if reset is None else "None"


def _unreadable(gpu):
    """Return ``{words: [tag, ...]}`` of what the driver could not read, in the words that it gave in place of values."""
    found = {}
    for item in gpu.iter():
        text = (item.text or "").strip()
        if text and messages.is_unreadable(text):
            found.setdefault(text.strip("[]"), []).append(item.tag)
    return found


def _outside(text):
    """Return ``(document, [message, ...])``: the tool prints messages before and after its document.

    Raises :class:`NvidiaError` for a document that is not there, or not whole.
    """
    start = re.search(r"<\?xml|<!DOCTYPE|<nvidia_smi_log", text)
    end = text.rfind(END)
    if start is None:
        raise NvidiaError("nvidia-smi -q -x printed no XML: %r" % text[:300])
    if end < 0:
        raise NvidiaError("nvidia-smi -q -x printed an answer that is cut: no %s in %d characters: %r" % (END, len(text), text[:120]))
    end += len(END)
    lines = (text[: start.start()] + "\n" + text[end:]).splitlines()
    return text[start.start() : end], [line.strip() for line in lines if line.strip()]


def parse_xml(text):
    """Parse ``nvidia-smi -q -x``.

    Returns ``{"driver": str, "cuda": str, "attached": int, "gpus": [...], "messages": [...]}``; a value that the driver did
    not give is None, never a default, and ``unreadable`` of a GPU has what it could not read. Raises :class:`NvidiaError`
    on text that is no such document.
    """
    document, said = _outside(text)
    try:
        # The doctype names a DTD file; ElementTree loads neither DTDs nor external entities.
        top = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError) as error:
        raise NvidiaError("nvidia-smi -q -x printed no XML (%s): %r" % (error, text[:120])) from error
    if top.tag != "nvidia_smi_log":
        raise NvidiaError("nvidia-smi -q -x printed <%s>, expected <nvidia_smi_log>" % top.tag)
    # A message that went between two elements.
    said += [item.tail.strip() for item in top.iter() if item.tail and item.tail.strip()]
    return {
        "driver": value_or_none(top.findtext("driver_version")),
        "cuda": value_or_none(top.findtext("cuda_version")),
        "attached": count(top.findtext("attached_gpus")),
        "gpus": [_gpu(gpu, index) for index, gpu in enumerate(top.findall("gpu"))],
        "messages": said,
    }


def _address(gpu):
    """Return the PCI address of a GPU, from its ``id`` or from its PCI section."""
    for text in (gpu.get("id"), gpu.findtext("pci/pci_bus_id")):
        if text and ":" in text:
            return normal_bus_id(text)
    return normal_bus_id(gpu.get("id"))


def _gpu(gpu, index):
    """Return what is read of one GPU's element."""
    return dict(
        _identity(gpu, index),
        **_memory_errors(gpu),
        **_clocks(gpu),
        **_links(gpu),
        unreadable=_unreadable(gpu),
        temperature_c=number(gpu.findtext("temperature/gpu_temp")),
        power_w=_first_number(gpu, "gpu_power_readings/", "instant_power_draw", "power_draw", "average_power_draw"),
        memory_total_mib=number(gpu.findtext("fb_memory_usage/total")),
        memory_used_mib=number(gpu.findtext("fb_memory_usage/used")),
    )


def _identity(gpu, index):
    return {
        "index": index,
        "bus_id": _address(gpu),
        "uuid": value_or_none(gpu.findtext("uuid")),
        "product": value_or_none(gpu.findtext("product_name")),
        "vbios": value_or_none(gpu.findtext("vbios_version")),
        "persistence": value_or_none(gpu.findtext("persistence_mode")),
        "mig": value_or_none(gpu.findtext("mig_mode/current_mig")),
        # "None" is the driver's word for "nothing to do", not a missing value.
        "recovery_action": _recovery_action(gpu),
    }


def _memory_errors(gpu):
    """ECC, row remapping, and the retired pages that GPUs up to Volta and Turing have in its place."""
    return {
        "ecc_mode": value_or_none(gpu.findtext("ecc_mode/current_ecc")),
        "ecc_volatile_corrected": _ecc(gpu, "volatile", _correctable, "single_bit"),
        "ecc_volatile_uncorrected": _ecc(gpu, "volatile", _uncorrectable, "double_bit"),
        "ecc_aggregate_uncorrected": _ecc(gpu, "aggregate", _uncorrectable, "double_bit"),
        "sram_threshold_exceeded": yes(gpu.findtext("ecc_errors/aggregate/sram_threshold_exceeded")),
        "ecc_sram_corrected": count(gpu.findtext("ecc_errors/volatile/sram_correctable")),
        "ecc_sram_uncorrected_ever": _sum(gpu.find("ecc_errors/aggregate"), _sram),
        "repair_pending": _any_yes(gpu, "channel_repair_pending", "tpc_repair_pending"),
        "unrepairable": yes(gpu.findtext("ecc_errors/unrepairable_memory")),
        "remap_uncorrected": count(gpu.findtext("remapped_rows/remapped_row_unc")),
        "remap_pending": yes(gpu.findtext("remapped_rows/remapped_row_pending")),
        "remap_failure": yes(gpu.findtext("remapped_rows/remapped_row_failure")),
        "remap_banks_none": count(gpu.findtext("remapped_rows/row_remapper_histogram/row_remapper_histogram_none")),
        "retirement_pending": yes(gpu.findtext("retired_pages/pending_retirement") or gpu.findtext("retired_pages/pending_blacklist")),
    }


def _clocks(gpu):
    reasons = gpu.find("clocks_event_reasons")
    counters = gpu.find("clocks_event_reasons_counters")
    return {
        "throttle": _per_reason(gpu.find("clocks_throttle_reasons") if reasons is None else reasons),
        "throttle_us": _counters_us(counters),
        "sm_mhz": number(gpu.findtext("clocks/sm_clock")),
        "sm_max_mhz": number(gpu.findtext("max_clocks/sm_clock")),
        "memory_mhz": number(gpu.findtext("clocks/mem_clock")),
    }


def _links(gpu):
    """The link to the host, and what the fabric manager made of the links between GPUs."""
    return {
        "pcie_gen": _first_number(gpu, PCIE + "pcie_gen/", "device_current_link_gen", "current_link_gen"),
        "pcie_gen_max": _first_number(gpu, PCIE + "pcie_gen/", "max_device_link_gen", "max_link_gen"),
        # What GPU and slot reach together: less than the GPU alone in an older slot.
        "pcie_gen_slot": count(gpu.findtext(PCIE + "pcie_gen/max_link_gen")),
        "pcie_width": count(gpu.findtext(PCIE + "link_widths/current_link_width")),
        "pcie_width_max": count(gpu.findtext(PCIE + "link_widths/max_link_width")),
        "fabric_state": value_or_none(gpu.findtext("fabric/state")),
        "fabric_status": value_or_none(gpu.findtext("fabric/status")),
        "fabric_health": value_or_none(gpu.findtext("fabric/health/summary")),
    }


def parse_csv(text, required=()):
    """Parse ``nvidia-smi --query-gpu=... --format=csv`` into one dictionary per GPU, keyed by the header.

    Units stay in the values (``"345 MHz"``; see :func:`number`) and leave the keys (``clocks.current.sm``).
    Raises :class:`NvidiaError` on a row that does not fit the header, which is how a lost GPU shows, and on a header without
    the ``required`` columns: a message such as ``No devices were found`` is none. A warning of the InfoROM, which is said
    beside the rows, is no row.
    """
    lines = [line for line in text.splitlines() if messages.state_of(line) != messages.INFOROM]
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines))) if row]
    except csv.Error as error:
        raise NvidiaError("nvidia-smi printed no CSV (%s): %r" % (error, text[:120])) from error
    if not rows:
        raise NvidiaError("nvidia-smi printed nothing where a CSV header was expected")
    header = [re.sub(r"\s*\[.*\]$", "", name) for name in rows[0]]
    if not set(required) <= set(header):
        raise NvidiaError("nvidia-smi printed no CSV header with %s: %r" % (", ".join(required), ", ".join(rows[0])[:200]))
    for row in rows[1:]:
        if len(row) != len(header):
            raise NvidiaError("nvidia-smi printed %d columns, expected %d: %r" % (len(row), len(header), ", ".join(row)))
    return [dict(zip(header, row)) for row in rows[1:]]  # noqa: B905 -- strict= needs Python 3.10
