"""A model from Azure's blob storage. azcopy is a mock: there is no Azure here; its lines are those of its source, its errors real ones."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import model_blob
import model_manifest
import pytest
from ansible.module_utils.plumbline.model import blob, unfinished
from ansible.module_utils.plumbline.model import manifest as manifests
from module_run import run_module

URL = "https://models.blob.core.windows.net/qwen/tiny"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "tokenizer/vocab.json": b"[]"}

# Answers `list` as cmd/list.go prints it and `sync` by copying what is not there; keeps its arguments and environment.
MOCK = """#!/usr/bin/env python3
import base64, hashlib, json, os, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
with open(here / "calls", "a") as calls:
    calls.write(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith("AZCOPY_")}]) + "\\n")
if (here / "fails").exists() and not (sys.argv[1] == "list" and (here / "listing").exists()):
    print((here / "fails").read_text())
    sys.exit(1)
store = here / "store"
names = sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())
if sys.argv[1] == "list":
    for name in names:
        data = (store / name).read_bytes()
        md5 = "" if (here / "no_md5").exists() else base64.b64encode(hashlib.md5(data).digest()).decode()
        print("INFO: %s; ContentMD5: %s;  Content Length: %d" % (name, md5, len(data)))
else:
    for name in names:
        target = pathlib.Path(sys.argv[3]) / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"x" * len((store / name).read_bytes()) if (here / "damages").exists() else (store / name).read_bytes())
    print("Final Job Status: Completed")
