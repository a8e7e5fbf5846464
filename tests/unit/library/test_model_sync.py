"""The module's own decisions: what is compared, what is refused, what a fact says. The copy itself is tested in ``unit/model``."""

import os

import model_manifest
import model_sync
import pytest
import yaml
from ansible.module_utils.plumbline.model import chunks, look, peer, store, unfinished
from ansible.module_utils.plumbline.model import manifest as manifests
from module_run import run_module
from project import ROOT, load


@pytest.fixture
def source(tmp_path):
    """A source of two files; what model_manifest returns of it is in ``manifest`` and ``hashes``."""
    folder = tmp_path / "source" / "big"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(3 * chunks.SMALLEST + 5))
    return folder


def manifest_of(folder, capsys, **more):
    return run_module(model_manifest, capsys, path=str(folder), **more)


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


# A copy that did not end.


@pytest.fixture
def half(source, capsys, tmp_path, by_hand, monkeypatch):
    """A node whose update to a model of two new files was killed after the first was there; return (its folder, what the head has)."""
    sync(capsys, tmp_path, manifest_of(source, capsys), **by_hand)
    (source / "config.json").write_text('{"new": 1}')
    (source / "model.safetensors").write_bytes(os.urandom(3 * chunks.SMALLEST + 5))
    made = manifest_of(source, capsys, rebuild=True)
    begin_again(by_hand)

    def killed(self, name):
        if name == "model.safetensors":
            raise OSError(5, "killed")
        finish(self, name)

    finish = store.Store.finish
    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "finish", killed)
        assert sync(capsys, tmp_path, made, **by_hand)["fact"]["status"] == "failed"
    begin_again(by_hand)
    assert (tmp_path / "big" / "config.json").read_text() == '{"new": 1}', "a file of the new model beside one of the old"
    return tmp_path / "big", made


def begin_again(by_hand):
    os.makedirs(os.path.dirname(by_hand["ssh_config"]), exist_ok=True)
    open(by_hand["ssh_config"], "w").close()


@pytest.mark.parametrize("more", [{}, {"rebuild": True}, {"source": "random"}, {"source": "hub"}])
def test_a_half_copied_folder_is_nobodys_model(half, capsys, more):
    folder, _made = half
    result = manifest_of(folder, capsys, **more)
    assert checks(result) == [("model.unfinished", "failed")] and result["manifest"] == {} and result["chunk_hashes"] == ""
    assert "reset_remove" in result["fact"]["reasons"][0]["remedy"] and not (folder / "manifest.json").exists()


@pytest.mark.parametrize("left", ["mark", "parts", "lock"])
def test_each_trace_of_a_copy_is_enough(half, capsys, left):
    folder, _made = half
    if left != "mark":
        (folder / unfinished.NAME).unlink()
    if left != "parts":  # as the reset does
        store.shutil.rmtree(folder / ".plumbline-sync")
    if left == "lock":
        with store.locked(str(folder), 0):
            result = manifest_of(folder, capsys)
        assert "another run" in result["fact"]["reasons"][0]["seen"]
    else:
        result = manifest_of(folder, capsys)
    assert checks(result) == [("model.unfinished", "failed")] and result["manifest"] == {}


def test_check_mode_foretells_that_a_random_model_is_made_again(half, capsys):
    result = manifest_of(half[0], capsys, source="random", _ansible_check_mode=True)
    assert checks(result) == [("check_mode", "skipped")] and "made again" in result["fact"]["reasons"][0]["seen"]


def test_a_copy_that_goes_on_to_its_end_leaves_no_mark(half, capsys, tmp_path, by_hand):
    folder, made = half
    assert sync(capsys, tmp_path, made, **by_hand)["fact"]["status"] == "healthy"
    assert sorted(os.listdir(folder)) == ["config.json", "manifest.json", "model.safetensors"]
    assert manifest_of(folder, capsys)["fact"]["status"] == "healthy", "and it can be the head"


