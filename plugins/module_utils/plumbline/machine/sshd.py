"""Which public host keys does this machine's sshd show, and on which port? Asked of sshd itself, never of the network."""

from __future__ import annotations

import os

from ..core.processes import pids

OPTIONS = ("-f", "-h", "-o", "-p")  # which decide the host keys and the port (sshd(8))


def listener_options(cmdline):
    """Return ``(program, its -f, -h, -o and -p options)`` when a process's title is a listening sshd's, else None.

    A listening sshd has its own command line as its title, as in
    ``sshd: /usr/sbin/sshd -D -f /etc/ssh/lab_sshd_config [listener] 0 of 10-100 startups``.
    Older ones keep their plain argv. A session's title (``sshd: root@notty``) has no path.
    """
    words = cmdline.replace("\0", " ").split()
    if words[:1] == ["sshd:"]:
        if "[listener]" not in words:
            return None
        words = words[1 : words.index("[listener]")]
    if not words or os.path.basename(words[0]) != "sshd" or not os.path.isabs(words[0]):
        return None
    options, rest = [], words[1:]
    while rest:
        word = rest.pop(0)
        if word in OPTIONS and rest:
            options += [word, rest.pop(0)]
        elif word[:2] in OPTIONS and len(word) > 2:
            options.append(word)
    return words[0], options


def listeners(proc="/proc"):
    """Return :func:`listener_options` of every listening sshd, lowest pid first; an own copy of each once."""
    found = []
    for pid in sorted(pids(proc)):
        try:
            with open(os.path.join(proc, str(pid), "cmdline"), encoding="utf-8", errors="replace") as text:
                entry = listener_options(text.read())
        except OSError:
            continue
        if entry and entry not in found:
            found.append(entry)
    return found


def host_key_paths(sshd_t):
    """Return the private host key files named in the output of ``sshd -T``."""
    paths = []
    for line in sshd_t.splitlines():
        key, _blank, value = line.partition(" ")
        if key.lower() == "hostkey" and value:
            paths.append(value.strip())
    return paths


def port(sshd_t):
    """Return the first port in the output of ``sshd -T``, None without one."""
    for line in sshd_t.splitlines():
        key, _blank, value = line.partition(" ")
        if key.lower() == "port" and value.strip().isdigit():
            return int(value)
    return None


def public_key(text):
    """Return ``type base64`` of a public key's line, None when it is none."""
    fields = text.split()
    if len(fields) >= 2 and (fields[0].startswith("ssh-") or fields[0].startswith("ecdsa-")):
        return " ".join(fields[:2])
    return None
