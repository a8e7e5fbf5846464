"""The conf of Azure NHC: which checks it asks for, and the copy of it that a run gets.

A line is ``<hostmask> || <check>``. Without ``-c``, ``run-health-checks.sh`` appends lines to the conf that it ships; a copy
of ours gets those lines here.
"""

from __future__ import annotations

import fnmatch
import platform
import re

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


def is_setting(command):
    """Tell whether a line of a conf sets a variable (``export NHC_RM=slurm``, ``TIMEOUT=300``): NHC runs it as it runs a check."""
    return re.match(r"\s*(?:export\s+)?[A-Za-z_]\w*=", command) is not None or command.split()[:1] == ["export"]


def _meant(mask, host):
    """Tell whether a line's host mask means ``host``: a glob, or a regular expression between slashes (NHC's ``mcheck``).

    A range of nodes in braces and what cannot be read count as meant: what is owed and not run is asked after, not passed over.
    """
    negated, mask = mask.startswith("!"), mask.lstrip("!").strip()
    if not mask or mask.startswith("{"):
        return True
    try:
        if len(mask) > 1 and mask.startswith("/") and mask.endswith("/"):
            found = re.search(mask[1:-1], host) is not None
        else:
            found = fnmatch.fnmatchcase(host, mask) or fnmatch.fnmatchcase(host.split(".")[0], mask)
    except re.error:
        return True
    return found != negated


def conf_checks(text, host=None):
    """Return the check commands of an NHC conf (``<hostmask> || <check>``) that mean ``host``, by default this machine.

    Comments, settings and the checks of other hosts are left out: none of them is owed here.
    """
    found, host = [], platform.node() if host is None else host
    for line in text.splitlines():
        mask, separator, command = line.partition("||")
        command = re.sub(r"\s#.*$", "", command).strip()
        if separator and not mask.strip().startswith("#") and command and not is_setting(command) and _meant(mask.strip(), host):
            found.append(command)
    return found


def copy_conf(source, target, has_accelerated, sku):
    """Copy ``source`` to ``target``, adding what the runner would have added; return the checks in the copy."""
    with open(source, encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    if has_accelerated and "h100_v5" in (sku or "").lower() and "mlx5_an0:1" not in text:
        text += "\n" + "".join(" * || %s\n" % command for command in ACCELERATED)
    with open(target, "w", encoding="utf-8") as stream:
        stream.write(text)
    return conf_checks(text)
