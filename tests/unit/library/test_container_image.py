"""The module against a stand-in of an engine."""

from __future__ import annotations

import contextlib
import json
import os
import threading

import container_image
import pytest
from ansible.module_utils.plumbline.serving.image import toolkit
from ansible.module_utils.plumbline.serving.image.engine import SOCKET, Engine, EngineError, socket_of
from engine_stand_in import DIGEST, ID, NAME, PULLED
from module_run import run_module

FULL = "failed to register layer: Error processing tar file(exit status 1): write /blob: no space left on device"


def run(engine, capsys, **given):
    """Return the module's result."""
    arguments = {"image": "%s@%s" % (NAME, DIGEST), "gpus": False, "config": "/no/config", **given}
    return run_module(container_image, capsys, **{"socket": engine["socket"], "progress": engine["progress"], **arguments})


def reason(result, check="serve.image"):
    return next(item for item in result["reasons"] if item["check"] == check)


def test_an_image_is_pulled_by_digest_and_proved(engine, capsys):
    result = run(engine, capsys)
    assert result["changed"] and not result.get("failed") and result["pulled"]["bytes"] == 50_000_000
    assert result["images"] == [{"Id": ID, "RepoDigests": ["%s@%s" % (NAME, DIGEST)], "Size": 3_150_000_000}]
    assert (
        reason(result)["status"] == "healthy"
        and "pulled now: 50.0 MB" in reason(result)["seen"]
        and "not pinned" not in reason(result)["seen"]
    )
    assert engine["asked"] == [({"fromImage": [NAME], "tag": [DIGEST]}, None)]
    assert not os.path.exists(engine["progress"])


def test_what_is_there_is_not_pulled_again_unless_always(engine, capsys):
    engine["images"].update(engine["after"])
    result = run(engine, capsys)
    assert not result["changed"] and engine["asked"] == [] and "there already" in reason(result)["seen"]
    assert run(engine, capsys, pull="always")["changed"] is False and len(engine["asked"]) == 1


def test_progress_is_written_while_it_lasts(engine, capsys):
    engine["slow_s"] = 0.4
    lines, done = set(), threading.Event()

    def watch():
        while not done.wait(0.05):
            with contextlib.suppress(OSError), open(engine["progress"], encoding="utf-8") as handle:
                lines.add(handle.read().strip())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run(engine, capsys)
    done.set()
    watcher.join()
    assert any("MB/s" in line and "1 layers here" in line for line in lines), lines


def test_check_mode_says_what_would_be_pulled_and_asks_no_registry(engine, capsys):
    result = run(engine, capsys, _ansible_check_mode=True)
    assert result["changed"] and engine["asked"] == [] and "would be pulled from registry:5000" in reason(result, "check_mode")["seen"]


@pytest.mark.parametrize(
    "status, words, check, said",
    [
        (
            404,
            "manifest for %s@%s not found: manifest unknown: manifest unknown" % (NAME, DIGEST),
            "serve.image",
            "has no %s@%s" % (NAME, DIGEST),
        ),
        (500, 'Get "http://registry:5000/v2/": dial tcp 10.106.255.254:5000: connect: connection refused', "serve.registry", "is down"),
    ],
)
def test_a_refusal_is_named_with_what_to_do(engine, capsys, status, words, check, said):
    engine["refuses"] = (status, {"message": words})
    result = run(engine, capsys)
    assert result["failed"] and said in reason(result, check)["seen"] and said in result["msg"] and "What to do: " in result["msg"]
    assert result["images"] == []


def test_a_signature_in_an_engines_error_is_in_no_reason(engine, capsys):
    signed = 'Get "https://acr.blob.core.windows.net/4711/?se=2026&sig=abcDEF%2F123&sp=r": EOF'
    engine.update(lines=[*PULLED[:4], {"errorDetail": {"message": signed}, "error": signed}], after={})
    assert "abcDEF" not in str(run(engine, capsys)["reasons"])
    engine["refuses"] = (500, {"message": signed})
    result = run(engine, capsys)
    assert result["failed"] and "abcDEF" not in str(result["reasons"]) and "sig=[scrubbed]" in result["reasons"][0]["seen"]


def test_nor_in_that_of_an_engine_that_does_not_say_what_it_is(engine, capsys, monkeypatch):
    def info(_self):
        raise EngineError(500, "https://acr.blob.core.windows.net/4711/?se=2026&sig=abcDEF%2F123&sp=r")

    monkeypatch.setattr(Engine, "info", info)
    result = run(engine, capsys)
    assert "abcDEF" not in str(result["reasons"]) and "sig=[scrubbed]" in reason(result, "serve.engine")["seen"]


def test_a_full_disk_is_named_with_what_is_free_and_what_had_come(engine, capsys):
    engine["lines"] = [*PULLED[:4], {"errorDetail": {"message": FULL}, "error": FULL}]
    result = run(engine, capsys)
    seen = reason(result, "serve.disk")["seen"]
    assert result["failed"] and "are free at " in seen and "50.0 MB had come" in seen


def test_bytes_with_another_digest_are_refused(engine, capsys):
    engine["after"] = {"%s@%s" % (NAME, DIGEST): dict(engine["image"], RepoDigests=["%s@sha256:%s" % (NAME, "00" * 32)])}
    result = run(engine, capsys)
    assert result["failed"] and reason(result)["threshold"] == DIGEST and "00" * 32 in reason(result)["seen"]
    assert result["images"] == [] and result["engine"], "nobody takes it for the image"


