"""Reads the small files in which the kernel says one thing: sysfs, procfs."""

from __future__ import annotations


def read_text(path):
    """Return the stripped text of ``path``, or None when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return None


def read_int(path):
    """Return the integer in ``path``, or None: sysfs answers EINVAL for, say, the speed of a link that is down."""
    text = read_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
