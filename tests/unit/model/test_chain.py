"""Copying along a chain: folders of this machine are the nodes, and the program that hands out chunks runs in a process of its own."""

import fcntl
import os
import shlex
import sys
import threading
import time

import pytest
from ansible.module_utils.plumbline.model import chain as chains
from ansible.module_utils.plumbline.model import chunk_server, chunks, peer, store
from ansible.module_utils.plumbline.model import manifest as manifests

MIB = 2**20
FILES = {"a/model-1.safetensors": 9 * MIB + 17, "config.json": 300, "empty": 0, "model-2.safetensors": 6 * MIB}
# Passes its input on at so many bytes a second.
THROTTLE = """
import sys, time
rate, begun, passed = float(sys.argv[1]), time.monotonic(), 0
for data in iter(lambda: sys.stdin.buffer.raw.read(16384), b""):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    passed += len(data)
    time.sleep(max(0.0, passed / rate - (time.monotonic() - begun)))
"""
# Passes so many bytes on and ends; head keeps what is little in a buffer.
CUT = """
import sys
left = int(sys.argv[1])
for data in iter(lambda: sys.stdin.buffer.raw.read(min(left, 16384)), b""):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    left -= len(data)
"""


@pytest.fixture(autouse=True)
def shorter_patience(monkeypatch):
    monkeypatch.setattr(peer, "STALL_S", 2.5)
    monkeypatch.setattr(chains, "GRACE_S", 0.5)
    monkeypatch.setattr(chunks, "SMALLEST", MIB)


class World:
    """Nodes that are folders, the first of them the source."""

    def __init__(self, root, files=None):
        self.root = root
        folder = self.path("source")
        for name, size in (files or FILES).items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.urandom(size))
        sizes = manifests.files_below(folder)
        whole, parts = chunks.read(folder, sizes, 2)
        self.manifest = {
            "schema": manifests.SCHEMA,
            "files": {name: {"size": sizes[name], "sha256": whole[name]} for name in sorted(sizes)},
        }
        self.hashes = chunks.decode(chunks.encode(parts), self.manifest)
        manifests.save(folder, self.manifest)
        self.broken = {}  # name: what stands in the place of its program

    def path(self, name):
        return self.root / name

    def upstream(self, name, here, rate=None, then=""):
        """Return a node as others see it; ``rate`` in bytes a second; ``then`` is a shell command in the place of the program."""

        def connect(given_up):
            boot = peer.BOOT.replace("python3", shlex.quote(sys.executable))
            line = boot % len(PROGRAM)
            if rate:
                line += " | %s -c %s %f" % (shlex.quote(sys.executable), shlex.quote(THROTTLE), rate)
            # The command that Connection appends comes as $0 and is not used.
            return peer.Connection(["sh", "-c", then or line], str(self.path(name)), here.digest, here.chunk_bytes, given_up)

        return chains.Upstream(name, connect)

    def store(self, name, wanted=None):
        self.path(name).mkdir(exist_ok=True)
        here = store.Store(str(self.path(name)), self.manifest, self.hashes, wanted or list(self.manifest["files"]))
        here.prepare()
        here.take_over()
        return here

    def pull(self, name, upstreams, timeout_s=60.0, **options):
        """Copy to a node from those upstreams ``(name, options)``; return the chain after it has run under the node's lock."""
        self.path(name).mkdir(exist_ok=True)
        with store.locked(str(self.path(name)), 10):
            here = self.store(name)
            chain = chains.Chain(here, [self.upstream(other, here, **more) for other, more in upstreams], **options)
            chain.run(time.monotonic() + timeout_s)
            if not chain.bad_files:
                here.complete()
        return chain

    def same(self, name):
        """Tell whether a node has all files and nothing else."""
        difference = manifests.compare(self.path(name), self.manifest, 2)
        return not any(difference.values()) and sorted(os.listdir(self.path(name))) == sorted(
            {"manifest.json", *(item.split("/")[0] for item in self.manifest["files"])}
        )


PROGRAM = open(chunk_server.__file__, "rb").read()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_file_longer_than_the_model_is_cut_into_chunks_and_hashed_once(world):
    assert [length for name, _offset, length in chunks.of(world.manifest) if name.startswith("a/")] == [MIB] * 9 + [17]
    assert len(world.hashes) == 10 + 1 + 0 + 6
    assert chunks.size_for(0) == MIB and chunks.size_for(512 * MIB) == MIB and chunks.size_for(145 * 10**9) == 32 * MIB
    assert chunks.decode("AAAA", world.manifest) is None and chunks.decode("%", world.manifest) is None


