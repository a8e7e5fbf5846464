"""Pull a model along a chain of nodes: each takes the chunks from the node before it as soon as that one has them.

So every link carries the model once each way, and the last node is done a few chunks after the first. What makes a chain weak is mended
by asking: a node whose predecessor is dead, has lost its copy, hands out other bytes or is slow goes one node further up, and at last to
the source. Who is slow is found out by some chunks from the node before the predecessor: where they come twice as fast, twice in a row,
the predecessor is the one. A predecessor that waits itself is not: it looks for another one, and says so.
"""

from __future__ import annotations

import collections
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import peer
from .peer import Broken, Left, PeerError

GRACE_S = 8.0  # for a predecessor that has not begun: nodes do not start at the same moment
GONE_S = 1.0  # for one that was at it, and whose copy nobody goes on with
STARVED_S = 8.0  # without a byte, though somebody further up has more: longer than a dead node costs the one that finds it (STALL_S)
STALLED_S = 1.0  # an upstream to which nothing came for so long is waiting itself: not slow, and it looks for another one
WINDOW_S = 1.5  # over which the own rate is taken, from the first chunk on: a chain that only begins is not slow
PAUSE_S = 1.0  # between two probes that must agree
LONGEST_S = 30.0  # between probes of a chain that runs well, and the longest window
PROBE_S = 0.5  # a probe has as many bytes as come in this time: a single small chunk passes a shaped link faster than its rate
PROBED_S = 3.0, 40.0  # and is given up after at least, and at most, this: when it can no more be so much faster
FASTER = 2.0  # a node further up that is so much faster is gone over to
TICK_S = 0.25  # between looks, and between notes of how far the copy is
ROUNDS = 3  # through all nodes without a chunk kept, before the copy is given up
RETRY_S = 2.0  # between attempts of a stream that alone has no connection
HASHED_TWICE = 2  # a file that is not whole is mended this often
PIECE = 4 * 2**20


class NoSource(Exception):
    """No node could be copied from; the text says why, node by node."""


class Upstream:
    """A node further up: its name, what came from it, and why it was left ("" while it was not)."""

    def __init__(self, name, connect):
        self.name, self.connect = name, connect  # connect(given_up) returns a peer.Connection
        self.bytes = 0
        self.heard = {}  # thread: when something last came to it from here, or when it began to connect
        self.corrupt = 0
        self.left = ""
        self.said = []

    def tell(self, why):
        """Note why it was left, last what was last, and each once: an interruption may come back often."""
        self.said = [item for item in self.said if item != why] + [why]


