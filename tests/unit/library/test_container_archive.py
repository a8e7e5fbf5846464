"""An image as a file from one engine to another, against a stand-in of an engine."""

from __future__ import annotations

import os
import time

import container_archive
import pytest
from ansible.module_utils.plumbline.serving.image.engine import Engine
from engine_stand_in import ID
from module_run import run_module

ARCHIVE = b"layers " * 500_000


def run(engine, capsys, tmp_path, state, **given):
    return run_module(
        container_archive, capsys, image=ID, path=str(tmp_path / "images/image.tar"), state=state, socket=engine["socket"],
        progress=engine["progress"], **given,
    )  # fmt: skip


def written(tmp_path):
    path = tmp_path / "images/image.tar"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(ARCHIVE)
    return path


def test_an_image_is_written_whole_and_once(engine, capsys, tmp_path):
    engine.update(images={ID: engine["image"]}, archive=ARCHIVE)
    result = run(engine, capsys, tmp_path, "exported")
    assert result["changed"] and result["moved"]["bytes"] == len(ARCHIVE) and (tmp_path / "images/image.tar").read_bytes() == ARCHIVE
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["image.tar"]
    assert run(engine, capsys, tmp_path, "exported")["changed"] is False


def test_an_engine_without_the_image_writes_none(engine, capsys, tmp_path):
    result = run(engine, capsys, tmp_path, "exported")
    assert result["failed"] and "has no " + ID in result["msg"] and not (tmp_path / "images").exists()


def test_an_image_is_taken_and_proved_by_its_id(engine, capsys, tmp_path):
    written(tmp_path)
    engine.update(lines=[{"stream": "Loaded image ID: %s\n" % ID}], after={ID: engine["image"]})
    result = run(engine, capsys, tmp_path, "loaded")
    assert result["changed"] and result["id"] == ID and engine["loaded"] == ARCHIVE
    assert result["reasons"][0]["status"] == "healthy" and "from another node" in result["reasons"][0]["seen"]
    engine["loaded"] = None
    assert run(engine, capsys, tmp_path, "loaded")["changed"] is False and engine["loaded"] is None


def test_another_image_than_the_heads_is_refused(engine, capsys, tmp_path):
    written(tmp_path)
    engine.update(lines=[{"stream": "Loaded image ID: sha256:00\n"}], after={"sha256:00": engine["image"]})
    result = run(engine, capsys, tmp_path, "loaded")
    assert result["failed"] and "the engine has no " + ID in result["msg"] and "registry" in result["msg"]


def test_a_signature_in_what_an_engine_says_stays_away_from_reasons_and_message(engine, capsys, tmp_path):
    written(tmp_path)
    words = "write /blob: no space left on device: https://me.blob.core.windows.net/c?sig=abcDEF%2F123&sv=2024"
    for said in (words, words.replace("no space left on device", "bad")):
        engine["lines"] = [{"errorDetail": {"message": said}, "error": said}]
        result = run(engine, capsys, tmp_path, "loaded")
        assert result["failed"] and "abcDEF" not in str(result) and "sig=[scrubbed]" in result["reasons"][0]["seen"]


def test_what_an_engine_refuses_is_named(engine, capsys, tmp_path):
    written(tmp_path)
    full = "Error processing tar file(exit status 1): write /blob: no space left on device"
    for words, check in ((full, "serve.disk"), ("invalid diffID for layer 0: expected sha256:aa, got sha256:bb", "serve.image")):
        engine["lines"] = [{"errorDetail": {"message": words}, "error": words}]
        result = run(engine, capsys, tmp_path, "loaded")
        assert result["failed"] and result["reasons"][0]["check"] == check and words in result["msg"]


def test_a_file_that_is_not_there_and_an_engine_that_is_not_there_are_named(engine, capsys, tmp_path):
    assert "image.tar" in run(engine, capsys, tmp_path, "loaded")["msg"]
    engine["socket"] = str(tmp_path / "none")
    assert run(engine, capsys, tmp_path, "exported")["reasons"][0]["check"] == "serve.engine"


def test_the_first_answer_may_take_the_whole_time_and_the_load_is_asked_to_tell(engine, tmp_path):
    engine.update(archive=ARCHIVE, silent_s=1.2, lines=[{"status": "Loading layer", "id": "bb852b337515"}], after={ID: engine["image"]})
    asked, path = Engine(engine["socket"]), tmp_path / "image.tar"
    with path.open("wb") as target:
        asked.export(ID, target, lambda _done: None, time.monotonic() + 20, 0.3)
    assert path.read_bytes() == ARCHIVE
    with path.open("rb") as source:
        asked.load(source, len(ARCHIVE), lambda _done: None, time.monotonic() + 20, 0.3)
    assert engine["loaded"] == ARCHIVE and engine["asked"] == [({"quiet": ["0"]}, None)]


@pytest.mark.parametrize("state", ["exported", "loaded"])
def test_an_engine_that_takes_too_long_is_not_called_none(engine, capsys, tmp_path, state):
    engine.update(archive=ARCHIVE, silent_s=3, images={ID: engine["image"]} if state == "exported" else {})
    if state == "loaded":
        written(tmp_path)
    result = run(engine, capsys, tmp_path, state, timeout_s=1)
    assert result["failed"] and [item["check"] for item in result["reasons"]] == ["serve.image"]
    assert "was given up: the engine has said nothing for 1 s" in result["msg"] and "vllm_serve_image_timeout_s" in result["msg"]


def test_a_file_that_the_engine_takes_too_slowly_is_given_up(engine, tmp_path):
    with written(tmp_path).open("rb") as source, pytest.raises(TimeoutError, match="not done in time"):
        Engine(engine["socket"]).load(source, len(ARCHIVE), lambda _done: time.sleep(0.3), time.monotonic() + 0.5, 5)


def test_an_engine_that_falls_silent_after_its_first_answer_is_given_up(engine, tmp_path):
    engine.update(lines=[{"status": "Loading layer"}, {"status": "Loading layer"}], slow_s=2)
    with written(tmp_path).open("rb") as source, pytest.raises(TimeoutError, match="said nothing for 0 s"):
        Engine(engine["socket"]).load(source, len(ARCHIVE), lambda _done: None, time.monotonic() + 20, 0.3)


def test_others_can_read_what_was_written_whatever_the_umask(engine, capsys, tmp_path):
    engine.update(images={ID: engine["image"]}, archive=ARCHIVE)
    before = os.umask(0o077)
    try:
        run(engine, capsys, tmp_path, "exported")
        assert os.umask(0o077) == 0o077, "it is what it was"
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "images", tmp_path / "images/image.tar")] == ["0o755", "0o644"]
