"""A model from a hub: the real ``hf`` client against a stand-in hub on loopback that breaks off, refuses, limits and lies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import model_hub
import pytest
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.model import download, hub_files
from ansible.module_utils.plumbline.model import manifest as manifests
from model.hub_mock import REPOSITORY, HubMock, blob
from module_run import run_module
from project import ROOT

TOKEN = "hfMadeUpSecret4711"
OLD, NEW = "a" * 40, "b" * 40
SIZE = 24_000_000
CHUNK = 10 * 1024 * 1024  # hf collects as much before it writes (DOWNLOAD_CHUNK_SIZE): what a kill costs at most
SMALL = {"config.json": b'{"model_type": "qwen2"}', "tokenizer/vocab.json": b"{}", ".gitattributes": b"* lfs"}
SHARDS = {"model-00001-of-00002.safetensors": blob(1, SIZE), "model-00002-of-00002.safetensors": blob(2, SIZE)}
FIRST, SECOND = sorted(SHARDS)
NEWER = dict(SMALL, **{FIRST: SHARDS[FIRST], SECOND: blob(3, SIZE), "README.md": b"new"})


def client():
    """Return the real client, None without one."""
    beside = Path(sys.executable).with_name("hf")
    return os.environ.get("PLUMBLINE_TEST_HF") or (str(beside) if beside.exists() else shutil.which("hf"))


needs_client = pytest.mark.skipif(client() is None, reason="no hf client here (huggingface_hub of the dev group: make setup)")


@pytest.fixture
def hub():
    standing = HubMock({OLD: {**SMALL, **SHARDS}, NEW: NEWER}, {"main": OLD}, token=TOKEN, page=3)
    yield standing
    standing.close()


@pytest.fixture
def options(hub, tmp_path):
    return {
        "path": str(tmp_path / "models" / "tiny"), "repository": REPOSITORY, "endpoint": hub.url, "token": TOKEN,
        "program": client() or "hf", "timeout_s": 120,
    }  # fmt: skip


def done(capsys, options, **more):
    result = run_module(model_hub, capsys, **{**options, **more})
    assert TOKEN not in json.dumps(result)
    return result


def whole(folder, files):
    return {name: (Path(folder) / name).read_bytes() == data for name, data in files.items() if not name.startswith(".")}


def left_over(folder):
    return [str(path) for path in Path(folder).rglob("*.incomplete")] + [str(path) for path in Path(folder).rglob("progress")]


def only(result, check):
    found = [item for item in result["fact"]["reasons"] if item["check"] == check]
    assert len(found) == 1, result["fact"]["reasons"]
    return found[0]


@needs_client
def test_a_model_is_downloaded_verified_and_pinned(hub, options, capsys):
    result = done(capsys, options)
    assert result["fact"]["status"] == "healthy", result["fact"]["reasons"]
    assert result["changed"] and result["complete"] and result["commit"] == OLD and all(whole(options["path"], hub.commits[OLD]).values())
    manifest = manifests.load(options["path"])
    assert manifest["origin"] == {"endpoint": hub.url, "repository": REPOSITORY, "commit": OLD}
    assert manifest["files"][FIRST] == {"size": SIZE, "sha256": hashlib.sha256(SHARDS[FIRST]).hexdigest()}
    assert set(manifest["files"]) == {name for name in hub.commits[OLD] if not name.startswith(".")}
    measured = result["fact"]["measured"]
    assert measured["transferred_bytes"] == measured["size_bytes"] > 2 * SIZE and measured["resumed_bytes"] == 0 and measured["files"] == 4
    assert result["fact"]["context"]["commit"] == OLD and result["fact"]["context"]["revision"] == "main"
    assert not left_over(options["path"])
    assert manifests.compare(options["path"], manifests.build(options["path"], 1), 1) == {"missing": [], "size": {}, "hash": {}}
    # The signed addresses of large files are another host's.
    assert {seen[3] for seen in hub.requests if seen[1].startswith("/store/")} == {None}


@needs_client
def test_what_is_there_is_not_downloaded_again_and_a_pinned_commit_asks_nobody(hub, options, capsys):
    done(capsys, options)
    hub.sent.clear()
    again = done(capsys, options)
    assert not again["changed"] and again["complete"] and again["fact"]["status"] == "healthy" and not hub.sent
    hub.requests.clear()
    pinned = done(capsys, options, revision=OLD)
    assert pinned["complete"] and not pinned["changed"] and not hub.requests


@needs_client
def test_a_branch_that_moved_brings_only_what_is_new(hub, options, capsys):
    done(capsys, options)
    hub.refs["main"] = NEW
    hub.sent.clear()
    result = done(capsys, options)
    assert result["fact"]["status"] == "healthy" and result["commit"] == NEW and result["changed"]
    assert set(hub.sent) == {SECOND} and all(whole(options["path"], NEWER).values())
    assert manifests.load(options["path"])["origin"]["commit"] == NEW


DRIVER = """
import sys
sys.path[:0] = [%r, %r]
import ansible.module_utils
ansible.module_utils.__path__.append(%r)
import model_hub
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.testing import patch_module_args
import json
with patch_module_args(json.load(sys.stdin)):
    model_hub.main()
