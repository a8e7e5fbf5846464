"""The module's own decisions: what is compared, what is refused, what a fact says. The copy itself is tested in ``unit/model``."""

import os

import model_manifest
import model_sync
import pytest
from ansible.module_utils.plumbline.model import chunks, peer, store
from ansible.module_utils.plumbline.model import manifest as manifests
from module_run import run_module


@pytest.fixture
def source(tmp_path):
    """A source of two files; what model_manifest returns of it is in ``manifest`` and ``hashes``."""
    folder = tmp_path / "source" / "big"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(3 * chunks.SMALLEST + 5))
    return folder


def manifest_of(source, capsys, **more):
    return run_module(model_manifest, capsys, path=str(source), **more)


@pytest.fixture
def by_hand(monkeypatch, tmp_path, source):
    """Let ``ssh`` be a shell on this machine, where each node's folder is elsewhere: the program's own first line says which."""
    begin = peer.Connection.__init__

    def connect(self, argv, path, *rest):
        begin(self, ["sh", "-c", 'eval "$0"'], str(source), *rest)

    monkeypatch.setattr(peer.Connection, "__init__", connect)
    config = tmp_path / "run-1" / "config"
    config.parent.mkdir()
    config.write_text("")
    (config.parent / "until").write_text("9999999999\n")
    return {"chain": ["head", "node2"], "addresses": ["10.0.0.1", "fd00::2"], "node": "node2", "ssh_config": str(config)}


def sync(capsys, tmp_path, made, **more):
    arguments = {"path": str(tmp_path / "big"), "manifest": made["manifest"], "chunk_hashes": made["chunk_hashes"], "chain": ["head"]}
    arguments.update(source_status=made["fact"]["status"] if made.get("fact") else "", **more)
    return run_module(model_sync, capsys, **arguments)


def checks(result):
    return [(item["check"], item["status"]) for item in result["fact"]["reasons"]]


def test_manifest_comes_with_hashes_of_its_chunks_that_are_kept(source, capsys):
    first = manifest_of(source, capsys)
    assert first["changed"] and len(chunks.decode(first["chunk_hashes"], first["manifest"])) == 5
    second = manifest_of(source, capsys)
    assert not second["changed"] and second["chunk_hashes"] == first["chunk_hashes"]
    assert second["fact"]["measured"]["files"] == 2, "what is hidden is no part of the model"
    # One that was made before there were such hashes.
    (source / chunks.NAME).unlink()
    assert manifest_of(source, capsys)["chunk_hashes"] == first["chunk_hashes"]


def test_a_damaged_source_has_no_hashes_and_is_not_pulled_from(source, capsys, tmp_path, by_hand):
    manifest_of(source, capsys)
    with open(source / "model.safetensors", "r+b") as stream:
        stream.write(b"spoiled")
    made = manifest_of(source, capsys)
    assert made["fact"]["status"] == "failed" and made["chunk_hashes"] == ""
    compared = sync(capsys, tmp_path, made, copy=False)
    assert checks(compared) == [("model.source", "incomplete")] and compared["wanted"] == []
    pulled = sync(capsys, tmp_path, made, **by_hand)
    assert checks(pulled) == [("model.source", "incomplete")] and not os.path.exists(tmp_path / "big")


def test_comparison_names_what_is_to_be_copied_and_makes_nothing(source, capsys, tmp_path):
    made = manifest_of(source, capsys)
    compared = sync(capsys, tmp_path, made, copy=False)
    assert compared["wanted"] == ["config.json", "model.safetensors"] and not compared["changed"]
    assert checks(compared) == [("model.copy", "incomplete")] and not os.path.exists(tmp_path / "big")


def test_copy_says_what_moved_from_whom_and_leaves_nothing_else(source, capsys, tmp_path, by_hand):
    made = manifest_of(source, capsys)
    result = sync(capsys, tmp_path, made, **by_hand)
    assert result["changed"] and checks(result) == [("model.verified", "healthy")]
    measured, size = result["fact"]["measured"], 3 * chunks.SMALLEST + 7
    assert measured["transferred_bytes"] == measured["size_bytes"] == size and measured["transfer_gbps"] > 0
    assert measured["sources"] == {"head": {"bytes": size, "corrupt_chunks": 0, "left_because": ""}}
    assert result["fact"]["context"]["method"] == "chain"
    assert sorted(os.listdir(tmp_path / "big")) == ["config.json", "manifest.json", "model.safetensors"]
    assert not os.path.exists(by_hand["ssh_config"]), "the key is gone with the copy"
    again = sync(capsys, tmp_path, made, copy=False)
    assert not again["changed"] and again["wanted"] == [] and checks(again) == [("model.verified", "healthy")]


def test_what_moved_is_told_when_the_copy_fails(source, capsys, tmp_path, by_hand, monkeypatch):
    made = manifest_of(source, capsys)
    with open(source / "model.safetensors", "r+b") as stream:  # after its manifest was verified
        stream.seek(2 * chunks.SMALLEST)
        stream.write(b"spoiled")
    monkeypatch.setattr(model_sync.chains.time, "sleep", lambda _s: None)
    result = sync(capsys, tmp_path, made, **by_hand)
    assert checks(result) == [("model.source", "failed")] and "other bytes" in result["fact"]["reasons"][0]["seen"]
    measured = result["fact"]["measured"]
    assert measured["transferred_bytes"] > 0 and measured["sources"]["head"]["corrupt_chunks"] > 0
    assert not os.path.exists(tmp_path / "big" / "manifest.json")


