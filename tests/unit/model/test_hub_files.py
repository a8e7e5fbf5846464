"""Which of a hub's files are a model's, and what of an interrupted download is taken up."""

from __future__ import annotations

import hashlib
import os

from ansible.module_utils.plumbline.model import hub_files, progress
from ansible.module_utils.plumbline.model.hub import File

DATA = b"0123456789"
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = File(len(DATA), "sha256", SHA256)


def test_names_that_leave_the_folder_and_hidden_ones_are_no_model():
    names = ["config.json", "a/b.bin", ".gitattributes", "a/.git/x", "/etc/passwd", "../up", "a//b", "a\nb", "manifest.json"]
    assert list(hub_files.chosen(dict.fromkeys(names, FILE), [], [])) == ["config.json", "a/b.bin"]


def test_patterns_are_those_of_the_client():
    listed = dict.fromkeys(["a.safetensors", "original/a.pth", "config.json"], FILE)
    assert list(hub_files.chosen(listed, [], ["original/*"])) == ["a.safetensors", "config.json"]
    assert list(hub_files.chosen(listed, ["*.json", "*.safetensors"], ["a*"])) == ["config.json"]


def part(folder, name, data):
    path = folder / hub_files.DOWNLOADS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def test_the_longest_part_of_each_file_is_taken_and_the_others_go(tmp_path):
    short = part(tmp_path, "x=.%s.aaaaaaaa.incomplete" % SHA256, DATA[:2])
    best = part(tmp_path, "x=.%s.bbbbbbbb.incomplete" % SHA256, DATA[:7])
    too_long = part(tmp_path, "x=.%s.cccccccc.incomplete" % SHA256, DATA + b"more")
    older = part(tmp_path, "sub/x=.%s.incomplete" % SHA256, DATA[:5])
    assert hub_files.best_parts(str(tmp_path), {"m.bin": FILE, "sub/m.bin": FILE}, ["m.bin", "sub/m.bin"]) == {
        "m.bin": best,
        "sub/m.bin": older,
    }
    assert os.path.exists(best) and os.path.exists(older) and not os.path.exists(short) and not os.path.exists(too_long)


def test_what_the_client_removes_after_an_error_is_held_on_to_and_what_it_finished_is_not(tmp_path):
    failed = part(tmp_path, "x=.%s.aaaaaaaa.incomplete" % SHA256, DATA[:4])
    finished = part(tmp_path, "y=.%s.bbbbbbbb.incomplete" % ("c" * 64), DATA)
    hub_files.keep_parts(str(tmp_path))
    os.remove(failed)
    os.rename(finished, tmp_path / "whole.bin")
    hub_files.keep_parts(str(tmp_path))
    (kept,) = hub_files.parts(str(tmp_path))
    assert os.path.basename(kept) == "x=.%s.kept.incomplete" % SHA256 and os.path.getsize(kept) == 4


def test_a_second_name_of_the_same_part_counts_once(tmp_path):
    part(tmp_path, "x=.%s.aaaaaaaa.incomplete" % SHA256, DATA)
    hub_files.keep_parts(str(tmp_path))
    assert len(hub_files.parts(str(tmp_path))) == 2 and hub_files.on_disk(str(tmp_path), []) == len(DATA)


def test_checksums_of_each_kind(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    git = File(6, "git", "ce013625030ba8dba906f756967f9e9ca394464a")  # git hash-object
    assert hub_files.look(str(tmp_path), {"a": git}, 1) == ({"a": hashlib.sha256(b"hello\n").hexdigest()}, {}, set())
    whole, wrong, missing = hub_files.look(str(tmp_path), {"a": File(6, "md5", "0" * 32), "b": git}, 1)
    assert whole == {} and "b1946ac92492d2347c6235b4d2611184" in wrong["a"] and missing == {"b"}


def test_a_line_of_progress():
    assert progress.line(12_300_000_000, 145_400_000_000, 60, before=300_000_000) == "12.3 of 145.4 GB, 200.0 MB/s, 11 min left"
    assert progress.line(5_000_000, 48_000_000, 2.5) == "5.0 of 48.0 MB, 2.0 MB/s, 22 s left"
    assert progress.line(5_000_000, 48_000_000, 10, before=5_000_000) == "5.0 of 48.0 MB"