""" % (str(ROOT / "library"), str(ROOT / "tests"), str(ROOT / "plugins" / "module_utils"))


def started(options):
    """Start the module in a process of its own, its options by stdin as Ansible gives them."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdin.write(json.dumps(options))
    process.stdin.close()
    process.stdin = None
    return process


def until(condition, patience_s=30):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.05)


def written(folder):
    """Return of how many files the client has written its first chunk."""
    found = set()
    for path, digest in hub_files.parts(folder).items():
        try:
            found |= {digest} if os.path.getsize(path) >= CHUNK else set()
        except OSError:
            pass
    return len(found)


@needs_client
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_download_goes_on_within_its_files(hub, options, capsys, signum):
    hub.rate = 6_000_000
    process = started(options)
    until(lambda: written(options["path"]) == 2)
    below = processes.descendants(process.pid, processes.table())
    assert below, "the client runs"
    process.send_signal(signum)
    process.communicate()
    until(lambda: not any(processes.is_running(pid) for pid in below))
    there = {path: os.path.getsize(path) for path in hub_files.parts(options["path"])}
    assert there, "what came is still there"
    hub.rate = None
    result = done(capsys, options)
    assert result["fact"]["status"] == "healthy", result["fact"]["reasons"]
    assert all(whole(options["path"], SHARDS).values()) and not left_over(options["path"])
    for name in SHARDS:
        asked = [item for item in hub.ranges(name) if item]
        assert len(asked) == 1 and int(asked[0][6:-1]) >= CHUNK, "the rest was asked for, and nothing before it"
        assert hub.resumed[name] == SIZE - int(asked[0][6:-1])
    assert result["fact"]["measured"]["resumed_bytes"] >= 2 * CHUNK
    assert {seen[3] for seen in hub.requests if seen[1].startswith("/store/")} == {None}, "our own requests give the token to no other host"
    assert result["fact"]["measured"]["transferred_bytes"] == 2 * SIZE - result["fact"]["measured"]["resumed_bytes"]


@needs_client
def test_a_connection_that_breaks_off_is_taken_up_in_the_same_run(hub, options, capsys):
    hub.cuts = {FIRST: 13_000_000, SECOND: 4_000_000}
    result = done(capsys, options)
    assert result["fact"]["status"] == "healthy", result["fact"]["reasons"]
    assert all(whole(options["path"], SHARDS).values()) and hub.sent[FIRST] <= SIZE + CHUNK and any(hub.ranges(FIRST))


@needs_client
def test_a_hub_without_ranges_sends_the_file_again(hub, options, capsys):
    hub.rate = 6_000_000
    process = started(options)
    until(lambda: written(options["path"]))
    process.kill()
    process.communicate()
    hub.rate, hub.no_ranges = None, True
    result = done(capsys, options)
    assert result["fact"]["status"] == "healthy" and all(whole(options["path"], SHARDS).values()) and not left_over(options["path"])


@needs_client
@pytest.mark.parametrize("name", [SECOND, "config.json"])
def test_a_corrupt_file_is_named_and_not_kept(hub, options, capsys, name):
    hub.damaged = {name}
    result = done(capsys, options)
    reason = only(result, "model.verify")
    assert (
        result["fact"]["status"] == "failed" and not result["complete"] and name in reason["seen"] and "the source says" in reason["seen"]
    )
    assert result["fact"]["measured"]["corrupt_files"] == 1 and manifests.load(options["path"]) is None
    hub.damaged = set()
    mended = done(capsys, options)
    assert mended["fact"]["status"] == "healthy" and all(whole(options["path"], hub.commits[OLD]).values())


