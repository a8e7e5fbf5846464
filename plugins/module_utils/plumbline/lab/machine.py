"""What a node needs whose lower layer is the machine's own root: other file systems, an environment, an sshd.

An overlay shows one file system: what the machine has mounted below ``/`` is empty in it and is brought into the node one by one.
"""

from __future__ import annotations

import os
import re
import shlex

# Not files of the machine, or a node has its own.
PSEUDO = {
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "hugetlbfs",
    "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
}  # fmt: skip
OWN = ("/dev", "/proc", "/sys", "/run", "/tmp", "/var/run", "/var/lock")
OWN_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/machine-id")
# A node writes below these: where the machine has another file system there, the node gets an overlay of it.
WRITTEN = ("/etc", "/home", "/root", "/var", "/var/lib", "/var/log")

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What programs find libraries by, and what whoever starts the lab has told NCCL and torch; which GPUs a node sees is its device files'.
CARRIED = re.compile(r"^(?:LD_LIBRARY_PATH|(?:NCCL|NVSHMEM|TORCH|CUDA)_\w+)$")
NOT_CARRIED = {"CUDA_VISIBLE_DEVICES", "NCCL_HOSTID"}

SSHD_CONFIG = """\
Port 22
HostKey /etc/ssh/lab_hostkey
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
AuthorizedKeysFile .ssh/authorized_keys /root/.ssh/authorized_keys
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
MaxStartups 200:30:400
MaxSessions 100
SetEnv %s
Subsystem sftp internal-sftp
"""


def parse_mounts(text):
    """Return ``[(mount point, type)]`` of ``/proc/self/mountinfo``, in its order (proc_pid_mountinfo(5))."""
    found = []
    for line in text.splitlines():
        head, _dash, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split()
        if len(fields) >= 6 and rest:
            found.append((re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), fields[4]), rest[0]))
    return found


def below(path, folder):
    """Say whether ``path`` is ``folder`` or lies in it."""
    return (path.rstrip("/") + "/").startswith(folder.rstrip("/") + "/")


def mounts(text, hidden):
    """Return ``[(kind, mount point)]`` to bring into a node, parents first: ``bind`` (read-only) or ``overlay``.

    ``hidden`` are the lab's own folders. A tmpfs comes along too where a node has none of its own: it may hold programs or a model.
    """
    found = []
    for point, kind in parse_mounts(text):
        own = [point == "/", point in OWN_FILES, *(below(point, folder) for folder in (*OWN, *hidden))]
        if any(own) or any(word in point for word in "\n\t"):
            continue
        if kind in PSEUDO:
            continue
        item = ("overlay" if point in WRITTEN else "bind", point)
        if item not in found:
            found.append(item)
    return sorted(found, key=lambda item: item[1].count("/"))


def visible(path, hidden):
    """Return None where a node sees the machine's ``path``, else the folder that it has of its own in that place."""
    return next((folder for folder in (*OWN, *hidden) if below(os.path.realpath(path), folder)), None)


def search_path(environ):
    """Return the folders where programs are looked for: those of this process, then the system's."""
    given = [folder for folder in environ.get("PATH", "").split(":") if folder.startswith("/")]
    return ":".join(dict.fromkeys(given + SYSTEM_PATH.split(":")))


def environment(environ, name):
    """Return the environment of all programs of the node ``name``, from that of the process that brings up the lab."""
    carried = {key: value for key, value in environ.items() if CARRIED.match(key) and key not in NOT_CARRIED and value.isprintable()}
    return dict(sorted(carried.items()), PATH=search_path(environ), LANG="C.UTF-8", NCCL_HOSTID=name)


def sshd_config(variables):
    """Return the node's sshd_config. sshd takes only the first SetEnv line, so that all assignments are on it."""
    quoted = ['"%s=%s"' % (key, value.replace("\\", "\\\\").replace('"', '\\"')) for key, value in variables.items()]
    return SSHD_CONFIG % " ".join(quoted)


def exports(variables):
    """Return the same for a shell."""
    return "".join("export %s=%s\n" % (key, shlex.quote(value)) for key, value in variables.items())