def test_copy_of_all_kinds_of_files_from_the_source(world):
    chain = world.pull("one", [("source", {})])
    assert world.same("one") and chain.moved == chain.upstreams[0].bytes == sum(FILES.values())


def test_nodes_of_a_chain_take_from_the_one_before_while_it_copies_itself(world):
    results, before = {}, ["source"]

    def node(name, upstreams):
        results[name] = world.pull(name, upstreams)

    threads = []
    for name in ("one", "two", "three"):
        ways = [(other, {"rate": 8e6} if other == "source" else {}) for other in before[::-1]]
        threads.append(threading.Thread(target=node, args=(name, ways)))
        before.append(name)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(world.same(name) for name in ("one", "two", "three"))
    assert {item.name: item.bytes for item in results["three"].upstreams}["two"] > sum(FILES.values()) / 2


def test_a_relay_that_hands_out_other_bytes_is_left_and_its_bytes_are_not_kept(world):
    world.pull("relay", [("source", {})])
    with open(world.path("relay") / "model-2.safetensors", "r+b") as stream:
        stream.seek(3 * MIB + 5)
        stream.write(b"spoiled")
    chain = world.pull("one", [("relay", {}), ("source", {})])
    assert world.same("one")
    assert chain.upstreams[0].corrupt >= 1 and "other bytes" in chain.upstreams[0].said[0] and "model-2" in chain.upstreams[0].said[0]


def test_a_source_that_hands_out_other_bytes_ends_the_copy_in_words_and_keeps_the_rest(world):
    with open(world.path("source") / "model-2.safetensors", "r+b") as stream:
        stream.write(b"spoiled")
    with pytest.raises(chains.NoSource, match="other bytes"):
        world.pull("one", [("source", {})])
    assert not (world.path("one") / "manifest.json").exists() and not (world.path("one") / "model-2.safetensors").exists()
    assert world.store("one").missing_bytes() < sum(FILES.values())


@pytest.mark.parametrize(
    "then",
    ["exit 255", "echo 'ssh: connect to host x port 22: Connection refused' >&2; exit 255", "sleep 60", "echo Welcome; cat"],
    ids=["dies", "refuses", "hangs", "speaks something else"],
)
def test_a_node_that_cannot_be_pulled_from_is_passed_by(world, then, monkeypatch):
    monkeypatch.setattr(peer, "CONNECT_S", 1.0)
    chain = world.pull("one", [("bad", {"then": then}), ("source", {})])
    assert world.same("one") and chain.upstreams[0].said and chain.upstreams[1].bytes == sum(FILES.values())


def test_no_node_at_all_is_told_with_each_ones_words(world, monkeypatch):
    monkeypatch.setattr(chains.time, "sleep", lambda _s: None)
    with pytest.raises(chains.NoSource, match="bad: .*Permission denied.*; source: .*Connection refused"):
        world.pull("one", [("bad", {"then": "echo 'Permission denied (publickey).' >&2; exit 255"}),
                           ("source", {"then": "echo Connection refused >&2; exit 255"})])  # fmt: skip


def test_a_node_that_dies_half_way_costs_only_its_time_out(world):
    # Four megabytes come, then nothing more: a link that went down.
    boot = peer.BOOT.replace("python3", sys.executable) % len(PROGRAM)
    world.pull("relay", [("source", {})])
    chain = world.pull("one", [("relay", {"then": boot + " | (head -c 4000000; sleep 60)"}), ("source", {})])
    # By its silence, or by a chunk from the source that came meanwhile.
    assert world.same("one") and chain.upstreams[0].said[0].startswith(("no byte for", "slow: ", "nothing came for"))
    assert chain.upstreams[0].bytes + chain.upstreams[1].bytes == sum(FILES.values())


def cut(length):
    """Return the command of a connection that ends after so many bytes."""
    python = shlex.quote(sys.executable)
    return "%s | %s -c %s %d" % (peer.BOOT.replace("python3", python) % len(PROGRAM), python, shlex.quote(CUT), length)


@pytest.mark.parametrize("streams", [2, 3])
def test_a_link_that_breaks_again_and_again_costs_a_long_copy_nothing_but_time(world, streams):
    # Each connection ends after two and a half chunks: seven breaks or more, and something comes between them.
    chain = world.pull("one", [("source", {"then": cut(2700000)})], streams=streams)
    assert world.same("one") and chain.upstreams[0].bytes == sum(FILES.values())


