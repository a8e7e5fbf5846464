"""What a node shows about itself: evidence for the health checks, no verdicts.

Each function reads one subject and returns a plain dictionary; where something cannot be read, the value is
None or the dictionary says so under ``error``. Nothing here changes the node but :func:`write_probe`.
``root`` lets tests replay a recorded ``/proc`` and ``/sys``.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import tempfile
import time
import urllib.request
from datetime import datetime, timezone

from ..core.files import read_int, read_text

# The chassis asset tag that every Azure virtual machine shows (Azure documentation, "Azure Instance Metadata
# Service"; cloud-init uses the same one).
AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
AZURE_METADATA = "http://169.254.169.254/metadata/instance/compute/vmSize?api-version=2021-02-01&format=text"

# Where a kernel that met errors remounts read-only; squashfs, iso9660 and the like are read-only by nature.
WRITABLE_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")

PROBE_BYTES = 1 << 20


def system(root="/"):
    """Return hostname, kernel, os, python, boot time and boot id."""
    release = {}
    for line in (read_text(os.path.join(root, "etc/os-release")) or "").splitlines():
        key, _sep, value = line.partition("=")
        release[key] = value.strip("\"'")
    booted = None
    for line in (read_text(os.path.join(root, "proc/stat")) or "").splitlines():
        if line.startswith("btime "):
            booted = datetime.fromtimestamp(int(line.split()[1]), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "hostname": socket.gethostname(),
        "kernel": platform.release(),
        "os": release.get("PRETTY_NAME"),
        "python": platform.python_version(),
        "booted_at": booted,
        "boot_id": read_text(os.path.join(root, "proc/sys/kernel/random/boot_id")),
    }


def azure_vm_size(root="/", timeout_s=3):
    """Return ``{"azure": bool, "vm_size": str or None, "error": str or None}``.

    The metadata service is asked only where the DMI tag says Azure: elsewhere its address may be anything.
    """
    tag = read_text(os.path.join(root, "sys/class/dmi/id/chassis_asset_tag"))
    if tag != AZURE_ASSET_TAG:
        return {"azure": False, "vm_size": None, "error": None}
    request = urllib.request.Request(AZURE_METADATA, headers={"Metadata": "true"})
    try:
        # Proxies must not see it: Microsoft documents that the request has to bypass them.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout_s) as answer:
            return {"azure": True, "vm_size": answer.read(200).decode(errors="replace").strip(), "error": None}
    except (OSError, ValueError) as error:
        return {"azure": True, "vm_size": None, "error": str(error)}


def cpu(root="/"):
    """Return ``count`` (online processors), ``usable`` (those this process may use) and the load averages."""
    load = (read_text(os.path.join(root, "proc/loadavg")) or "").split()
    online = read_text(os.path.join(root, "sys/devices/system/cpu/online"))
    return {
        "count": count_list(online) if online else None,
        "usable": len(os.sched_getaffinity(0)),
        "load": [float(item) for item in load[:3]] if len(load) >= 3 else None,
    }


def count_list(text):
    """Count a kernel list such as ``0-3,8``."""
    total = 0
    for part in text.split(","):
        first, _sep, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def memory(root="/"):
    """Return ``/proc/meminfo`` in bytes: total, available, swap_total; None for a line that is missing."""
    lines = {}
    for line in (read_text(os.path.join(root, "proc/meminfo")) or "").splitlines():
        key, _sep, value = line.partition(":")
        if value.strip().endswith("kB"):
            lines[key] = int(value.split()[0]) * 1024
    return {
        "total": lines.get("MemTotal"),
        "available": lines.get("MemAvailable"),
        "swap_total": lines.get("SwapTotal"),
    }


def nearest_existing(path):
    """Return ``path`` or its nearest parent that exists: what a fresh node has not made yet lies there."""
    path = os.path.abspath(path)
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def disk(path, probe=True):
    """Return space, inodes and the result of a real write below ``path``.

    ``probe`` off (check mode) leaves ``write`` None. Bytes are those that an unprivileged process may still
    take, so a file system's reserve for root does not look like free space.
    """
    place = nearest_existing(path)
    seen = {"path": path, "place": place, "error": None, "write": None}
    try:
        stat = os.statvfs(place)
    except OSError as error:
        seen["error"] = error.strerror or str(error)
        return seen
    seen.update(
        total_bytes=stat.f_blocks * stat.f_frsize,
        free_bytes=stat.f_bavail * stat.f_frsize,
        # Some file systems (btrfs, overlay on it) have no inode table and report 0 of 0.
        inodes_total=stat.f_files or None,
        inodes_free=stat.f_favail if stat.f_files else None,
        read_only=bool(stat.f_flag & os.ST_RDONLY),
    )
    seen["write"] = write_probe(place) if probe else None
    return seen


def write_probe(place, size=PROBE_BYTES):
    """Write, sync, read back and remove a small file in ``place``; return ``{"ms": float, "error": str or None}``.

    The one thing the health module does to a node. It shows what numbers do not: a disk that is full, read-only,
    over quota or answers with I/O errors.
    """
    started = time.monotonic()
    name = None
    try:
        pattern = os.urandom(4096) * (size // 4096)
        handle, name = tempfile.mkstemp(dir=place, prefix=".plumbline-probe-")
        with os.fdopen(handle, "w+b") as stream:
            stream.write(pattern)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            if stream.read() != pattern:
                return {"ms": None, "error": "what was read back differs from what was written"}
    except OSError as error:
        code = errno.errorcode.get(error.errno, "?")
        return {"ms": None, "error": "%s (%s)" % (error.strerror or error, code)}
    finally:
        if name is not None:
            try:
                os.unlink(name)
            except OSError:
                pass  # a disk that just failed may refuse this too; the write's error is the verdict
    return {"ms": round((time.monotonic() - started) * 1000, 2), "error": None}


def read_only_mounts(root="/"):
    """Return mount points of disk file systems that are themselves read-only; None when unreadable.

    ``mountinfo`` tells the file system's own state (last field; what ``errors=remount-ro`` sets) from that of one
    mount: a bind mount may be read-only on purpose.
    """
    text = read_text(os.path.join(root, "proc/self/mountinfo"))
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        mount, _sep, system = line.partition(" - ")
        fields, own = mount.split(), system.split()
        if len(fields) > 4 and len(own) >= 3 and own[0] in WRITABLE_FILESYSTEMS and "ro" in own[2].split(","):
            found.append(fields[4].replace("\\040", " "))
    return sorted(set(found))


# -- network ----------------------------------------------------------------------------------------------------

SIOCGIFCONF = 0x8912


def ipv4_addresses():
    """Return ``{address: interface}`` for every IPv4 address of this node (ioctl SIOCGIFCONF)."""
    size = 40 if struct.calcsize("P") == 8 else 32  # sizeof(struct ifreq)
    room = 512 * size
    buffer = array.array("B", bytes(room))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("iP", room, buffer.buffer_info()[0])
        used = struct.unpack("iP", fcntl.ioctl(sock.fileno(), SIOCGIFCONF, request))[0]
    data = buffer.tobytes()
    found = {}
    for offset in range(0, used, size):
        name = data[offset : offset + 16].split(b"\0", 1)[0].decode()
        found[socket.inet_ntoa(data[offset + 20 : offset + 24])] = name.split(":")[0]
    return found


def ipv6_addresses(root="/"):
    """Return ``{address: interface}`` for every IPv6 address of this node (``/proc/net/if_inet6``)."""
    found = {}
    for line in (read_text(os.path.join(root, "proc/net/if_inet6")) or "").splitlines():
        fields = line.split()
        if len(fields) == 6:
            found[socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))] = fields[5]
    return found


def default_interface(root="/"):
    """Return the interface of the IPv4 default route, or None."""
    for line in (read_text(os.path.join(root, "proc/net/route")) or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            return fields[0]
    return None


def is_loopback(address):
    """Return whether ``address`` is one of the node talking to itself."""
    return address.startswith("127.") or address == "::1"


def find_interface(address, own, ssh_connection, default):
    """Return ``(interface, address, how it was found)``; interface None when nothing leads to one.

    ``address`` is what the inventory calls the node, which behind NAT (a public address on Azure) is on no
    interface of the node: then the address at which sshd took this connection, then the default route, decide.
    """
    candidates = []
    if address:
        try:
            candidates = sorted({info[4][0].split("%")[0] for info in socket.getaddrinfo(address, None)})
        except (OSError, UnicodeError):
            candidates = []  # a name that only the controller knows
    for item in candidates:
        if item in own and not is_loopback(item):
            return own[item], item, "inventory address"
    server = (ssh_connection or "").split()[2:3]
    if server and server[0] in own and not is_loopback(server[0]):
        return own[server[0]], server[0], "address of the SSH connection"
    if default:
        held = sorted(item for item, name in own.items() if name == default)
        return default, held[0] if held else None, "default route"
    for item in candidates:
        if item in own:
            return own[item], item, "inventory address (loopback)"
    return None, None, "not found"


def nic(address=None, root="/"):
    """Return state, carrier, mtu, speed and error counters of the interface that holds the node's address."""
    own = dict(ipv6_addresses(root))
    own.update(ipv4_addresses())
    name, held, how = find_interface(address, own, os.environ.get("SSH_CONNECTION"), default_interface(root))
    seen = {"interface": name, "address": held, "how": how, "wanted": address}
    if name is None:
        return seen
    base = os.path.join(root, "sys/class/net", name)
    speed = read_int(os.path.join(base, "speed"))
    seen.update(
        operstate=read_text(os.path.join(base, "operstate")),
        carrier=read_int(os.path.join(base, "carrier")),
        carrier_changes=read_int(os.path.join(base, "carrier_changes")),
        mtu=read_int(os.path.join(base, "mtu")),
        speed_mbit_s=speed if speed and speed > 0 else None,  # -1: a driver that does not know
    )
    for counter in ("rx_packets", "tx_packets", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped"):
        seen[counter] = read_int(os.path.join(base, "statistics", counter))
    return seen


# -- time -------------------------------------------------------------------------------------------------------

STA_UNSYNC = 0x0040  # linux/timex.h
STA_NANO = 0x2000


class Timex(ctypes.Structure):
    """``struct timex`` of linux/timex.h; ``modes`` 0 only reads."""

    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long),
        ("precision", ctypes.c_long), ("tolerance", ctypes.c_long), ("time_s", ctypes.c_long),
        ("time_frac", ctypes.c_long), ("tick", ctypes.c_long), ("rest", ctypes.c_long * 32),
    ]  # fmt: skip