@needs_client
def test_a_part_with_wrong_bytes_is_not_finished_into_a_file(hub, options, capsys):
    folder = Path(options["path"]) / ".cache" / "huggingface" / "download"
    folder.mkdir(parents=True)
    (folder / ("x.%s.0badcafe.incomplete" % hashlib.sha256(SHARDS[FIRST]).hexdigest())).write_bytes(b"\0" * 1000)
    (folder / ("x.%s.0badcaff.incomplete" % ("c" * 64))).write_bytes(b"of another commit")
    result = done(capsys, options)
    assert result["fact"]["status"] == "healthy" and all(whole(options["path"], SHARDS).values()) and not left_over(options["path"])


@needs_client
def test_damage_after_a_download_is_repaired_only_when_asked(hub, options, capsys):
    done(capsys, options)
    (Path(options["path"]) / FIRST).write_bytes(b"\0" * SIZE)
    left = done(capsys, options)
    assert left["complete"] and not left["changed"], "model_manifest names the damage"
    mended = done(capsys, options, on_corruption="repair")
    assert mended["fact"]["status"] == "degraded" and FIRST in only(mended, "model.corrupt")["seen"]
    assert all(whole(options["path"], SHARDS).values()) and set(hub.sent) == set(SHARDS)


@needs_client
def test_files_from_elsewhere_are_never_written_over(hub, options, capsys):
    Path(options["path"]).mkdir(parents=True)
    (Path(options["path"]) / "config.json").write_text("mine")
    result = done(capsys, options)
    assert result["fact"]["status"] == "failed" and "config.json" in only(result, "model.foreign")["seen"] and not result["complete"]
    assert (Path(options["path"]) / "config.json").read_text() == "mine" and not hub.sent


@needs_client
def test_two_at_once_do_not_trample_each_other(hub, options):
    hub.rate = 16_000_000
    results = [json.loads(process.communicate()[0]) for process in [started(options), started(options)]]
    assert [item["fact"]["status"] for item in results] == ["healthy", "healthy"]
    assert sorted(item["fact"]["measured"]["transferred_bytes"] > 0 for item in results) == [False, True]
    assert all(hub.sent[name] == SIZE for name in SHARDS)


@needs_client
def test_time_that_is_over_is_told_and_what_came_is_kept(hub, options, capsys):
    hub.rate = 2_900_000
    result = done(capsys, options, timeout_s=8)
    assert only(result, "hub.time")["status"] == "failed" and result["fact"]["measured"]["transferred_bytes"] > 1_000_000
    assert hub_files.parts(options["path"]) and not result["complete"]


@needs_client
def test_progress_has_rate_and_time_left(hub, options):
    hub.rate = 8_000_000
    process, lines = started(options), set()
    while process.poll() is None:
        try:
            lines.add((Path(options["path"]) / download.PROGRESS).read_text())
        except OSError:
            pass
        time.sleep(0.2)
    assert json.loads(process.communicate()[0])["complete"]
    assert any(" of 48.0 MB, " in line and "MB/s" in line and " left" in line for line in lines), lines