def test_a_folder_that_became_whole_by_hand_loses_its_mark(half, source, capsys, tmp_path):
    folder, made = half
    (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    result = sync(capsys, tmp_path, made, copy=False)
    assert checks(result) == [("model.verified", "healthy")] and result["changed"]
    assert sorted(os.listdir(folder)) == ["config.json", "manifest.json", "model.safetensors"]


def test_a_mark_beside_the_manifest_of_whole_files_goes(source, capsys, tmp_path, by_hand):
    made = manifest_of(source, capsys)
    sync(capsys, tmp_path, made, **by_hand)
    mark = tmp_path / "big" / unfinished.NAME  # killed between the manifest and the end
    mark.write_text('{"files": []}')
    assert not look.is_whole(str(mark.parent), manifests.digest(made["manifest"]), 1)
    assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.verified", "healthy")] and not mark.exists()
    assert look.is_whole(str(mark.parent), manifests.digest(made["manifest"]), 1)
    mark.write_text('{"files": []}')
    assert manifest_of(mark.parent, capsys)["fact"]["status"] == "healthy" and not mark.exists()


def test_a_folder_that_another_run_copies_to_is_left_to_it(source, capsys, tmp_path, by_hand):
    made = manifest_of(source, capsys)
    sync(capsys, tmp_path, made, **by_hand)
    (tmp_path / "big" / "manifest.json").unlink()
    with store.locked(str(tmp_path / "big"), 0):
        result = sync(capsys, tmp_path, made, copy=False)
    assert result["fact"]["status"] == "healthy" and not (tmp_path / "big" / "manifest.json").exists()


def test_a_persons_own_folder_is_a_model_as_ever(source, capsys):
    (source / ".plumbline-sync").mkdir()  # empty: nothing was begun
    assert manifest_of(source, capsys)["fact"]["status"] == "healthy"


def test_a_random_model_replaces_a_half_copy_and_nothing_of_anybody_else(half, tmp_path):
    maker, (folder, _made) = load("roles/model_sync/files/make_random_model.py"), half
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="half-copied, and 1 files.*notes.txt"):
        maker.is_to_be_made(str(folder))
    (folder / "notes.txt").unlink()
    assert maker.is_to_be_made(str(folder))
    fresh = tmp_path / ".making-x"
    fresh.mkdir()
    (fresh / "config.json").write_text("{}")
    with store.locked(str(folder), 0), pytest.raises(SystemExit, match="another run"):
        maker.put(str(fresh), str(folder))
    maker.put(str(fresh), str(folder))
    assert os.listdir(folder) == ["config.json"]
    assert not maker.is_to_be_made(str(folder)), "whole, its manifest is made next"
    (folder / "config.json").rename(folder / "x")
    with pytest.raises(SystemExit, match="not a model of ours"):
        maker.is_to_be_made(str(folder))


def test_reset_keeps_the_mark_and_random_asks_for_the_manifest():
    tasks = yaml.safe_load((ROOT / "roles/model_sync/tasks/reset.yml").read_text())
    removed = [task["ansible.builtin.file"]["path"] for task in tasks if task.get("ansible.builtin.file", {}).get("state") == "absent"]
    assert removed == ["{{ model_sync_path }}/.plumbline-sync", "{{ model_sync_path }}"]
    assert tasks[-1]["when"] == "model_sync_reset_remove | bool"
    (make,) = yaml.safe_load((ROOT / "roles/model_sync/tasks/random.yml").read_text())
    assert make["ansible.builtin.script"]["creates"] == "{{ __model_sync_folder }}/manifest.json"


# What a copy left on a node that became whole another way.


@pytest.fixture
def parts(tmp_path):
    """Parts of an interrupted copy of another model, in the folder of a node's."""
    folder = tmp_path / "big" / ".plumbline-sync"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "model.safetensors").write_bytes(os.urandom(2 * chunks.SMALLEST))
    return folder


def test_parts_beside_a_whole_model_are_removed_unless_a_copy_is_at_it(source, capsys, tmp_path, parts):
    made = manifest_of(source, capsys)
    store.shutil.copytree(source, parts.parent, dirs_exist_ok=True)
    assert not look.is_whole(str(parts.parent), manifests.digest(made["manifest"]), 1)
    with store.locked(str(parts.parent), 0):
        assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.verified", "healthy")]
    assert sync(capsys, tmp_path, made, copy=False, _ansible_check_mode=True)["changed"] and parts.exists()
    assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.verified", "healthy")] and not parts.exists()
    assert look.is_whole(str(parts.parent), manifests.digest(made["manifest"]), 1)
    assert not sync(capsys, tmp_path, made, copy=False)["changed"]


def test_parts_beside_a_damaged_model_stay(source, capsys, tmp_path, parts):
    made = manifest_of(source, capsys)
    store.shutil.copytree(source, parts.parent, dirs_exist_ok=True)
    (parts.parent / "config.json").write_text("{ ")
    assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.corrupt", "failed")] and parts.exists()
    assert manifest_of(parts.parent, capsys)["fact"]["status"] == "failed" and parts.exists()


def test_the_head_removes_them_too(source, capsys, parts):
    manifest_of(source, capsys)
    store.shutil.copytree(source, parts.parent, dirs_exist_ok=True)
    assert manifest_of(parts.parent, capsys, _ansible_check_mode=True)["fact"]["status"] == "healthy" and parts.exists()
    assert manifest_of(parts.parent, capsys)["fact"]["status"] == "healthy" and not parts.exists()


def test_parts_of_another_model_count_as_room(source, capsys, tmp_path, parts, monkeypatch):
    made = manifest_of(source, capsys)
    left = store.left_bytes(str(parts.parent))
    assert left >= 2 * chunks.SMALLEST
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: made["fact"]["measured"]["size_bytes"] - left)
    assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.copy", "incomplete")]
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: made["fact"]["measured"]["size_bytes"] - left - 1)
    assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.disk", "failed")]


# Files that are not the model's.

INDEX = '{"weight_map": {"a": "model-1-of-1.safetensors"}}'


