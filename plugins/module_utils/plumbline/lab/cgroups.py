"""The cgroups of the nodes' engines: whether this machine has what an engine needs, and removing what a node left.

An engine makes its cgroups with the first container and never removes their parent; those of a killed node stay too.
They are named after the node's link: unlike its own name (node 1 of lab ``a1`` and node 11 of lab ``a`` are both ``a11``)
that is one lab's only.
"""

from __future__ import annotations

import os
import re

from . import host as lab_host

ROOT = "/sys/fs/cgroup"
PREFIX = "plumbline-"


def hierarchies(root=ROOT):
    """Return the folders that cgroups are made in: the root itself (version 2), or one for each controller (version 1)."""
    if os.path.exists(os.path.join(root, "cgroup.controllers")):
        return [root]
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    found = {os.path.realpath(os.path.join(root, name)) for name in names}  # cpu and cpuacct may be one, by two names
    return sorted(path for path in found if os.path.exists(os.path.join(path, "cgroup.procs")))


def lacks(root=ROOT):
    """Return why an engine cannot run with this machine's cgroups, None when it can; leaves nothing behind."""
    found = hierarchies(root)
    if not found:
        return "no cgroups are mounted at %s" % root
    if found != [root] and os.path.join(os.path.realpath(root), "devices") not in found:
        return "the devices cgroup is not mounted below %s" % root  # dockerd refuses to start without
    probe = "%sprobe-%d" % (PREFIX, os.getpid())
    for folder in found:
        path = os.path.join(folder, probe)
        try:
            os.mkdir(path)
            os.rmdir(path)
        except OSError as error:
            return "cannot make a cgroup in %s: %s" % (folder, error.strerror)
    return None


def left(pattern, root=ROOT):
    """Return the cgroups, in all hierarchies, of nodes whose link's name matches the regular expression ``pattern``."""
    name = re.compile(PREFIX + "(?:%s)" % pattern)
    found = []
    for folder in hierarchies(root):
        found += [os.path.join(folder, item) for item in os.listdir(folder) if name.fullmatch(item)]
    return sorted(found)


def remove(pattern, seconds=10, root=ROOT):
    """Remove the cgroups of nodes that match; wait for the last of their processes; raise :class:`HostError`."""

    def emptied():
        for top in left(pattern, root):
            for folder, _folders, _files in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    return False  # a killed process is still in it
        return True

    if not lab_host.wait_until(emptied, seconds):
        raise lab_host.HostError("cgroups %s are still in use" % ", ".join(left(pattern, root)))