def test_an_engine_that_keeps_images_in_containerd_calls_the_image_by_its_digest(engine, capsys):
    engine["after"] = {"%s@%s" % (NAME, DIGEST): dict(engine["image"], Id=DIGEST, RepoDigests=[])}
    assert not run(engine, capsys).get("failed")


def test_a_pull_that_falls_silent_or_lasts_too_long_is_given_up(engine, capsys):
    engine["slow_s"] = 3
    result = run(engine, capsys, idle_s=1)
    assert result["failed"] and "the engine has said nothing for 1 s" in reason(result, "serve.registry")["seen"]
    engine["slow_s"] = 0.6
    result = run(engine, capsys, timeout_s=1)
    assert result["failed"] and "given up after 1 s" in reason(result, "serve.registry")["seen"]


def test_a_tag_works_and_is_said_not_to_be_pinned(engine, capsys):
    engine["images"]["plumbline/vllm-cpu:lab"] = dict(engine["image"], RepoDigests=[])
    result = run(engine, capsys, image="plumbline/vllm-cpu:lab", pull="never")
    assert not result.get("failed") and "not pinned" in reason(result)["seen"]


def test_what_nobody_pulls_is_named(engine, capsys):
    result = run(engine, capsys, image="plumbline/no-such:lab", pull="never")
    assert result["failed"] and "no plumbline/no-such:lab" in reason(result)["seen"] and "never" in reason(result)["seen"]
    result = run(engine, capsys, image=ID)
    assert result["failed"] and "an id is on the node or nowhere" in reason(result)["seen"] and engine["asked"] == []


def test_an_id_is_found_and_compared(engine, capsys):
    engine["images"][ID] = engine["image"]
    assert not run(engine, capsys, image=ID).get("failed")
    engine["images"][ID] = dict(engine["image"], Id="sha256:" + "00" * 32)
    result = run(engine, capsys, image=ID)
    assert result["failed"] and result["images"] == []


def test_what_was_loaded_from_a_file_is_to_be_named_by_its_id(engine, capsys):
    result = run(engine, capsys, pull="never")
    assert result["failed"] and "name it by its id" in reason(result)["remedy"] and "docker load" not in reason(result)["remedy"]
    assert "`docker load` it" in reason(run(engine, capsys, image="plumbline/no-such:lab", pull="never"))["remedy"]


@pytest.mark.parametrize("pull", ["never", "missing"])
def test_check_mode_fails_no_node_that_would_get_it_from_another(engine, capsys, pull):
    result = run(engine, capsys, pull=pull, handed_on_by="node1", _ansible_check_mode=True)
    assert not result.get("failed") and result["changed"] and reason(result, "check_mode")["status"] == "skipped"
    assert "would be handed on by node1" in reason(result, "check_mode")["seen"] and engine["asked"] == []
    assert run(engine, capsys, pull="never", _ansible_check_mode=True)["failed"], "the one that hands it on has to have it"
    assert run(engine, capsys, pull="never", handed_on_by="node1")["failed"], "for real it has to be there"


def test_gpus_are_asked_about_before_anything_is_pulled(engine, capsys, monkeypatch):
    asked, found = [], {"engine": True, "hook": "", "cdi_hook": "", "newer": False, "version": ""}
    monkeypatch.setattr(toolkit, "look", lambda socket: asked.append(socket) or found)
    result = run(engine, capsys, gpus=True)
    assert result["failed"] and reason(result, "serve.toolkit")["status"] == "failed" and "nvidia-ctk runtime configure" in result["msg"]
    assert reason(result)["status"] == "healthy", "the image is brought all the same"
    assert asked == [engine["socket"]]


def test_the_engine_is_asked_where_docker_host_says(engine, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix://" + engine["socket"])
    assert not run(engine, capsys, socket=None).get("failed") and engine["asked"]


@pytest.mark.parametrize("host, path", [
    ("unix:///run/user/1000/docker.sock", "/run/user/1000/docker.sock"), ("tcp://10.0.0.4:2376", SOCKET), ("ssh://node", SOCKET),
    ("unix://", SOCKET), ("", SOCKET), (None, SOCKET),
])  # fmt: skip
def test_only_a_unix_socket_can_be_asked(host, path):
    environ = {} if host is None else {"DOCKER_HOST": host}
    assert socket_of(None, environ) == path and socket_of("/given.sock", environ) == "/given.sock"


def test_no_engine_is_named(tmp_path, capsys):
    for socket in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        result = run({"socket": str(socket), "progress": str(tmp_path / "p")}, capsys)
        assert result["failed"] and reason(result, "serve.engine")["status"] == "failed" and str(socket) in result["msg"]
        assert result["engine"] is False


def test_the_password_goes_to_the_engine_and_nowhere_else(engine, capsys, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {"registry:5000": {"auth": "dXNlcjpodW50ZXIyaHVudGVyMg=="}}}))
    result = run(engine, capsys, config=str(config))
    assert engine["asked"][0][1] and "hunter2" not in json.dumps(result) and "dXNlcjpodW50" not in json.dumps(result)


def test_a_name_that_is_none_is_refused_before_the_engine_is_asked(engine, capsys):
    result = run(engine, capsys, image="registry:5000/a@sha256:12")
    assert result["failed"] and "is no digest" in reason(result)["seen"] and engine["asked"] == []