@needs_client
def test_the_token_is_nowhere(hub, options):
    hub.rate, seen = 12_000_000, []

    def sample(stop):
        while not stop.is_set():
            for pid in processes.pids():
                try:
                    seen.append(Path("/proc/%d/cmdline" % pid).read_bytes())
                except OSError:
                    pass
            time.sleep(0.05)

    stop = threading.Event()
    watcher = threading.Thread(target=sample, args=(stop,))
    watcher.start()
    out, err = started(options).communicate()
    stop.set()
    watcher.join()
    assert json.loads(out)["complete"] and TOKEN not in out + err
    assert any(b"download" in line and b"--local-dir" in line for line in seen), "the client was seen"
    assert not [line for line in seen if TOKEN.encode() in line]
    held = [path for path in Path(options["path"]).rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert not held
    assert {seen[3] for seen in hub.requests if seen[1].startswith("/api/models/")} == {"Bearer " + TOKEN}, "and yet it was used"


# What the hub itself refuses, before the client is asked.
@pytest.mark.parametrize(
    ("how", "more", "check", "words"),
    [
        ({"gated": True}, {}, "hub.gated", ("restricted", "accept the model's terms")),
        ({}, {"token": "hfWrongSecret0815"}, "hub.token", ("401", "make a new one")),
        ({}, {"token": ""}, "hub.repository", ("401", "private one needs a token")),
        ({}, {"repository": "plumb/Tinny-1B"}, "hub.repository", ("404", "spelling")),
        ({}, {"repository": "../etc"}, "hub.repository", ("'../etc'", "Qwen/Qwen2.5-72B")),
        ({}, {"revision": "v9"}, "hub.revision", ("v9", "model_sync_hub_revision")),
        ({"limited": True}, {}, "hub.rate_limit", ("429", "271 s")),
        ({}, {"endpoint": "http://127.0.0.1:9"}, "hub.unreachable", ("refused", "HTTPS_PROXY")),
        ({}, {"endpoint": "huggingface.co"}, "hub.endpoint", ("huggingface.co", "model_sync_hub_endpoint")),
        ({}, {"program": "/nowhere/hf"}, "hub.client", ("/nowhere/hf", "pip install huggingface_hub")),
        ({}, {"include": ["*.gguf"]}, "hub.files", ("no file", "model_sync_hub_include")),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_its_remedy(hub, options, capsys, monkeypatch, how, more, check, words):
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    monkeypatch.setattr(model_hub.hub_download.Hub.__init__, "__defaults__", ("", lambda _s: None))
    for name, value in how.items():
        setattr(hub, name, value)
    result = done(capsys, options, **more)
    reason = only(result, check)
    assert result["fact"]["status"] == "failed" and not result["complete"] and not result.get("failed")
    assert all(word in reason["seen"] + str(reason["remedy"]) for word in words), reason
    assert more.get("token", "-") in ("", "-") or more["token"] not in json.dumps(result)


@needs_client
def test_a_hub_that_is_away_leaves_the_model_that_is_there_as_degraded(hub, options, capsys, monkeypatch):
    done(capsys, options)
    hub.unavailable = True
    monkeypatch.setattr(model_hub.hub_download.Hub.__init__, "__defaults__", ("", lambda _s: None))
    result = done(capsys, options)
    assert result["fact"]["status"] == "degraded" and result["complete"] and OLD[:12] in only(result, "hub.unavailable")["seen"]


def test_a_disk_without_room_is_named_before_a_byte_moves(hub, options, capsys, monkeypatch):
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: 1_000_000)
    reason = only(done(capsys, options), "model.disk")
    assert "1000000 bytes free" in reason["seen"] and str(2 * SIZE)[:2] in reason["threshold"] and not hub.sent


def test_check_mode_says_what_would_come(hub, options, capsys):
    result = done(capsys, options, _ansible_check_mode=True)
    assert result["fact"]["status"] == "skipped" and result["changed"] and "4 files" in only(result, "check_mode")["seen"]
    assert not os.path.exists(options["path"])


def own_disks():
    """Tell whether this user may mount a disk of its own, in a namespace of its own."""
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


@needs_client
@pytest.mark.skipif(not own_disks(), reason="no namespaces with mounts here")
def test_a_disk_that_fills_up_meanwhile_is_named(hub, options, tmp_path):
    hub.rate = 12_000_000
    # 56 MB are enough for the model; 20 MB of somebody else's come when it has begun.
    root = tmp_path / "disk"
    root.mkdir()
    (tmp_path / "options.json").write_text(json.dumps({**options, "path": str(root / "tiny")}))
    (tmp_path / "driver.py").write_text(DRIVER)
    begun = "ls tiny/.cache/huggingface/download/*.incomplete"
    filler = "(until %s; do sleep .1; done; dd if=/dev/zero of=others bs=1M count=20) >/dev/null 2>&1" % begun
    inside = "mount -t tmpfs -o size=56m tmpfs %s && cd %s && { %s & } && exec %s %s < %s" % (
        root, root, filler, sys.executable, tmp_path / "driver.py", tmp_path / "options.json",
    )  # fmt: skip
    run = subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, timeout=120)
    result = json.loads(run.stdout)
    reason = only(result, "model.disk")
    assert result["fact"]["status"] == "failed" and "No space left" in reason["seen"] and "free space" in reason["remedy"]
    assert not result["complete"] and result["fact"]["measured"]["transferred_bytes"] > CHUNK
