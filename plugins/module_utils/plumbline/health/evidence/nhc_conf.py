"""The conf of Azure NHC: which checks it asks for, and the copy of it that a run gets.

A line is ``<hostmask> || <check>``. Without ``-c``, ``run-health-checks.sh`` appends lines to the conf that it ships; a copy
of ours gets those lines here.
"""

from __future__ import annotations

import os

# Checks that a conf lists once for each port or interface: their last argument tells them apart.
KEYED = ("check_hw_ib", "check_hw_eth")

# The accelerated network, where it is an InfiniBand-class device, and what the runner then adds (its list AN100).
ACCELERATED_DEVICE = "mlx5_an0"
ACCELERATED = ("check_hw_ib 100 mlx5_an0:1", "check_hw_eth eth1")


def name_of(command):
    """Return the check's name and, for :data:`KEYED`, its port or interface: ``check_hw_ib mlx5_ib0:1``."""
    words = command.split()
    if not words:
        return ""
    return "%s %s" % (words[0], words[-1]) if words[0] in KEYED and len(words) > 1 else words[0]


def conf_checks(text):
    """Return the check commands of an NHC conf (``<hostmask> || <check>``), comments left out."""
    found = []
    for line in text.splitlines():
        mask, separator, command = line.partition("||")
        if separator and not mask.strip().startswith("#") and command.strip():
            found.append(command.strip())
    return found


def conf_path(script, sku, given=None):
    """Return the conf to copy: the one given, else ``conf/<size>.conf`` beside the real script."""
    if given:
        return given
    name = (sku or "").lower().replace("standard_", "", 1)
    return os.path.join(os.path.dirname(os.path.realpath(script)), "conf", name + ".conf")


def copy_conf(source, target, has_accelerated, sku):
    """Copy ``source`` to ``target``, adding what the runner would have added; return the checks in the copy."""
    with open(source, encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    if has_accelerated and "h100_v5" in (sku or "").lower() and "mlx5_an0:1" not in text:
        text += "\n" + "".join(" * || %s\n" % command for command in ACCELERATED)
    with open(target, "w", encoding="utf-8") as stream:
        stream.write(text)
    return conf_checks(text)