@pytest.fixture
def resharded(source, capsys, tmp_path, by_hand):
    """A node with a copied model in shards; the head has one in a single file by now. Return (the node's folder, what the head has)."""
    whole = source / "model.safetensors"
    shards = {"model.safetensors.index.json": INDEX, "model-1-of-1.safetensors": "old", "sub/x": "old"}
    weights = whole.read_bytes()
    whole.unlink()
    (source / "sub").mkdir()
    for name, text in shards.items():
        (source / name).write_text(text)
    sync(capsys, tmp_path, manifest_of(source, capsys), **by_hand)
    for name in shards:
        (source / name).unlink()
    whole.write_bytes(weights)
    begin_again(by_hand)
    return tmp_path / "big", manifest_of(source, capsys, rebuild=True)


def files_of(folder):
    return sorted(manifests.files_below(str(folder)))


def removed(result):
    return [item["seen"] for item in result["fact"]["reasons"] if item["check"] == "model.removed"]


def test_files_of_the_earlier_model_go_with_it_and_a_persons_file_stays(resharded, capsys, tmp_path, by_hand):
    folder, made = resharded
    (folder / "adapter.safetensors").write_text("mine")
    compared = sync(capsys, tmp_path, made, copy=False)
    assert checks(compared) == [("model.copy", "incomplete"), ("model.extra_files", "degraded")]
    assert "1 files" in compared["fact"]["reasons"][1]["seen"] and "model.safetensors.index.json" in files_of(folder)
    result = sync(capsys, tmp_path, made, **by_hand)
    assert checks(result) == [("model.removed", "healthy"), ("model.verified", "healthy"), ("model.extra_files", "degraded")]
    assert "removed 3 files" in removed(result)[0] and "model.safetensors.index.json" in removed(result)[0]
    assert "adapter.safetensors" in result["fact"]["reasons"][2]["seen"] and result["fact"]["status"] == "degraded"
    assert files_of(folder) == ["adapter.safetensors", "config.json", "model.safetensors"]
    assert not look.is_whole(str(folder), manifests.digest(made["manifest"]), 1)
    assert checks(sync(capsys, tmp_path, made, copy=False)) == [("model.verified", "healthy"), ("model.extra_files", "degraded")]
    (folder / "adapter.safetensors").unlink()
    assert look.is_whole(str(folder), manifests.digest(made["manifest"]), 1)


def test_without_other_files_the_node_is_healthy_at_once(resharded, capsys, tmp_path, by_hand):
    folder, made = resharded
    assert sync(capsys, tmp_path, made, **by_hand)["fact"]["status"] == "healthy" and files_of(folder) == [
        "config.json",
        "model.safetensors",
    ]
    assert look.is_whole(str(folder), manifests.digest(made["manifest"]), 1)


def test_also_where_nothing_is_to_be_copied(resharded, source, capsys, tmp_path):
    folder, made = resharded
    (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    foretold = sync(capsys, tmp_path, made, copy=False, _ansible_check_mode=True)
    assert (
        foretold["changed"]
        and checks(foretold) == [("model.verified", "healthy"), ("check_mode", "skipped")]
        and len(files_of(folder)) == 5
    )
    result = sync(capsys, tmp_path, made, copy=False)
    assert checks(result) == [("model.removed", "healthy"), ("model.verified", "healthy")]
    assert files_of(folder) == ["config.json", "model.safetensors"]


def test_a_copy_that_goes_on_after_a_kill_still_knows_the_earlier_model(resharded, capsys, tmp_path, by_hand, monkeypatch):
    folder, made = resharded

    def killed(*_args):
        raise OSError(5, "killed")

    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "finish", killed)
        assert sync(capsys, tmp_path, made, **by_hand)["fact"]["status"] == "failed"
    assert "model.safetensors.index.json" in files_of(folder) and not (folder / "manifest.json").exists()
    begin_again(by_hand)
    result = sync(capsys, tmp_path, made, **by_hand)
    assert result["fact"]["status"] == "healthy" and "removed 3 files" in removed(result)[0]
    assert files_of(folder) == ["config.json", "model.safetensors"]


def test_files_of_a_node_that_was_the_head_are_a_persons_and_named(resharded, capsys, tmp_path, by_hand):
    folder, made = resharded
    manifest_of(folder, capsys)
    before = set(files_of(folder))
    result = sync(capsys, tmp_path, made, **by_hand)
    assert result["fact"]["status"] == "degraded" and removed(result) == []
    assert before <= set(files_of(folder))


def test_nothing_is_removed_through_a_linked_folder(resharded, capsys, tmp_path, by_hand):
    folder, made = resharded
    (folder / "sub").rename(tmp_path / "elsewhere")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    result = sync(capsys, tmp_path, made, **by_hand)
    assert (tmp_path / "elsewhere" / "x").exists() and "removed 2 files" in removed(result)[0]
    assert result["fact"]["status"] == "degraded" and "sub/x" in result["fact"]["reasons"][-1]["seen"]


def test_nothing_is_removed_from_a_damaged_node(resharded, source, capsys, tmp_path):
    folder, made = resharded
    (folder / "config.json").write_text("[]")
    result = sync(capsys, tmp_path, made, copy=False)
    assert checks(result) == [("model.corrupt", "failed"), ("model.extra_files", "degraded")] and len(files_of(folder)) == 4
