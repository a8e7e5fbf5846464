"""Clocks as ``nvidia-smi --query-gpu`` shows them, on drivers that know all fields and on those that do not.

``nvidia-smi`` refuses a whole query for one name that it does not know (``Field "..." is not a valid field to
query.``). :class:`Reader` asks for everything, takes an older name where there is one, leaves out what stays unknown
and says so in ``missing``; only :data:`REQUIRED` must be there. Units are in the keys: MHz, percent, W, °C, µs, MiB.
"""

from __future__ import annotations

import os
import re
import subprocess

from ..machine import nvidia

COUNTER_PREFIX = "clocks_event_reasons_counters."

# Key of the dictionary: the names of the field, newest first. The throttle fields were renamed with driver 535.
FIELDS = {
    "index": ("index",),
    "bus_id": ("pci.bus_id",),
    "driver": ("driver_version",),
    "sm_mhz": ("clocks.current.sm", "clocks.sm"),
    "sm_max_mhz": ("clocks.max.sm",),
    "uuid": ("uuid",),
    "persistence": ("persistence_mode",),
    "memory_mhz": ("clocks.current.memory", "clocks.mem"),
    "applications_mhz": ("clocks.applications.graphics",),
    "utilisation_percent": ("utilization.gpu",),
    "memory_used_mib": ("memory.used",),
    "temperature_c": ("temperature.gpu",),
    "power_w": ("power.draw",),
    "power_limit_w": ("power.limit",),
    "active": ("clocks_event_reasons.active", "clocks_throttle_reasons.active"),
    "sw_power_cap_us": (COUNTER_PREFIX + "sw_power_cap",),
    "sync_boost_us": (COUNTER_PREFIX + "sync_boost",),
    "sw_thermal_slowdown_us": (COUNTER_PREFIX + "sw_thermal_slowdown",),
    "hw_thermal_slowdown_us": (COUNTER_PREFIX + "hw_thermal_slowdown",),
    "hw_power_brake_slowdown_us": (COUNTER_PREFIX + "hw_power_brake_slowdown",),
}
REQUIRED = ("index", "bus_id", "driver", "sm_mhz", "sm_max_mhz")
TEXTS = ("driver", "uuid", "persistence", "active")
COUNTERS = {key[: -len("_us")]: key for key, names in FIELDS.items() if names[0].startswith(COUNTER_PREFIX)}

# The same counters in ``nvidia-smi -q -x`` (H200 capture); some drivers have them there and not as fields.
XML_COUNTERS = {
    "sw_power_cap": "sw_power_cap",
    "sync_boost": "sync_boost",
    "sw_therm_slowdown": "sw_thermal_slowdown",
    "sw_thermal_slowdown": "sw_thermal_slowdown",
    "hw_therm_slowdown": "hw_thermal_slowdown",
    "hw_thermal_slowdown": "hw_thermal_slowdown",
    "hw_power_brake": "hw_power_brake_slowdown",
    "hw_power_brake_slowdown": "hw_power_brake_slowdown",
}

# Bits of clocks_event_reasons.active: NVML API reference, "NvmlClocksEventReasons".
REASON_BITS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}

MASK_LENGTH = len("0x0000000000000000")
UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field to query')


def parse_reasons(text):
    """Return the names behind a mask such as ``0x0000000000000005``; None without a mask.

    A bit that NVML did not document yet is named ``unknown_0x...``, so that it is seen.
    """
    text = nvidia.value_or_none(text)
    if not text or not re.fullmatch("0x[0-9a-f]{1,16}", text, re.IGNORECASE):
        return None
    mask = int(text, 16)
    names, bit = [], 1
    while bit <= mask:
        if mask & bit:
            names.append(REASON_BITS.get(bit, "unknown_0x%x" % bit))
        bit <<= 1
    return names


def parse_gpus(text):
    """Parse the CSV of any of :data:`FIELDS`, with its header; return one dictionary per GPU.

    A field that was not asked for, or that the driver has no value for, is None. ``reasons`` are the names of the
    active clock event reasons, ``throttle_us`` the counters by reason. Raises ``nvidia.NvidiaError``: for a header without the
    columns that name a GPU, and for a row that is a message, which is how a lost GPU shows.
    """
    gpus = []
    rows = nvidia.parse_csv(text, ("index", "pci.bus_id"))
    if rows and not text.endswith("\n"):
        _drop_cut_mask(rows)
    for row in rows:
        gpu = {}
        for key, names in FIELDS.items():
            cell = next((row[name] for name in names if name in row), None)
            text_or_number = nvidia.value_or_none if key in TEXTS or key == "bus_id" else nvidia.number
            gpu[key] = nvidia.count(cell) if key == "index" else text_or_number(cell)
        if gpu["index"] is None or gpu["bus_id"] is None or ":" not in gpu["bus_id"]:
            raise nvidia.NvidiaError("nvidia-smi printed a GPU that cannot be read: %r" % row)
        gpu["bus_id"] = nvidia.normal_bus_id(gpu["bus_id"])
        gpu["reasons"] = parse_reasons(gpu.pop("active"))
        gpu["throttle_us"] = {name: gpu.pop(key) for name, key in COUNTERS.items()}
        gpus.append(gpu)
    return gpus


