"""What systemd says of the services that a SKU names."""

from __future__ import annotations

import os
import subprocess

from .nhc_places import below

TOOLS = ("/usr/bin/systemctl", "/bin/systemctl")
RUNNING = "/run/systemd/system"  # sd_booted(3)
PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result")


def services(names, root="/", timeout_s=60):
    """Return ``{"units": {name: {property: word}}, "error", "absent"}`` for these services, asked in one call.

    ``absent`` says why nobody can be asked: none is named, or systemd does not run here.
    """
    seen = {"units": {}, "error": None, "absent": None}
    if not names:
        return dict(seen, absent="no service is named")
    tool = next((path for path in (below(root, each) for each in TOOLS) if os.access(path, os.X_OK)), None)
    if not os.path.isdir(below(root, RUNNING)) or tool is None:
        return dict(seen, absent="systemd does not run here")
    command = [tool, "show", "--no-pager", "--property=" + ",".join(PROPERTIES), "--", *names]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return dict(seen, error=str(error))
    # A block for each name, in the order asked: a unit that answers to another name still stands at its place.
    blocks = [block for block in done.stdout.decode(errors="replace").split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        return dict(seen, error="systemctl show answered for %d of %d services: %s" % (len(blocks), len(names), said or "no word"))
    return dict(seen, units={name: dict(_pairs(block)) for name, block in zip(names, blocks)})


def _pairs(block):
    for line in block.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            yield key, value
