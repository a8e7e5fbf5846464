"""The lab's hands on the machine: processes, links, loop devices.

State is read from the kernel, never from a pid file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

from ..core.processes import environment_of, is_running, pids, send
from . import plan as lab

# In the environment of each node's first process; its value is the node's folder, so that labs never meet.
MARKER = "PLUMBLINE_LAB_NODE"


class HostError(RuntimeError):
    """A command that had to work did not."""


def call(*argv, check=True, timeout=120, **kwargs):
    """Run a command and return the completed process, text in and out; raise :class:`HostError` with its own words."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            stdin=kwargs.pop("stdin", None if "input" in kwargs else subprocess.DEVNULL),
            text=True,
            timeout=timeout,
            check=False,
            **kwargs,
        )
    except FileNotFoundError:
        raise HostError("the command `%s` is not installed" % argv[0]) from None
    except subprocess.TimeoutExpired:
        raise HostError("`%s` did not end within %d s" % (" ".join(argv), timeout)) from None
    if check and done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise HostError("`%s` ended with %d: %s" % (" ".join(argv), done.returncode, words))
    return done


def last_words(done, lines):
    """Return the last lines of all that a completed process (text) said."""
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-lines:])


def wait_until(condition, seconds, step=0.05):
    """Poll ``condition`` until it is true or ``seconds`` are over; return its last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(step)


def read(path, default=""):
    """Return a file's text, ``default`` when it cannot be read (processes come and go)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return default


def marked(prefix):
    """Return ``{node folder: [pids]}`` of processes whose environment marks them as a node's, below ``prefix``."""
    found = {}
    for pid in pids():
        folder = environment_of(pid).get(MARKER, "")
        if (folder + "/").startswith(prefix.rstrip("/") + "/"):
            found.setdefault(folder, []).append(pid)
    return found


def nodes_of(folder):
    """Return the folders of all nodes of the lab in ``folder`` that run or have files."""
    base = os.path.join(folder, "nodes")
    found = {os.path.join(base, name) for name in os.listdir(base)} if os.path.isdir(base) else set()
    return sorted(found | set(marked(base)))


def settings_of(folder):
    """Return the settings that the node in ``folder`` was started with, {} when there are none."""
    try:
        return json.loads(read(os.path.join(folder, "node.json"), "{}"))
    except ValueError:
        return {}


def pid1(folder):
    """Return the process id, as the machine counts, of the node's first process; None when the node is down."""
    for pid in marked(folder).get(folder, []):
        if lab.is_pid1(read("/proc/%d/status" % pid)):
            return pid
    return None


def namespace(pid, kind):
    """Return the inode of a process's namespace, None when it is gone."""
    try:
        return os.stat("/proc/%d/ns/%s" % (pid, kind)).st_ino
    except OSError:
        return None


def kill(victims, number=signal.SIGKILL):
    """Send a signal to each; a process that has gone already is fine."""
    for pid in victims:
        send(pid, number)


def stop_node(folder, address):
    """End all that runs in a node: its pid namespace by its first process, then what else is in its network namespace.

    Also end this machine's shared SSH connections to the node: a new node at the same address would be reached
    through a dead connection until keep-alives give up on it. Returns whether anything ran.
    """
    first = pid1(folder)
    victims = set(marked(folder).get(folder, []))
    if first:
        own = namespace(first, "net")
        if own and own != namespace(os.getpid(), "net"):
            victims |= {pid for pid in pids() if namespace(pid, "net") == own}
        kill([first])
    kill(victims)
    kill(ssh_clients(address), signal.SIGTERM)
    if not wait_until(lambda: not any(is_running(pid) for pid in victims), 20):
        left = [pid for pid in victims if is_running(pid)]
        raise HostError("processes %s of %s are still there 20 s after SIGKILL" % (left, folder))
    return bool(victims)


def ssh_clients(address):
    """Return the process ids of this machine's ssh clients connected to ``address``."""
    inodes = lab.established_inodes(read("/proc/net/tcp"), address)
    found = []
    if not inodes:
        return found
    wanted = {"socket:[%s]" % inode for inode in inodes}
    for pid in pids():
        if read("/proc/%d/comm" % pid).strip() != "ssh":
            continue
        try:
            links = [os.readlink("/proc/%d/fd/%s" % (pid, name)) for name in os.listdir("/proc/%d/fd" % pid)]
        except OSError:
            continue
        if wanted & set(links):
            found.append(pid)
    return found


def links(prefix=None):
    """Return the names of the machine's interfaces, those of a lab when ``prefix`` is its name."""
    names = os.listdir("/sys/class/net")
    if prefix is None:
        return sorted(names)
    return sorted(n for n in names if n.startswith(prefix + "h") and n[len(prefix) + 1 :].isdigit())


def delete_link(name):
    """Delete an interface if it is there; return whether it was."""
    if not os.path.exists("/sys/class/net/" + name):
        return False
    done = call("ip", "link", "delete", name, check=False)
    if done.returncode and os.path.exists("/sys/class/net/" + name):
        raise HostError("cannot delete the interface %s: %s" % (name, done.stderr.strip()))
    return True


def forward_rule(bridge):
    """Return iptables' words for the rule that lets the packets of a bridge pass."""
    return ["FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]


def lets_pass(bridge):
    """Say whether :func:`forward_rule` is there; None where there is no iptables."""
    if not shutil.which("iptables"):
        return None
    return call("iptables", "-w", "-C", *forward_rule(bridge), check=False).returncode == 0


def json_of(*argv):
    """Return the decoded JSON that a command prints; an empty answer is an empty list."""
    return json.loads(call(*argv).stdout or "[]")


def loops_of(folder):
    """Return the loop devices whose image lies below ``folder``."""
    found = []
    for name in sorted(os.listdir("/sys/block")):
        image = read("/sys/block/%s/loop/backing_file" % name).strip()
        if image.startswith(folder.rstrip("/") + "/"):
            found.append("/dev/" + name)
    return found


def release_loops(folder):
    """Wait for the loop devices below ``folder`` to be released with the node's mounts; detach those that are not."""
    if not wait_until(lambda: not loops_of(folder), 5):
        for device in loops_of(folder):
            call("losetup", "--detach", device, check=False)
        if not wait_until(lambda: not loops_of(folder), 15):
            raise HostError("loop devices %s below %s are still in use" % (loops_of(folder), folder))


def remove_tree(path):
    """Delete a folder; return whether it was there. Refuses one that has a file system mounted in it."""
    if not os.path.lexists(path):
        return False
    real = os.path.realpath(path)
    mounted = [line.split()[4] for line in read("/proc/self/mountinfo").splitlines()]
    inside = [point for point in mounted if point == real or point.startswith(real.rstrip("/") + "/")]
    if inside:
        raise HostError("not deleting %s: something is mounted at %s" % (path, ", ".join(inside)))
    shutil.rmtree(path)
    return True