@pytest.mark.parametrize("behind", [[], ["source"]], ids=["the only node", "a relay"])
def test_a_stream_that_is_always_refused_costs_the_others_nothing(world, behind, monkeypatch):
    """As with sshd's MaxStartups or maxlogins in limits.conf: two connections are let in, the third and fourth never."""
    monkeypatch.setattr(chains, "RETRY_S", 0.1)
    world.pull("relay", [("source", {})])
    refused, let_in = "echo 'Connection closed by 10.0.0.1 port 22' >&2; exit 255", []
    world.path("one").mkdir()
    with store.locked(str(world.path("one")), 10):
        here = world.store("one")
        good = world.upstream("relay", here, rate=5e6)
        closed = world.upstream("relay", here, then=refused)

        def connect(given_up):
            me = threading.current_thread()
            if len(let_in) < 2 and me not in let_in:
                let_in.append(me)
            return (good if me in let_in else closed).connect(given_up)

        upstreams = [chains.Upstream("relay", connect), *(world.upstream(name, here) for name in behind)]
        chain = chains.Chain(here, upstreams, streams=4)
        chain.run(time.monotonic() + 60)
        here.complete()
    assert world.same("one") and chain.upstreams[0].bytes > 10 * MIB and "Connection closed" not in " ".join(chain.faults())


def test_connections_that_all_end_within_a_chunk_do_not_wait_for_each_other_for_ever(world, monkeypatch):
    monkeypatch.setattr(chains, "ROUNDS", 1)
    began = time.monotonic()
    with pytest.raises(chains.NoSource, match="source: "):
        world.pull("one", [("source", {"then": cut(900000)})], streams=3)
    assert time.monotonic() - began < 30


class Standing:
    """A store of which nothing comes: only who leaves whom is looked at."""

    chunks, have, manifest, wanted, of_file = [], [], {"files": {}}, [], {}


def leaving(*names, streams=2):
    return chains.Chain(Standing(), [chains.Upstream(name, None) for name in names], streams)


def test_streams_that_fail_at_once_are_one_failure():
    chain = leaving("source", streams=8)
    for _stream in range(8):
        chain.leave(0, "no byte for 4 s", turn=0)
    assert chain.round == 2 and not chain.over


def test_a_round_in_which_something_came_does_not_count():
    chain = leaving("relay", "source")
    for _blip in range(20):
        chain.kept += MIB
        chain.leave(0, "no byte for 4 s", chain.turn)
        chain.leave(1, "Connection refused", chain.turn)
        assert (chain.at, chain.round, chain.over) == (0, 1, False)
    for _round in range(chains.ROUNDS):
        assert not chain.over
        chain.leave(0, "no byte for 4 s", chain.turn)
        chain.leave(1, "Connection refused", chain.turn)
    assert chain.over and str(chain.fatal) == "relay: no byte for 4 s; source: Connection refused"


def test_the_current_node_is_a_number_at_every_moment():
    chain, seen = leaving("source"), []
    chain.after = lambda number: seen.append(chain.at)
    chain.begin_again = lambda: seen.append(chain.at)
    chain.leave(0, "no byte for 4 s")
    assert seen == [0, 0] and chain.at == 0


def test_a_slow_relay_is_left_for_the_node_behind_it(tmp_path):
    world = World(tmp_path, {"model": 40 * MIB})
    world.pull("relay", [("source", {})])
    chain = world.pull("one", [("relay", {"rate": 1e6}), ("source", {"rate": 2e7})])
    assert world.same("one") and chain.upstreams[0].said[0].startswith("slow: ")
    assert chain.upstreams[1].bytes > 25 * MIB


def test_a_relay_as_fast_as_the_node_behind_it_is_kept(tmp_path):
    world = World(tmp_path, {"model": 40 * MIB})
    world.pull("relay", [("source", {})])
    chain = world.pull("one", [("relay", {"rate": 4e6}), ("source", {"rate": 6e6})])
    assert world.same("one") and not chain.faults()
    assert chain.upstreams[0].bytes > 30 * MIB


def test_a_relay_whose_copy_was_killed_is_left(world):
    half = world.store("relay")
    for index in range(4):
        name, offset, length = half.chunks[index]
        with open(world.path("source") / name, "rb") as stream:
            stream.seek(offset)
            half.write(index, stream.read(length))
    chain = world.pull("one", [("relay", {}), ("source", {})])
    assert world.same("one") and "no copy" in chain.upstreams[0].said[0]
    assert chain.upstreams[0].bytes == sum(length for _name, _offset, length in half.chunks[:4])


def test_an_interrupted_copy_goes_on_within_a_file_and_leaves_nothing(world):
    with pytest.raises(TimeoutError, match="not done in time"):
        world.pull("one", [("source", {"rate": 5e6})], timeout_s=1.5)
    before = world.store("one").missing_bytes()
    assert 0 < before < sum(FILES.values())
    chain = world.pull("one", [("source", {})])
    assert world.same("one") and chain.moved == before


