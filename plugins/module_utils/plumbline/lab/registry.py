"""The lab's registry: Debian's ``docker-registry``, run on the machine at its address in the lab's network.

Nodes call it ``registry:5000``. Its program is that of the nodes' root filesystem, so the machine needs nothing of it. Its files start as
hard links to those of the image in the cache: what a lab pushes stays in that lab, and a blob is never written twice.
"""

from __future__ import annotations

import glob
import http.client
import json
import os
import shutil
import subprocess

from . import host as lab_host

NAME, PORT = "registry", 5000
PROGRAM = "usr/bin/docker-registry"


def folder(lab_dir):
    """Return the registry's folder; also the value of its processes' mark."""
    return os.path.join(lab_dir, "registry")


def command(rootfs, config):
    """Return what starts the registry of a root filesystem with that system's own C library; raise :class:`HostError` without one."""
    program = os.path.join(rootfs, PROGRAM)
    if not os.path.exists(program):
        raise lab_host.HostError("the package docker-registry is not in the nodes' root filesystem %s: add it to lab_packages" % rootfs)
    loaders = sorted(glob.glob(rootfs + "/lib/ld-linux-*") + glob.glob(rootfs + "/lib64/ld-linux-*"))
    if not loaders:
        raise lab_host.HostError("no C library in %s" % rootfs)
    libraries = ":".join(sorted(glob.glob(rootfs + "/usr/lib/*-linux-gnu*")))
    return [loaders[0], "--library-path", libraries, program, "serve", config]


def config(address, storage):
    """Return the registry's configuration as JSON, which YAML is: https://distribution.github.io/distribution/about/configuration/."""
    return json.dumps(
        {
            "version": "0.1",
            "log": {"accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": "%s:%d" % (address, PORT)},
        }
    )


def answers(address):
    """Tell whether a registry answers there."""
    connection = http.client.HTTPConnection(address, PORT, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def fill(source, target):
    """Make ``target`` hold the files of ``source``: blobs as hard links, the small files that say what they are called as copies."""
    shutil.rmtree(target, ignore_errors=True)

    def bring(one, other):
        if os.sep + "blobs" + os.sep in one:
            try:
                os.link(one, other)
                return other
            except OSError:
                pass  # another file system
        return shutil.copy2(one, other)

    if source:
        shutil.copytree(source, target, copy_function=bring)
    else:
        os.makedirs(target)


def start(lab_dir, rootfs, address, seconds):
    """Start the registry and wait until it answers; raise :class:`HostError` with its last words."""
    base = folder(lab_dir)
    path, log = os.path.join(base, "config.yml"), os.path.join(base, "registry.log")
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(config(address, os.path.join(base, "storage")) + "\n")
    argv = command(rootfs, path)
    with open(log, "ab") as output:
        child = subprocess.Popen(
            argv, cwd="/", env={"PATH": os.environ.get("PATH", ""), lab_host.MARKER: base}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    lab_host.wait_until(lambda: child.poll() is not None or answers(address), seconds)
    if child.poll() is not None or not answers(address):
        raise lab_host.HostError(
            "the registry does not answer at %s:%d; it said: %s" % (address, PORT, lab_host.read(log)[-1500:] or "nothing")
        )


def running(lab_dir):
    """Return the process ids of the lab's registry."""
    return lab_host.marked(folder(lab_dir)).get(folder(lab_dir), [])


def stop(lab_dir):
    """End the lab's registry; return whether one ran."""
    victims = running(lab_dir)
    lab_host.kill(victims)
    if not lab_host.wait_until(lambda: not running(lab_dir), 10):
        raise lab_host.HostError("the registry's processes %s are still there 10 s after SIGKILL" % running(lab_dir))
    return bool(victims)