def _drop_cut_mask(rows):
    """Take the mask from the last row of an answer without its last line end, if digits are missing: it would read as fewer.

    The driver pads masks to 16 digits.
    """
    for name in FIELDS["active"]:
        padded = any(len(row.get(name, "")) == MASK_LENGTH for row in rows[:-1])
        mask = rows[-1].get(name, "")
        if len(mask) < MASK_LENGTH and (padded or re.fullmatch("0x0[0-9a-f]+", mask, re.IGNORECASE)):
            rows[-1][name] = ""


def without_identity(gpu):
    """Return a GPU without what identifies the piece of hardware: facts and results carry no UUID or serial number."""
    return {key: value for key, value in gpu.items() if key != "uuid"}


class Reader:
    """Reads the GPUs, again and again with the names that this driver turned out to know."""

    def __init__(self, tool, timeout_s=60):
        self.tool = tool
        self.timeout_s = timeout_s
        self.names = {key: list(names) for key, names in FIELDS.items()}

    @property
    def missing(self):
        """Fields that this driver does not know under any name."""
        return [FIELDS[key][0] for key in FIELDS if not self.names[key]]

    def read(self, counters=True):
        """Return the GPUs; with ``counters`` the throttle counters come from the XML where the query has none.

        Raises ``nvidia.NvidiaError``, also when a field of :data:`REQUIRED` is unknown.
        """
        while True:
            wanted = [names[0] for names in self.names.values() if names]
            code, stdout, stderr = nvidia.run(self.tool, ["--query-gpu=" + ",".join(wanted), "--format=csv"], self.timeout_s)
            # 14: the InfoROM of a GPU is corrupted, which node_health judges; the rows are there.
            if code == 0 or (code == 14 and "infoROM" in stdout + stderr and "pci.bus_id" in stdout):
                break
            unknown = UNKNOWN_FIELD.search(stdout) or UNKNOWN_FIELD.search(stderr)
            if unknown is None or not self._forget(unknown.group(1)):
                said = " ".join((stderr.strip() or stdout.strip() or "no message").split())
                raise nvidia.NvidiaError("nvidia-smi --query-gpu ended with %d: %s" % (code, said[:300]))
        gpus = parse_gpus(stdout)
        if counters and any(not self.names[key] for key in COUNTERS.values()):
            self._fill_counters(gpus)
        return gpus

    def follow(self, interval_s):
        """Return a :class:`Loop` that prints the GPUs every ``interval_s`` seconds, with the names that :meth:`read` found out."""
        wanted = [names[0] for names in self.names.values() if names]
        return Loop(self.tool, ["--query-gpu=" + ",".join(wanted), "--format=csv", "-lms", str(int(interval_s * 1000))])

    def _forget(self, field):
        """Drop a name that the driver refused; return whether asking again makes sense."""
        for key, names in self.names.items():
            if field in names:
                if key in REQUIRED and len(names) == 1:
                    return False
                names.remove(field)
                if field.startswith(COUNTER_PREFIX):  # they came together, so one refusal tells of all
                    for other in COUNTERS.values():
                        self.names[other] = []
                return True
        return False

    def _fill_counters(self, gpus):
        """Take the counters from ``nvidia-smi -q -x``; they stay None where it has none either."""
        try:
            shown = nvidia.query_xml(self.tool, self.timeout_s, plain=False)["gpus"]
        except nvidia.NvidiaError:
            return
        by_bus = {item["bus_id"]: item.get("throttle_us") or {} for item in shown}
        for gpu in gpus:
            for name, value in by_bus.get(gpu["bus_id"], {}).items():
                if name in XML_COUNTERS:
                    gpu["throttle_us"][XML_COUNTERS[name]] = value


class Loop:
    """One ``nvidia-smi -lms`` whose answers come one after the other: a process for each would load the node that is measured.

    Raises ``nvidia.NvidiaError`` where it does not start. :meth:`end` may be called from another thread.
    """

    def __init__(self, tool, arguments):
        try:
            self.process = subprocess.Popen(
                [tool] + arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(os.environ, LC_ALL="C"),
            )
        except (OSError, TypeError) as error:
            raise nvidia.NvidiaError("%s did not start: %s" % (tool, error)) from error

    def texts(self, count):
        """Yield the CSV of each answer, with its header, of up to ``count`` GPUs; ends with the process.

        The header comes once. A GPU that comes again begins the next answer, so that one which is lost shifts nothing; lines
        that are no rows, such as a warning of the InfoROM, are left out.
        """
        header, rows = None, {}
        for raw in self.process.stdout:
            line = raw.decode(errors="replace")
            if header is None:
                header = line if "pci.bus_id" in line else None
                continue
            index = line.split(",")[0].strip()
            if line.count(",") != header.count(",") or not index.isdigit():
                continue
            if index in rows:
                yield header + "".join(rows.values())
                rows = {}
            rows[index] = line
            if len(rows) == count:
                yield header + "".join(rows.values())
                rows = {}
        self.process.stdout.close()

    def end(self):
        """End the process, and with it :meth:`texts`."""
        try:
            self.process.terminate()
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()  # one that hangs in the driver goes when the driver lets it
