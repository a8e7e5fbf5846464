"""How far a long transfer is, as one line in a file that somebody else may read."""

from __future__ import annotations

import contextlib
import os
import time

from ..core.files import write_atomically


def line(done, total, took_s, before=0):
    """Return ``12.3 of 145.4 GB, 210 MB/s, 11 min left``; ``before`` bytes were there already and say nothing of the rate."""
    text = "%.1f of %.1f GB" % (done / 1e9, total / 1e9) if total >= 1e9 else "%.1f of %.1f MB" % (done / 1e6, total / 1e6)
    rate = (done - before) / took_s if took_s > 0 else 0
    if rate <= 0:
        return text
    left = max(0, total - done) / rate
    return "%s, %.1f MB/s, %s left" % (text, rate / 1e6, "%d min" % round(left / 60) if left >= 90 else "%d s" % round(left))


class Note:
    """The file with the line; written as often as it is asked to, at most once in ``every_s`` seconds."""

    def __init__(self, path, every_s=1.0, clock=time.monotonic):
        self.path, self._every_s, self._clock = path, every_s, clock
        self._began, self._last = clock(), None

    def write(self, text_at):
        """Write what ``text_at(seconds since the beginning)`` returns; a full disk does not stop the transfer for that."""
        now = self._clock()
        if self._last is not None and now - self._last < self._every_s:
            return
        self._last = now
        with contextlib.suppress(OSError):
            write_atomically(self.path, text_at(now - self._began) + "\n")

    def end(self):
        """Remove it."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Progress(Note):
    """Writes :func:`line` of a transfer of ``total`` bytes, of which ``before`` were there already."""

    def __init__(self, path, total, before, every_s=1.0, clock=time.monotonic):
        super().__init__(path, every_s, clock)
        self.total, self.before = total, before

    def tell(self, done):
        """Write how far it is; a total that turns out too small grows with what is done."""
        self.write(lambda took_s: line(done, max(self.total, done), took_s, self.before))
