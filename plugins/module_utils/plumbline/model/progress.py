"""How far a long transfer is, as one line in a file that somebody else may read."""

from __future__ import annotations

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


class Progress:
    """Writes :func:`line` to ``path`` as often as it is told, at most once in ``every_s`` seconds."""

    def __init__(self, path, total, before, every_s=1.0, clock=time.monotonic):
        self.path, self.total, self.before, self._every_s, self._clock = path, total, before, every_s, clock
        self._began, self._last = clock(), None

    def tell(self, done):
        """Write how far it is; a full disk does not stop the transfer for that."""
        now = self._clock()
        if self._last is not None and now - self._last < self._every_s:
            return
        self._last = now
        try:
            write_atomically(self.path, line(done, self.total, now - self._began, self.before) + "\n")
        except OSError:
            pass
