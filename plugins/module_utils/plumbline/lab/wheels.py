"""Wheels for the lab's vLLM environment: reading the lock, finding wheels, and writing two small ones of our own."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zipfile

_LINE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)$")
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: the same input makes the same wheel

# glibc of Debian 12 is 2.36; a wheel for an older one runs too. "manylinux1/2010/2014" are old names of 5/12/17.
_GLIBC = range(5, 37)


def canonical(name):
    """Return a distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(text):
    """Return ``[(name, version)]`` of a lock of ``name==version`` lines; raises ValueError on any other line."""
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        match = _LINE.match(line)
        if not match:
            raise ValueError("line %d of the lock is %r: expected name==version" % (number, line))
        pins.append((canonical(match.group(1)), match.group(2)))
    return pins


def split_wheel(filename):
    """Return ``(name, version)`` of a wheel's file name, or None when it is no wheel."""
    parts = filename[:-4].split("-") if filename.endswith(".whl") else []
    return (canonical(parts[0]), parts[1].replace("%2B", "+")) if len(parts) in (5, 6) else None


def find_wheels(folder):
    """Return ``{(name, version): path}`` of the whole wheels in ``folder``; one cut short is left out."""
    found = {}
    for filename in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        key, path = split_wheel(filename), os.path.join(folder, filename)
        if key and zipfile.is_zipfile(path):  # reads the end of the file, which a cut one lacks
            found[key] = path
    return found


def torch_pins(version):
    """Return the versions of torch to accept for a lock's ``2.13.0+cpu``: the CPU build, then the plain one."""
    plain = version.split("+", 1)[0]
    return [version] if version == plain else [version, plain]


def torch_source(pins, found, recorded):
    """Return a sentence on which torch the wheelhouse holds; ``recorded`` is what the fetch noted, if it was ours."""
    path = next((resolve([pin], found)[0] for pin in pins if pin[0] == "torch"), None)
    if not path:
        return "torch is not fetched yet"
    return "%s: %s" % (os.path.basename(path[0]), recorded.strip() or "it lay among the wheels already")


def is_cuda(name):
    """Say whether a distribution is a library that the plain build of torch loads; triton it loads only for GPUs."""
    return name.startswith(("nvidia-", "cuda-"))


def resolve(pins, found):
    """Return ``(paths, missing)``: the wheel of each pin, and the pins that have none. torch may be the plain build."""
    paths, missing = [], []
    for name, version in pins:
        versions = torch_pins(version) if name == "torch" else [version]
        path = next((found[(name, item)] for item in versions if (name, item) in found), None)
        if path:
            paths.append(path)
        else:
            missing.append((name, version))
    return paths, missing


def pip_target(machine):
    """Return pip's options that ask for wheels for the nodes' Python 3.11 on glibc, whatever the controller has."""
    tags = ["manylinux_2_%d_%s" % (minor, machine) for minor in reversed(_GLIBC)]
    tags += ["manylinux2014_" + machine, "manylinux2010_" + machine, "manylinux1_" + machine, "linux_" + machine]
    options = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    return options + ["--platform=" + tag for tag in tags]


def chunks(items, size):
    """Return ``items`` in lists of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def write_wheel(folder, name, version, files=None, entry_points=None, summary=""):
    """Write a pure Python wheel to ``folder`` and return its path.

    ``files`` is ``{path in site-packages: text}``, ``entry_points`` ``{group: {name: target}}``.
    """
    stem = "%s-%s" % (re.sub(r"[-_.]+", "_", name), version)
    info = stem + ".dist-info/"
    members = dict(files or {})
    about = (name, version, summary)
    members[info + "METADATA"] = "Metadata-Version: 2.1\nName: %s\nVersion: %s\nSummary: %s\n" % about
    members[info + "WHEEL"] = "Wheel-Version: 1.0\nGenerator: plumbline\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if entry_points:
        members[info + "entry_points.txt"] = "".join(
            "[%s]\n%s\n" % (group, "".join("%s = %s\n" % pair for pair in sorted(points.items())))
            for group, points in sorted(entry_points.items())
        )
    record = "".join("%s,sha256=%s,%d\n" % (path, _digest(text), len(text.encode())) for path, text in members.items())
    members[info + "RECORD"] = record + info + "RECORD,,\n"
    path = os.path.join(folder, stem + "-py3-none-any.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            item = zipfile.ZipInfo(member, _FIXED_TIME)
            item.external_attr = 0o100644 << 16
            archive.writestr(item, text)
    return path


def _digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
