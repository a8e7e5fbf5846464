"""The manifest: what is in it, what differs from it, and which difference is damage."""

import hashlib
import json

import pytest
from ansible.module_utils.plumbline.model import manifest


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("no part of the model")
    (folder / "config.json").write_text("{}")
    (folder / "a.safetensors").write_bytes(b"a" * 5000)
    (folder / "sub" / "b.bin").write_bytes(b"b")
    return folder


def test_build_has_every_file_with_size_and_hash(model):
    built = manifest.build(str(model), 2)
    assert sorted(built["files"]) == ["a.safetensors", "config.json", "sub/b.bin"]
    assert built["files"]["a.safetensors"] == {"size": 5000, "sha256": hashlib.sha256(b"a" * 5000).hexdigest()}
    assert manifest.size_bytes(built) == 5003
    assert manifest.size_bytes(built, ["sub/b.bin"]) == 1


def test_saved_manifest_loads_and_is_no_part_of_itself(model):
    built = manifest.build(str(model), 1)
    manifest.save(str(model), built)
    assert manifest.load(str(model)) == built
    assert manifest.build(str(model), 1) == built
    assert hashlib.sha256((model / "manifest.json").read_bytes()).hexdigest() == manifest.digest(built)


def test_links_count_as_files(model, tmp_path):
    (tmp_path / "blob").write_bytes(b"linked")
    (model / "link.bin").symlink_to(tmp_path / "blob")
    assert manifest.build(str(model), 1)["files"]["link.bin"]["size"] == 6


def test_compare_tells_missing_short_and_changed_apart(model):
    built = manifest.build(str(model), 1)
    assert manifest.compare(str(model), built, 2) == {"missing": [], "size": {}, "hash": {}}
    (model / "config.json").unlink()
    (model / "sub" / "b.bin").write_bytes(b"bb")
    changed = b"a" * 4999 + b"x"
    (model / "a.safetensors").write_bytes(changed)
    found = manifest.compare(str(model), built, 2)
    assert found == {"missing": ["config.json"], "size": {"sub/b.bin": 2}, "hash": {"a.safetensors": hashlib.sha256(changed).hexdigest()}}
    text = manifest.describe(str(model), "a.safetensors", found, built)
    assert hashlib.sha256(changed).hexdigest() in text
    assert built["files"]["a.safetensors"]["sha256"] in text
    assert manifest.differing(found) == ["a.safetensors", "config.json", "sub/b.bin"]
    assert manifest.describe(str(model), "config.json", found, built) == f"{model}/config.json: missing"
    assert manifest.describe(str(model), "sub/b.bin", found, built) == f"{model}/sub/b.bin: size 2 bytes, expected 1"


def test_measured_of_a_model(model):
    found = manifest.measured(manifest.build(str(model), 1), verify_s=1.23456, corrupt_files=2)
    assert found["files"] == 3 and found["size_bytes"] == 5003 and found["verify_s"] == 1.235 and found["corrupt_files"] == 2
    assert found["transferred_bytes"] == 0 and found["transfer_s"] == 0.0
    assert manifest.threads_for(3) == 3 and 1 <= manifest.threads_for(0) <= 8


def test_damage_needs_a_completed_copy_of_the_same_content(model):
    wanted = manifest.build(str(model), 1)
    found = {"missing": ["config.json"], "size": {"sub/b.bin": 2}, "hash": {"a.safetensors": "0" * 64}}
    assert manifest.damaged(found, None, wanted) == []
    assert manifest.damaged(found, wanted, wanted) == ["a.safetensors", "sub/b.bin"]
    older = json.loads(json.dumps(wanted))
    older["files"]["a.safetensors"]["sha256"] = "0" * 64  # the head's model is newer: old, not damaged
    assert manifest.damaged(found, older, wanted) == ["sub/b.bin"]


ENTRY = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", ".ssh/key", "a/.b", "manifest.json", "a\nb", ""])
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(manifest.ManifestError, match="not allowed"):
        manifest.check({"schema": manifest.SCHEMA, "files": {name: ENTRY}})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([], "not a manifest"),
        ({"schema": "x"}, "not a manifest"),
        ({"schema": manifest.SCHEMA, "files": {}}, "without files"),
        ({"schema": manifest.SCHEMA, "files": {"a": {"sha256": "0" * 64}}}, "a: no size"),
        ({"schema": manifest.SCHEMA, "files": {"a": {"size": -1, "sha256": "0" * 64}}}, "a: no size"),
        ({"schema": manifest.SCHEMA, "files": {"a": {"size": 1, "sha256": "Z" * 64}}}, "not a SHA-256"),
    ],
)
def test_bad_manifests_say_what_is_wrong(bad, says):
    with pytest.raises(manifest.ManifestError, match=says):
        manifest.check(bad)


def test_a_damaged_manifest_file_is_an_error_and_a_missing_one_is_none(tmp_path):
    assert manifest.load(str(tmp_path)) is None
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(manifest.ManifestError, match=r"manifest\.json"):
        manifest.load(str(tmp_path))


def test_free_bytes_of_a_path_that_is_not_there_yet(tmp_path):
    assert manifest.free_bytes(str(tmp_path / "a" / "b")) > 0