def kernel_clock():
    """Return what adjtimex(2) says: ``synchronised``, ``offset_ms``, ``max_error_ms``; ``error`` where it fails."""
    state = Timex()
    try:
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (AttributeError, OSError) as error:
        return {"error": "adjtimex is not available: %s" % error}
    if result < 0:
        return {"error": "adjtimex: %s" % os.strerror(ctypes.get_errno())}
    return {
        "error": None,
        "synchronised": not state.status & STA_UNSYNC,
        "offset_ms": state.offset / (1e6 if state.status & STA_NANO else 1e3),
        "max_error_ms": state.maxerror / 1e3,
    }


def clock_skew(samples):
    """Return ``{"skew_ms", "bound_ms", "samples"}`` of the best exchange with the controller; None without one.

    A sample is ``{"sent", "node", "received"}``: the controller's clock, the node's, the controller's again, in
    seconds. The node read its clock somewhere between, so skew = node - (sent + received) / 2, wrong by at most
    half the round trip (the estimate of NTP, RFC 5905 section 8). The shortest round trip is the best one.
    """
    best = None
    for sample in samples or []:
        round_trip = sample["received"] - sample["sent"]
        if round_trip < 0:
            continue  # the controller's clock was set meanwhile: worthless
        skew = sample["node"] - (sample["sent"] + sample["received"]) / 2
        if best is None or round_trip / 2 * 1000 < best["bound_ms"]:
            best = {"skew_ms": round(skew * 1000, 3), "bound_ms": round(round_trip / 2 * 1000, 3)}
    if best is not None:
        best["samples"] = len(samples)
    return best