def test_only_the_spoiled_chunk_of_a_file_moves(world):
    world.pull("one", [("source", {})])
    with open(world.path("one") / "model-2.safetensors", "r+b") as stream:
        stream.seek(2 * MIB)
        stream.write(b"spoiled")
    (world.path("one") / "manifest.json").unlink()
    with store.locked(str(world.path("one")), 1):
        here = world.store("one", ["model-2.safetensors"])
        chain = chains.Chain(here, [world.upstream("source", here)])
        chain.run(time.monotonic() + 30)
        here.complete()
    assert world.same("one") and chain.moved == MIB


def test_a_chunk_that_was_spoiled_on_this_disk_is_fetched_again(world):
    with pytest.raises(TimeoutError):
        world.pull("one", [("source", {"rate": 5e6})], timeout_s=1.5)
    here = world.store("one")
    done = next(index for index in range(len(here.chunks)) if here.have[index])
    name, offset, _length = here.chunks[done]
    with open(here.part(name), "r+b") as stream:
        stream.seek(offset)
        stream.write(b"spoiled")
    world.pull("one", [("source", {})])
    assert world.same("one")


def test_a_full_disk_is_an_error_of_its_own(world, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        world.pull("one", [("source", {})])


def test_two_runs_wait_for_each_other_and_the_lock_of_a_dead_one_is_gone(tmp_path):
    with store.locked(str(tmp_path), 1):
        with pytest.raises(store.Busy, match="another run"), store.locked(str(tmp_path), 0.2):
            pass
        assert chunk_server.is_locked(str(tmp_path))
    assert not chunk_server.is_locked(str(tmp_path)) and os.listdir(tmp_path) == []
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)
    with store.locked(str(tmp_path), 0.2):
        pass


def test_files_and_their_names_are_on_the_disk_before_the_manifest_says_so(world, monkeypatch):
    events, sync, replace, manifest = [], os.fsync, os.replace, str(world.path("one") / "manifest.json")

    def synced(handle):
        events.append(("on disk", os.readlink("/proc/self/fd/%d" % handle)))
        sync(handle)

    def replaced(old, new):
        events.append(("named", new))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    world.pull("one", [("source", {})])
    last = events.index(("named", manifest))
    for name in world.manifest["files"]:
        whole = str(world.path("one") / name)
        part = os.path.join(str(world.path("one")), chunk_server.WORK, "part", name)
        assert events.index(("on disk", part)) < events.index(("named", whole)) < last
        assert ("on disk", os.path.dirname(whole)) in events[events.index(("named", whole)) : last], "its name is on the disk too"
    assert ("on disk", str(world.path("one"))) in events[last:], "and the manifest's own"


def test_what_an_interrupted_copy_of_another_manifest_left_is_removed(world):
    world.store("one")
    other = dict(world.manifest, files={"config.json": world.manifest["files"]["config.json"]})
    here = store.Store(str(world.path("one")), other, [world.hashes[10]], ["config.json"])
    here.prepare()
    assert len(here.missing()) == 1 and os.listdir(os.path.join(here.work, "part")) == []
    here.discard_empty()
    assert os.listdir(world.path("one")) == []


@pytest.mark.parametrize(
    ("text", "check", "remedy"),
    [
        ("[Errno 28] No space left on device", "model.disk", "free"),
        ("head: Host key verification failed.", "model.ssh", "another host key"),
        ("head: root@10.0.0.1: Permission denied (publickey).", "model.ssh", "authorized_keys"),
        # What the program that hands out chunks says to a user who may not read the model, and what this node's own kernel says.
        ("head: PermissionError: [Errno 13] Permission denied: '/m'", "model.source", "hpc cannot read /m on"),
        ("[Errno 13] Permission denied: '/m/.plumbline-sync/part/a'", "model.files", "this node"),
        ("head: sh: 1: python3: Permission denied", "model.ssh", "python3"),
        ("head: ssh: connect to host 10.0.0.1 port 22: Connection refused", "model.ssh", "sshd"),
        ("head: ssh: connect to host 10.0.0.1 port 22: Connection timed out", "model.ssh", "port"),
        ("head: FileNotFoundError: /m/a is gone", "model.source", "head"),
        ("head: it sent other bytes than the source's hash says, of a", "model.source", "head"),
        ("not done in time: 5 bytes of this run kept, 7 bytes missing", "model.transfer", "model_sync_timeout_s"),
        ("head: sh: 1: python3: not found", "model.ssh", "python3"),
        ("", "model.transfer", "run it again"),
    ],
)
def test_explain(text, check, remedy):
    found, seen, what = peer.explain(text, "head:/m", "hpc")
    assert found == check and "head:/m" in seen and remedy in what
