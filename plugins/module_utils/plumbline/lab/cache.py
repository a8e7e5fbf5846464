"""The lab's cache: what takes minutes to build is built once, beside its place, and renamed into it."""

from __future__ import annotations

import fcntl
import os
import shutil
import time


def build_once(path, build):
    """Make the folder ``path``, unless it is there: ``build(part)`` makes the folder ``part``, which is then renamed.

    Of two runs at the same time one builds and the other waits for it; what an interrupted build left is thrown away.
    Returns ``(what build returned, seconds)``, None where there was nothing to build. Raises OSError, and what ``build`` raises.
    """
    if os.path.isdir(path):
        return None
    started = time.monotonic()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(path):
            return None
        part = path + ".part"
        shutil.rmtree(part, ignore_errors=True)
        result = build(part)
        os.rename(part, path)
    return result, round(time.monotonic() - started, 1)
