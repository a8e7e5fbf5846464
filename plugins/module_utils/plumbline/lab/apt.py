"""Reads which Debian mirror this machine uses, so that the lab's nodes are made from the same one."""

from __future__ import annotations

DEFAULT_MIRROR = "http://deb.debian.org/debian"


def parse_os_release(text):
    """Return ``/etc/os-release`` as a dictionary."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def parse_one_line(text):
    """Yield ``(uri, suite, components)`` for each ``deb`` line of a ``sources.list``."""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words or words[0] != "deb":
            continue
        words = words[1:]
        if words and words[0].startswith("["):  # options, which may hold spaces
            while words and not words[0].endswith("]"):
                words.pop(0)
            words = words[1:]
        if len(words) >= 2:
            yield words[0], words[1], words[2:]


def parse_deb822(text):
    """Yield ``(uri, suite, components)`` for each enabled ``deb`` entry of a ``.sources`` file."""
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                yield uri, suite, stanza.get("components", "").split()


def _stanzas(text):
    stanza, key = {}, None
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, key = {}, None
        elif line[0].isspace() and key:
            stanza[key] += " " + line.strip()
        elif ":" in line:
            key, value = line.split(":", 1)
            key = key.strip().lower()
            stanza[key] = value.strip()


def pick_mirror(os_release, entries):
    """Return the mirror of a Debian machine's own suite, or Debian's when there is none that debootstrap can use.

    ``entries`` are ``(uri, suite, components)``. A mirror carries every current suite, so the lab's need not be the
    machine's own; the security and the updates archives do not hold the base system.
    """
    release = parse_os_release(os_release)
    if release.get("ID") != "debian":
        return DEFAULT_MIRROR
    names = {release.get("VERSION_CODENAME"), "stable", "testing", "unstable", "sid"}
    for uri, suite, components in entries:
        if suite in names and "main" in components and uri.split(":")[0] in ("http", "https", "file"):
            return uri.rstrip("/")
    return DEFAULT_MIRROR