class Chain:
    """One node's pull of what ``store`` lacks, from ``upstreams``: the nearest first, the source last."""

    def __init__(self, store, upstreams, streams=2, threads=1, report=lambda progress: None):
        self.store, self.upstreams, self.streams, self.threads, self.report = store, upstreams, streams, threads, report
        self.changed = threading.Condition()
        self.at = 0
        self.turn = 0  # how often `at` was set: who leaves says which turn it means, since several fail at once
        self.round = 1
        self.kept_before = 0  # bytes kept when the round began
        self.claimed = set()
        self.first_missing = 0
        self.moved = 0  # bytes received, of unfinished and refused chunks too
        self.fed_at = time.time()  # when the last of them came
        self.stalled_at = 0.0  # when the current upstream last said that it waits itself
        self.spare = None  # (number, connection) of an upstream that is known to be good
        self.kept = 0  # bytes of chunks received and kept
        self.fatal = None
        self.over = False
        self.bad_files = {}  # name: SHA-256 seen
        self.files = []  # a future for each wanted file
        self.began = time.monotonic()

    # What the threads share: all of it under `changed`.

    def count(self, upstream, number):
        with self.changed:
            self.moved += number
            self.fed_at = time.time()
            upstream.heard[threading.get_ident()] = time.monotonic()

    def hear(self, upstream):
        with self.changed:
            upstream.heard[threading.get_ident()] = time.monotonic()

    def serves_others(self, upstream):
        """Tell whether another thread has heard from an upstream lately, or has just begun to, and has not lost it."""
        with self.changed:
            me, since = threading.get_ident(), time.monotonic() - peer.STALL_S
            return any(at >= since for thread, at in upstream.heard.items() if thread != me)

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

    def release(self, indices):
        with self.changed:
            self.claimed.difference_update(indices)

    def leave(self, number, why, turn=None):
        """Turn away from an upstream for the next one that was not left; after the last begin again, and at last give up.

        ``turn`` is when it became the current one: of several streams that fail with it, one counts.
        """
        with self.changed:
            if self.at != number or self.over or turn not in (None, self.turn):
                return
            self.upstreams[number].left = why
            self.upstreams[number].tell(why)
            at = self.after(number)
            if at is None:
                self.begin_again()
                at = 0
            self.at, self.turn = at, self.turn + 1
            self.changed.notify_all()

    def begin_again(self):
        """Begin a round through all upstreams. Only rounds in which nothing was kept count: a long copy may be interrupted often."""
        self.round = 1 if self.kept > self.kept_before else self.round + 1
        self.kept_before = self.kept
        for upstream in self.upstreams:
            # What hands out other bytes, and what is slow, is asked again only where all others fail.
            upstream.left = ""
        if self.round > ROUNDS:
            self.end(NoSource("; ".join("%s: %s" % (item.name, item.said[-1]) for item in self.upstreams if item.said)))

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
        waited = -1
        try:
            while not self.over:
                with self.changed:
                    number, turn, round_ = self.at, self.turn, self.round
                if round_ > 1 and number == 0:
                    time.sleep(round_)  # what failed for all, as an sshd with too many at once, may pass
                try:
                    self.stay(number)
                except Left:
                    continue
                except PeerError as error:
                    if self.is_only_mine(number, error, waited):
                        waited = self.wait_for_others(number)
                    else:
                        self.leave(number, str(error), turn)
        except Exception as error:  # a full disk, a bug: the main thread raises it
            self.end(error)

    def is_only_mine(self, number, error, waited):
        """Tell whether it is this stream alone that an upstream does not serve, as sshd does with ``MaxStartups``.

        ``waited`` is how much was kept when the stream waited last: without a chunk since, streams that all fail would wait for each other.
        """
        with self.changed:
            self.upstreams[number].heard.pop(threading.get_ident(), None)
            return isinstance(error, Broken) and self.kept > waited and self.serves_others(self.upstreams[number])

    def wait_for_others(self, number):
        """Wait, until a chunk was kept or the others hear nothing either; return how much was kept before."""
        kept, until = self.kept, time.monotonic() + RETRY_S
        while not self.given_up(number):
            if time.monotonic() >= until and (self.kept > kept or not self.serves_others(self.upstreams[number])):
                break
            with self.changed:
                self.changed.wait(TICK_S)
        return kept

    def stay(self, number):
        """Fetch from one upstream for as long as it is the current one."""
        upstream = self.upstreams[number]
        self.hear(upstream)  # nothing yet; but a stream that is refused at once waits for what the others meet with
        connection = self.take_spare(number) or upstream.connect(lambda: self.given_up(number))
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
                if connection.stalled_s >= STALLED_S:
                    self.stalled_at = time.monotonic()
                if connection.state in ("idle", "absent") and time.monotonic() - idle_since > grace_s:
                    raise PeerError("it has no copy, and makes none")
                if connection.state == "complete":
                    time.sleep(0.05)  # what is left is being fetched by the others
                connection.look()
                self.hear(upstream)
        finally:
            connection.close()

    def take_spare(self, number):
        """Return the connection that a probe has left to an upstream, None without one."""
        with self.changed:
            if self.spare is None or self.spare[0] != number:
                return None
            (_number, connection), self.spare = self.spare, None
        connection.given_up = lambda: self.given_up(number)
        return connection

    def fetch(self, upstream, connection, index):
        """Fetch one chunk and keep it where it is what the source's hashes say."""
        try:
            connection.ask(get=index)
        except PeerError:
            self.release([index])
            raise
        self.receive(upstream, connection, index)

    def receive(self, upstream, connection, index):
        """Keep a chunk that was asked for."""
        try:
            data = connection.take(self.store.chunks[index][2], lambda number: self.count(upstream, number))
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
            self.release([index])

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
            if self.spare is not None:
                self.spare[1].close()
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
        self.next_look = self.next_report = time.monotonic() + TICK_S
        self.fed = (time.monotonic(), 0)  # when the last byte came, and how many had
        self.kept = 0
        self.best = 0.0  # the highest rate so far
        self.restart(time.monotonic())

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def restart(self, now):
        """Forget the rate: what went before says nothing of the upstream as it is now."""
        self.samples = collections.deque()  # (time, bytes received)
        self.arrivals = collections.deque(maxlen=3)  # when chunks were kept
        self.since, self.next_probe, self.pause_s = now, now + WINDOW_S, WINDOW_S
        self.suspected = self.dropped = False

    def tick(self):
        """Do what is due; called often."""
        now, chain = time.monotonic(), self.chain
        self.sample(now)
        if now >= self.next_report:
            self.next_report = now + TICK_S
            chain.report({"kept_bytes": chain.kept, "missing_bytes": chain.store.missing_bytes(), "rate_bytes_s": self.rate(),
                          "moved_bytes": chain.moved, "from": chain.upstreams[chain.at].name, "fed_at": chain.fed_at})  # fmt: skip
        if now >= self.next_look:
            self.next_look = now + TICK_S
            self.look(now)

    def sample(self, now):
        """Note what has come. The window has three chunks in it, where they come one by one from an upstream that waits for each."""
        chain = self.chain
        if chain.moved != self.fed[1]:
            self.fed = (now, chain.moved)
        if chain.kept != self.kept:
            self.kept = chain.kept
            self.arrivals.append(now)
        if not self.samples or now - self.samples[-1][0] >= 0.1:
            self.samples.append((now, chain.moved))
        full = len(self.arrivals) == self.arrivals.maxlen
        window = min(LONGEST_S, max(WINDOW_S, now - self.arrivals[0] if full else 0.0))
        while len(self.samples) > 2 and now - self.samples[1][0] >= window:
            self.samples.popleft()
        if now - self.since >= WINDOW_S:
            self.best = max(self.best, self.rate())

    def rate(self):
        """Return the bytes received a second over the last window."""
        took = self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0
        return (self.samples[-1][1] - self.samples[0][1]) / took if took else 0.0

    def is_starved(self, now):
        """Tell whether nothing came for longer than it takes others to pass a dead node by and to hand on a chunk."""
        chunk_s = self.chain.store.chunk_bytes / self.best if self.best else 0.0
        return now - self.fed[0] > STARVED_S + chunk_s

    def look(self, now):
        """Compare the current upstream with the node behind it, where that is due."""
        chain = self.chain
        number = chain.at
        behind = chain.after(number)
        if (number, behind) != self.pair:
            self.close()
            self.pair = (number, behind)
            self.restart(now)
        if not chain.kept or now - chain.stalled_at < STALLED_S:
            self.restart(now)
        self.notice_a_drop(now)
        starved = self.is_starved(now)
        if behind is None or not (starved or now >= self.next_probe):
            return
        try:
            if self.connection is None:
                self.connection = chain.upstreams[behind].connect(lambda: chain.given_up(number) or chain.finished())
            else:
                self.connection.look(seen=-1)
            self.compare(number, behind, starved)
        except Left:
            self.close()
        except PeerError as error:
            self.close()
            with chain.changed:
                chain.upstreams[behind].left = str(error)
                chain.upstreams[behind].tell(str(error))

    def notice_a_drop(self, now):
        """Probe at once, however long ago the last probe was, when the rate has fallen."""
        rate = self.rate()
        if now - self.since >= WINDOW_S and rate < self.best / FASTER:
            if not self.dropped:
                self.dropped, self.next_probe, self.pause_s = True, min(self.next_probe, now), WINDOW_S
        elif rate > self.best * 0.75:
            self.dropped = False

    def compare(self, number, behind, starved):
        """Leave the current upstream where the one behind it has what is missing here and gives it faster."""
        chain, have, mine = self.chain, self.connection.have, self.chain.store.have
        lead = [index for index in range(len(have)) if have[index] and not mine[index] and index not in chain.claimed]
        name = chain.upstreams[behind].name
        if lead and starved:
            self.hand_over(number, behind, "nothing came for %.0f s, and %s has more" % (time.monotonic() - self.fed[0], name))
            return
        own = self.rate()
        count = 2 + int(own * PROBE_S / chain.store.chunk_bytes)
        if own <= 0 or len(lead) < 2 * count + 4 * chain.streams:
            return
        sure, self.suspected = self.suspected, False
        other = self.probe(behind, lead[-count:], own)
        self.suspected = other > FASTER * own
        # One slow moment is nobody's fault: who leaves for it takes the source's link from the others.
        self.next_probe = time.monotonic() + (PAUSE_S if self.suspected else self.pause_s)
        self.pause_s = min(LONGEST_S, self.pause_s * 2)
        if self.suspected and sure:
            self.hand_over(number, behind, "slow: %.1f MB/s came, %s gave some with %.1f MB/s" % (own / 1e6, name, other / 1e6))

    def hand_over(self, number, behind, why):
        """Leave the upstream for the one behind it, with the connection that is there already."""
        with self.chain.changed:
            if not self.chain.over and self.chain.spare is None:
                self.chain.spare, self.connection = (behind, self.connection), None
        self.chain.leave(number, why)

    def probe(self, behind, indices, own):
        """Fetch chunks that are wanted anyway and return their rate in bytes a second; 0 where another thread was first.

        Raises :class:`Left` where they take longer than they may to be :data:`FASTER` than ``own``.
        """
        chain, connection = self.chain, self.connection
        with chain.changed:
            if any(index in chain.claimed or chain.store.have[index] for index in indices):
                return 0.0
            chain.claimed.update(indices)
        size = sum(chain.store.chunks[index][2] for index in indices)
        started, given_up = time.monotonic(), connection.given_up
        limit_s = min(PROBED_S[1], max(PROBED_S[0], size / (FASTER * own)))
        self.next_probe = started + limit_s + self.pause_s
        try:
            connection.given_up = lambda: given_up() or time.monotonic() - started > limit_s
            for index in indices:
                connection.ask(get=index)
            for index in indices:
                chain.receive(chain.upstreams[behind], connection, index)
        finally:
            chain.release(indices)
            connection.given_up = given_up
        return size / (time.monotonic() - started)