"""


@pytest.fixture
def azcopy(tmp_path):
    folder = tmp_path / "azcopy_mock"
    for name, data in FILES.items():
        (folder / "store" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "store" / name).write_bytes(data)
    (folder / "azcopy_mock").write_text(MOCK)
    (folder / "azcopy_mock").chmod(0o755)
    return folder


def done(capsys, azcopy, path, **more):
    return run_module(model_blob, capsys, **{"path": str(path), "url": URL, "program": str(azcopy / "azcopy_mock"), **more})


def calls(azcopy):
    return [json.loads(line) for line in (azcopy / "calls").read_text().splitlines()]


def checks(result, status):
    return [item["check"] for item in result["fact"]["reasons"] if item["status"] == status]


def test_a_model_comes_with_the_managed_identity_and_is_verified(azcopy, tmp_path, capsys):
    result = done(capsys, azcopy, tmp_path / "tiny", client_id="1234-abcd")
    assert result["fact"]["status"] == "healthy" and result["complete"] and result["changed"], result["fact"]["reasons"]
    assert all((tmp_path / "tiny" / name).read_bytes() == data for name, data in FILES.items())
    manifest = manifests.load(str(tmp_path / "tiny"))
    assert manifest["origin"]["url"] == URL and set(manifest["files"]) == set(FILES)
    assert result["fact"]["measured"]["transferred_bytes"] == sum(map(len, FILES.values()))
    (listing, _env), (sync, env) = calls(azcopy)
    assert listing == ["list", URL, "--machine-readable", "--properties", "ContentMD5"] and sync[:2] == ["sync", URL]
    assert env["AZCOPY_AUTO_LOGIN_TYPE"] == "MSI" and env["AZCOPY_MSI_CLIENT_ID"] == "1234-abcd"
    again = done(capsys, azcopy, tmp_path / "tiny")
    assert again["complete"] and not again["changed"] and again["fact"]["status"] == "healthy" and len(calls(azcopy)) == 3


def test_others_can_read_what_a_root_with_a_strict_umask_brings(azcopy, tmp_path, capsys):
    before = os.umask(0o077)
    try:
        result = done(capsys, azcopy, tmp_path / "models" / "tiny")
    finally:
        os.umask(before)
    assert result["complete"]
    folder = tmp_path / "models"
    modes = {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    assert modes["."] == modes["tiny"] == modes["tiny/tokenizer"] == 0o755
    assert {modes["tiny/" + name] for name in [*FILES, "manifest.json"]} == {0o644}


def test_a_killed_one_goes_on_and_leaves_nothing_over(azcopy, tmp_path, capsys):
    path = tmp_path / "tiny"
    (path / ".cache" / "plumbline").mkdir(parents=True)
    (path / "config.json").write_bytes(FILES["config.json"])
    (path / ".azDownload-1234-model.safetensors").write_bytes(b"half")
    result = done(capsys, azcopy, path)
    assert result["fact"]["status"] == "healthy" and not list(path.glob(".azDownload*"))
    assert result["fact"]["measured"]["transferred_bytes"] <= sum(map(len, FILES.values())) - 2


def test_a_download_that_did_not_end_is_nobodys_model_until_it_does(azcopy, tmp_path, capsys):
    path = tmp_path / "tiny"
    done(capsys, azcopy, path)
    (azcopy / "store" / "config.json").write_bytes(b'{"new": 1}')
    (azcopy / "fails").write_text("panic")
    (azcopy / "listing").touch()
    assert done(capsys, azcopy, path)["fact"]["status"] == "failed"
    assert not (path / "manifest.json").exists() and (path / "model.safetensors").exists()
    verdict = run_module(model_manifest, capsys, path=str(path), source="directory")
    assert [item["check"] for item in verdict["fact"]["reasons"]] == ["model.unfinished"] and verdict["manifest"] == {}
    (azcopy / "fails").unlink()
    assert done(capsys, azcopy, path)["complete"]
    assert not (path / unfinished.NAME).exists()
    assert run_module(model_manifest, capsys, path=str(path), source="blob")["fact"]["status"] == "healthy"


def test_what_a_copy_between_nodes_left_half_way_is_made_whole_and_a_persons_file_stays(azcopy, tmp_path, capsys):
    path = tmp_path / "tiny"
    (path / ".plumbline-sync" / "part").mkdir(parents=True)
    for name in ("config.json", "model-of-2.safetensors", "tokenizer.json"):
        (path / name).write_text("old")
    (path / unfinished.NAME).write_text(json.dumps({"files": ["config.json", "model-of-2.safetensors"]}))
    result = done(capsys, azcopy, path)
    assert result["complete"] and result["fact"]["status"] == "healthy", result["fact"]["reasons"]
    assert sorted(item.name for item in path.iterdir()) == [
        ".cache", "config.json", "manifest.json", "model.safetensors", "tokenizer", "tokenizer.json"
    ]  # fmt: skip
    assert (path / "config.json").read_bytes() == FILES["config.json"] and (path / "tokenizer.json").read_text() == "old"


def test_parts_of_a_copy_between_nodes_count_as_room_and_go(azcopy, tmp_path, capsys, monkeypatch):
    part = tmp_path / "tiny" / ".plumbline-sync" / "part" / "x"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 5000)
    monkeypatch.setattr(manifests, "free_bytes", lambda _path: sum(map(len, FILES.values())) - 5000)
    assert done(capsys, azcopy, tmp_path / "tiny")["fact"]["status"] == "healthy"
    assert not (tmp_path / "tiny" / ".plumbline-sync").exists()


def test_files_that_no_copy_left_are_foreign_also_beside_a_mark(azcopy, tmp_path, capsys):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text("mine")
    (path / unfinished.NAME).write_text(json.dumps({"files": ["model.safetensors"]}))
    result = done(capsys, azcopy, path)
    assert checks(result, "failed") == ["model.foreign"] and (path / "config.json").read_text() == "mine"


def test_a_file_that_came_damaged_is_named_and_not_kept(azcopy, tmp_path, capsys):
    (azcopy / "damages").touch()
    result = done(capsys, azcopy, tmp_path / "tiny")
    assert checks(result, "failed") == ["model.verify"] * 3 and not result["complete"] and "md5" in result["fact"]["reasons"][0]["seen"]
    assert not list((tmp_path / "tiny").glob("*.json"))


def test_files_without_a_checksum_are_told(azcopy, tmp_path, capsys):
    (azcopy / "no_md5").touch()
    result = done(capsys, azcopy, tmp_path / "tiny")
    assert result["fact"]["status"] == "healthy" and checks(result, "skipped") == ["blob.md5"]
    assert "3 files" in result["fact"]["reasons"][-1]["seen"] and "--put-md5" in result["fact"]["reasons"][-1]["remedy"]


def test_a_signature_in_the_address_is_refused_before_anybody_sees_it(azcopy, tmp_path, capsys):
    result = done(capsys, azcopy, tmp_path / "tiny", url=URL + "?sv=2024-11-04&sig=madeUpSignature4711%3D")
    assert checks(result, "failed") == ["blob.url"] and "madeUpSignature4711" not in json.dumps(result)
    assert not (azcopy / "calls").exists()


# The texts are from issues of azcopy.
@pytest.mark.parametrize(
    ("said", "check", "remedy"),
    [
        ("Failed to perform Auto-login: ManagedIdentityCredential authentication failed", "blob.identity", "client_id"),
        ("===== RESPONSE ERROR (ServiceCode=AuthorizationPermissionMismatch) =====", "blob.access", "role"),
        ("RESPONSE 404: The specified container does not exist. ERROR CODE: ContainerNotFound", "blob.missing", "model_sync_blob_url"),
        ("failed to resolve target: lookup models.blob.core.windows.net: no such host", "blob.unreachable", "private endpoint"),
        ("write /m/x: no space left on device: No space left on device", "model.disk", "free space"),
        ("panic", "blob.client", "by hand"),
    ],
)
def test_what_azcopy_says_is_named(azcopy, tmp_path, capsys, said, check, remedy):
    (azcopy / "fails").write_text(said)
    result = done(capsys, azcopy, tmp_path / "tiny")
    assert checks(result, "failed") == [check] and remedy in result["fact"]["reasons"][0]["remedy"] and not result["complete"]
    assert not result.get("failed") and not os.path.exists(tmp_path / "tiny")


def test_no_azcopy_and_no_address_are_named(azcopy, tmp_path, capsys):
    assert checks(done(capsys, azcopy, tmp_path / "tiny", program="/nowhere/azcopy"), "failed") == ["blob.client"]
    assert checks(done(capsys, azcopy, tmp_path / "tiny", url="http://example.org/x"), "failed") == ["blob.url"]


def test_the_lines_of_a_listing():
    md5 = base64.b64encode(hashlib.md5(b"{}").digest()).decode()
    text = (
        "INFO: a b;c.json; ContentMD5: %s;  Content Length: 2\nfolder/; ContentMD5: ;  Content Length: 0\nx.bin;  Content Length: 7\n" % md5
    )
    found = blob.listed(text + "INFO: Login with identity succeeded.\n")
    assert {name: (file.size, file.algorithm) for name, file in found.items()} == {"a b;c.json": (2, "md5"), "x.bin": (7, "none")}
    assert found["a b;c.json"].digest == hashlib.md5(b"{}").hexdigest()
