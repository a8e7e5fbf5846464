"""Pull a model along a chain of nodes: each takes the chunks from the node before it as soon as that one has them.

So every link carries the model once each way, and the last node is done a few chunks after the first. What makes a chain weak is mended
by asking: a node whose predecessor is dead, has lost its copy, hands out other bytes or is slow goes one node further up, and at last to
the source. Who else is slow is found out by a chunk from the node before the predecessor: where that comes twice as fast, and there is
more there than here, the predecessor is the one.
"""

from __future__ import annotations

import collections
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .peer import Left, PeerError

GRACE_S = 8.0  # for a predecessor that has not begun: nodes do not start at the same moment
GONE_S = 1.0  # for one that was at it, and whose copy nobody goes on with
STARVED_S = 8.0  # without a chunk, though somebody further up has some: longer than a dead node costs the one that finds it (STALL_S)
WINDOW_S = 4.0  # over which the own rate is taken, from the first chunk on: a chain that only begins is not slow
PAUSE_S = 1.5  # between two looks that must agree
FASTER = 2.0  # a node further up that is so much faster is gone over to
ROUNDS = 3  # through all nodes, before the copy is given up
HASHED_TWICE = 2  # a file that is not whole is mended this often
PIECE = 4 * 2**20


class NoSource(Exception):
    """No node could be copied from; the text says why, node by node."""


class Upstream:
    """A node further up: its name, what came from it, and why it was left ("" while it was not)."""

    def __init__(self, name, connect):
        self.name, self.connect = name, connect  # connect(given_up) returns a peer.Connection
        self.bytes = 0
        self.corrupt = 0
        self.left = ""
        self.said = []


