"""A file that is written is there whole or not at all."""

import os

import pytest
from ansible.module_utils.plumbline.core import files


def test_text_and_bytes_are_written_with_their_mode_into_folders_that_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    old = os.umask(0o077)
    try:
        files.write_atomically(str(path), '{"µ": 1}\n')
        assert path.read_bytes() == '{"µ": 1}\n'.encode()
        assert path.stat().st_mode & 0o777 == 0o644
        files.write_atomically(str(path), b"\x00\xff", mode=0o600, durable=True)
        assert path.read_bytes() == b"\x00\xff" and path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)
    assert os.listdir(path.parent) == ["file.json"]


def test_file_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_atomically("file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(str(path), "new", durable=True)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_small_files_of_the_kernel(tmp_path):
    (tmp_path / "speed").write_text("100000\n")
    (tmp_path / "word").write_text("up\n")
    assert files.read_text(str(tmp_path / "word")) == "up" and files.read_text(str(tmp_path / "gone")) is None
    assert files.read_int(str(tmp_path / "speed")) == 100000
    assert files.read_int(str(tmp_path / "word")) is None and files.read_int(str(tmp_path / "gone")) is None