def test_too_small_a_disk_is_told_before_a_byte_is_copied(source, capsys, tmp_path, by_hand, monkeypatch):
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: 1000)
    result = sync(capsys, tmp_path, manifest_of(source, capsys), **by_hand)
    assert checks(result) == [("model.disk", "failed")] and "1000 bytes free" in result["fact"]["reasons"][0]["seen"]
    assert os.listdir(tmp_path / "big") == []


@pytest.mark.parametrize("how", [{"copy": False}, {"_ansible_check_mode": True}])
def test_a_disk_without_room_is_named_by_the_comparison_already(source, capsys, tmp_path, monkeypatch, how):
    made = manifest_of(source, capsys)
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: 1000)
    result = sync(capsys, tmp_path, made, **how)
    reason = result["fact"]["reasons"][0]
    assert result["fact"]["status"] == "failed" and result["wanted"] == [] and reason["check"] == "model.disk"
    assert f"{result['fact']['measured']['size_bytes']} bytes needed" in reason["seen"] and str(tmp_path) in reason["seen"]
    assert "free space" in reason["remedy"]


def test_what_an_interrupted_copy_has_left_needs_no_room_again(source, capsys, tmp_path, monkeypatch):
    made = manifest_of(source, capsys)
    half = store.Store(
        str(tmp_path / "big"), made["manifest"], chunks.decode(made["chunk_hashes"], made["manifest"]), ["model.safetensors"]
    )
    (tmp_path / "big").mkdir()
    half.prepare()
    half.write(1, (source / "model.safetensors").read_bytes()[: chunks.SMALLEST])
    assert store.kept_bytes(half.path, made["manifest"]) == chunks.SMALLEST
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: 2 * chunks.SMALLEST + 7)
    result = sync(capsys, tmp_path, made, copy=False)
    assert checks(result) == [("model.copy", "incomplete")] and result["wanted"]


def test_a_disk_that_fills_during_the_copy_has_both_numbers(source, capsys, tmp_path, by_hand, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "pwrite", full)
    result = sync(capsys, tmp_path, manifest_of(source, capsys), **by_hand)
    assert checks(result) == [("model.disk", "failed")] and "bytes free now" in result["fact"]["reasons"][0]["seen"]


def test_damage_after_a_complete_copy_fails_and_is_mended_only_where_that_is_asked_for(source, capsys, tmp_path, by_hand):
    made = manifest_of(source, capsys)
    sync(capsys, tmp_path, made, **by_hand)
    with open(tmp_path / "big" / "model.safetensors", "r+b") as stream:
        stream.write(b"spoiled")
    compared = sync(capsys, tmp_path, made, copy=False)
    assert checks(compared) == [("model.corrupt", "failed")] and compared["wanted"] == []
    assert compared["fact"]["measured"]["corrupt_files"] == 1
    asked = sync(capsys, tmp_path, made, copy=False, on_corruption="repair")
    assert asked["wanted"] == ["model.safetensors"]
    config = by_hand["ssh_config"]
    os.makedirs(os.path.dirname(config))
    open(config, "w").close()
    mended = sync(capsys, tmp_path, made, on_corruption="repair", only=asked["wanted"], **by_hand)
    assert checks(mended) == [("model.corrupt", "degraded"), ("model.verified", "healthy")]
    assert mended["fact"]["measured"]["transferred_bytes"] == chunks.SMALLEST, "the one chunk that was damaged"


def test_who_waits_too_long_for_another_run_is_told(source, capsys, tmp_path, by_hand):
    with store.locked(str(tmp_path / "big"), 1):
        result = sync(capsys, tmp_path, manifest_of(source, capsys), timeout_s=0, **by_hand)
    assert checks(result) == [("model.busy", "incomplete")]


def test_a_second_run_that_waited_finds_all_of_it_there(source, capsys, tmp_path, by_hand):
    made = manifest_of(source, capsys)
    sync(capsys, tmp_path, made, **by_hand)
    os.makedirs(os.path.dirname(by_hand["ssh_config"]))
    open(by_hand["ssh_config"], "w").close()
    result = sync(capsys, tmp_path, made, **by_hand)
    assert not result["changed"] and checks(result) == [("model.verified", "healthy")]


def test_a_run_that_comes_when_another_has_copied_all_of_it_leaves_no_key(source, capsys, tmp_path, by_hand):
    made = manifest_of(source, capsys)
    sync(capsys, tmp_path, made, **by_hand)
    config = tmp_path / "run-2" / "config"
    config.parent.mkdir()
    config.write_text("")
    (config.parent / "until").write_text("9999999999\n")
    result = sync(capsys, tmp_path, made, **dict(by_hand, ssh_config=str(config)))
    assert checks(result) == [("model.verified", "healthy")] and not config.parent.exists()


def test_without_a_key_the_remedy_is_named(source, capsys, tmp_path):
    result = sync(capsys, tmp_path, manifest_of(source, capsys), node="node2")
    assert checks(result) == [("model.ssh", "failed")] and "--limit" in result["fact"]["reasons"][0]["remedy"]


def test_check_mode_copies_nothing(source, capsys, tmp_path):
    result = sync(capsys, tmp_path, manifest_of(source, capsys), copy=False, _ansible_check_mode=True)
    assert result["changed"] and checks(result) == [("check_mode", "skipped")] and result["wanted"] == []


def test_no_manifest_is_incomplete(capsys, tmp_path):
    result = sync(capsys, tmp_path, {"manifest": {}, "chunk_hashes": ""})
    assert checks(result) == [("model.source", "incomplete")]


def test_ssh_takes_addresses_of_both_families_and_asks_nothing():
    argv = peer.ssh_argv("/run/x/config", "root", "fd00::2")
    assert argv[0] == "ssh" and argv[-2:] == ["--", "fd00::2"] and argv[argv.index("-l") + 1] == "root"