class Chain:
    """One node's pull of what ``store`` lacks, from ``upstreams``: the nearest first, the source last."""

    def __init__(self, store, upstreams, streams=2, threads=1, report=lambda progress: None):
        self.store, self.upstreams, self.streams, self.threads, self.report = store, upstreams, streams, threads, report
        self.changed = threading.Condition()
        self.at = 0
        self.round = 1
        self.claimed = set()
        self.first_missing = 0
        self.moved = 0  # bytes received, of unfinished and refused chunks too
        self.kept = 0  # bytes of chunks received and kept
        self.fatal = None
        self.over = False
        self.bad_files = {}  # name: SHA-256 seen
        self.files = []  # a future for each wanted file
        self.began = time.monotonic()

    # What the threads share: all of it under `changed`.

    def count(self, number):
        with self.changed:
            self.moved += number

    def claim(self, have):
        """Return the first chunk that is missing, nobody fetches and ``have`` has; None without one."""
        with self.changed:
            mine, total = self.store.have, len(self.store.chunks)
            while self.first_missing < total and mine[self.first_missing]:
                self.first_missing += 1
            for index in range(self.first_missing, min(total, len(have))):
                if have[index] and not mine[index] and index not in self.claimed:
                    self.claimed.add(index)
                    return index
        return None

    def release(self, index):
        with self.changed:
            self.claimed.discard(index)

    def leave(self, number, why):
        """Turn away from an upstream for the next one that was not left; after the last begin again, and at last give up."""
        with self.changed:
            if self.at != number or self.over:
                return
            self.upstreams[number].left = why
            self.upstreams[number].said.append(why)
            self.at = self.after(number)
            if self.at is None:
                self.round += 1
                for upstream in self.upstreams:
                    # What hands out other bytes, and what is slow, is asked again only where all others fail.
                    upstream.left = ""
                self.at = 0
                if self.round > ROUNDS:
                    self.end(NoSource("; ".join("%s: %s" % (item.name, item.said[-1]) for item in self.upstreams if item.said)))
            self.changed.notify_all()

    def after(self, number):
        """Return the number of the next upstream behind ``number`` that was not left, None without one."""
        return next((other for other in range(number + 1, len(self.upstreams)) if not self.upstreams[other].left), None)

    def end(self, fatal=None):
        """Let every thread end; the first reason counts."""
        with self.changed:
            self.fatal = self.fatal or fatal
            self.over = True
            self.changed.notify_all()

    # The threads that fetch.

    def given_up(self, number):
        """Tell whether a transfer from an upstream is to be given up."""
        return self.over or self.at != number

    def stream(self):
        """Fetch chunk after chunk from whichever upstream is the current one."""
        try:
            while not self.over:
                number = self.at
                if self.round > 1 and number == 0:
                    time.sleep(self.round)  # what failed for all, as an sshd with too many at once, may pass
                try:
                    self.stay(number)
                except Left:
                    continue
                except PeerError as error:
                    self.leave(number, str(error))
        except Exception as error:  # a full disk, a bug: the main thread raises it
            self.end(error)

    def stay(self, number):
        """Fetch from one upstream for as long as it is the current one."""
        upstream = self.upstreams[number]
        connection = upstream.connect(lambda: self.given_up(number))
        try:
            idle_since, grace_s = time.monotonic(), GRACE_S
            while not self.given_up(number):
                index = self.claim(connection.have)
                if index is not None:
                    self.fetch(upstream, connection, index)
                    idle_since = time.monotonic()
                    continue
                if connection.state == "pulling":
                    idle_since, grace_s = time.monotonic(), GONE_S
                if connection.state in ("idle", "absent") and time.monotonic() - idle_since > grace_s:
                    raise PeerError("it has no copy, and makes none")
                if connection.state == "complete":
                    time.sleep(0.05)  # what is left is being fetched by the others
                connection.look()
        finally:
            connection.close()

    def fetch(self, upstream, connection, index):
        """Fetch one chunk and keep it where it is what the source's hashes say."""
        try:
            data = connection.get(index, self.store.chunks[index][2], self.count)
            if hashlib.sha256(data).digest() != self.store.hashes[index]:
                upstream.corrupt += 1
                name, offset, length = self.store.chunks[index]
                raise PeerError(f"it sent other bytes than the source's hash says, of {name} from {offset} on ({length} bytes)")
            self.store.write(index, data)
            with self.changed:
                upstream.bytes += len(data)
                self.kept += len(data)
                self.changed.notify_all()
        finally:
            self.release(index)

    # The threads that verify.

    def verify(self, name):
        """Hash a file while it comes, and give it its name when it is whole; what is wrong of it is fetched again."""
        entry = self.store.manifest["files"][name]
        for _attempt in range(HASHED_TWICE):
            seen = self.hash_as_it_comes(name)
            if seen is None:
                return
            if seen == entry["sha256"]:
                self.store.finish(name)
                self.bad_files.pop(name, None)
                return
            self.bad_files[name] = seen
            with self.changed:
                wrong = self.store.drop_wrong(name)
                self.first_missing = 0
                self.changed.notify_all()
            if not wrong:
                return  # each chunk is what the source's hashes say, the file is not: the source changed

    def hash_as_it_comes(self, name):
        """Return the SHA-256 of a file, None where the copy ends before it is whole."""
        digest = hashlib.sha256()
        for index in self.store.of_file.get(name, ()):
            with self.changed:
                while not self.store.have[index]:
                    if self.over:
                        return None
                    self.changed.wait(0.5)
            digest.update(self.store.read(index))
        return digest.hexdigest()

    def guarded(self, name):
        try:
            self.verify(name)
        except Exception as error:
            self.end(error)

    # The main thread.

    def run(self, deadline):
        """Copy and verify; raise :class:`NoSource`, OSError, or TimeoutError at ``deadline`` (of ``time.monotonic``)."""
        streams = [threading.Thread(target=self.stream, daemon=True) for _number in range(self.streams)]
        for thread in streams:
            thread.start()
        pool = ThreadPoolExecutor(max_workers=max(1, self.threads))
        self.files = [pool.submit(self.guarded, name) for name in self.store.wanted]
        watch = Watch(self)
        try:
            while not self.over and not self.finished():
                with self.changed:
                    self.changed.wait(0.1)
                if time.monotonic() >= deadline:
                    raise TimeoutError(self.words())
                watch.tick()
        finally:
            self.end()
            watch.close()
            pool.shutdown(wait=True)
            for thread in streams:
                thread.join()
        if self.fatal is not None:
            raise self.fatal

    def finished(self):
        """Tell whether each file is verified or given up."""
        return all(item.done() for item in self.files)

    def words(self):
        """Return what is there, as a sentence."""
        return "not done in time: %d bytes of this run kept, %d bytes missing" % (self.kept, self.store.missing_bytes())

    def faults(self):
        """Return ``["name: why it was left", ...]`` of the upstreams."""
        return ["%s: %s" % (item.name, why) for item in self.upstreams for why in item.said]


class Watch:
    """Looks at the node behind the current upstream, says how far the copy is, and finds out who is slow."""

    def __init__(self, chain):
        self.chain = chain
        self.connection = self.pair = None
        self.samples = collections.deque()  # (time, bytes received)
        self.next_look = self.next_report = time.monotonic() + 1.0
        self.pause_s = WINDOW_S
        self.next_probe = 0.0
        self.suspected = False
        self.fed = (time.monotonic(), 0)  # when something was last kept

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def tick(self):
        """Do what is due; called often."""
        now, chain = time.monotonic(), self.chain
        self.samples.append((now, chain.moved))
        while now - self.samples[0][0] > WINDOW_S:
            self.samples.popleft()
        if chain.kept != self.fed[1]:
            self.fed = (now, chain.kept)
        if now >= self.next_report:
            self.next_report = now + 1.0
            chain.report({"kept_bytes": chain.kept, "missing_bytes": chain.store.missing_bytes(), "rate_bytes_s": self.rate(),
                          "from": chain.upstreams[chain.at].name})  # fmt: skip
        if now >= self.next_look:
            self.next_look = now + 0.5
            self.look(now)

    def rate(self):
        """Return the bytes received a second over the last window."""
        took = self.samples[-1][0] - self.samples[0][0]
        return (self.samples[-1][1] - self.samples[0][1]) / took if took else 0.0

    def look(self, now):
        """Compare the current upstream with the node behind it."""
        chain = self.chain
        number = chain.at
        behind = chain.after(number)
        if (number, behind) != self.pair:
            self.close()
            self.pair, self.pause_s, self.next_probe = (number, behind), WINDOW_S, now + WINDOW_S + 0.5
            self.suspected = False
        if not chain.kept:
            self.next_probe = max(self.next_probe, now + WINDOW_S)
            behind = behind if now - self.fed[0] > STARVED_S else None
        elif now < self.next_probe:
            return
        if behind is None:
            return
        try:
            if self.connection is None:
                self.connection = chain.upstreams[behind].connect(lambda: chain.given_up(number) or chain.finished())
            else:
                self.connection.look(seen=-1)
            self.compare(number, behind, now)
        except Left:
            self.close()
        except PeerError as error:
            self.close()
            with chain.changed:
                chain.upstreams[behind].left = str(error)
                chain.upstreams[behind].said.append(str(error))

    def compare(self, number, behind, now):
        """Leave the current upstream where the one behind it has what is missing here and gives it faster."""
        chain, have = self.chain, self.connection.have
        mine = chain.store.have
        lead = [index for index in range(len(have)) if have[index] and not mine[index] and index not in chain.claimed]
        name = chain.upstreams[behind].name
        if lead and now - self.fed[0] > STARVED_S:
            chain.leave(number, "nothing came for %d s, and %s has more" % (STARVED_S, name))
        elif len(lead) > 8 + 4 * chain.streams:
            own, other = self.rate(), self.probe(behind, lead[-1])
            # One slow moment is nobody's fault: who leaves for it takes the source's link from the others.
            sure, self.suspected = self.suspected, other > FASTER * own
            self.next_probe = now + (PAUSE_S if self.suspected else self.pause_s)
            self.pause_s *= 2
            if self.suspected and sure:
                chain.leave(number, "slow: %.1f MB/s came, %s gave a chunk with %.1f MB/s" % (own / 1e6, name, other / 1e6))

    def probe(self, behind, index):
        """Fetch a chunk that is wanted anyway and return its rate in bytes a second; 0 where another thread was first."""
        chain = self.chain
        with chain.changed:
            if index in chain.claimed or chain.store.have[index]:
                return 0.0
            chain.claimed.add(index)
        started = time.monotonic()
        chain.fetch(chain.upstreams[behind], self.connection, index)
        return chain.store.chunks[index][2] / (time.monotonic() - started)
