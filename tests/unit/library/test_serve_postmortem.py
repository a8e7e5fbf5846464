"""What a node says of a failed layout."""

from __future__ import annotations

import importlib
import json
import os
import time

import pytest

serve_postmortem = importlib.import_module("serve_postmortem")


def engine(folder, state, code=0):
    tool = folder / "docker"
    tool.write_text("#!/bin/sh\ncat <<'END'\n%s\nEND\nexit %d\n" % (state if isinstance(state, str) else json.dumps(state), code))
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"Running": True, "ExitCode": 0}, []),
        ({"Running": False, "ExitCode": 137, "OOMKilled": False, "FinishedAt": "2026-11-24T09:00:00Z"}, ["137", "signal 9", "09:00:00"]),
        ({"Running": False, "ExitCode": 137, "OOMKilled": True, "FinishedAt": "x"}, ["out of memory"]),
        ({"Running": False, "ExitCode": 1, "FinishedAt": "x"}, ["ended with 1"]),
        ({"Running": False, "ExitCode": 255, "FinishedAt": "x"}, ["ended with 255 at x"]),
    ],
)
def test_what_the_engine_knows(tmp_path, state, words):
    said = serve_postmortem.container_causes(engine(tmp_path, state), "box")
    assert len(said) == bool(words)
    assert all(word in said[0] for word in words)


def test_missing_container_and_dead_engine_are_said(tmp_path):
    assert "is not there" in serve_postmortem.container_causes(engine(tmp_path, "", code=1), "box")[0]
    assert "does not answer" in serve_postmortem.container_causes(str(tmp_path / "no-docker"), "box")[0]
    assert serve_postmortem.container_causes("no-docker", "") == []


def test_causes_come_from_every_log_of_the_layout(tmp_path):
    (tmp_path / "worker-1.log").write_text("INFO fine\nValueError: no room for the cache\n")
    (tmp_path / "server.log").write_text("INFO 11-24 08:00:00 [x.py:1] all is well\n")
    assert serve_postmortem.log_causes(str(tmp_path)) == ["worker-1.log: ValueError: no room for the cache"]


def test_the_log_of_an_earlier_run_is_no_cause_of_this_failure(tmp_path):
    old = tmp_path / "server.log"
    old.write_text("ValueError: of last week\n")
    os.utime(old, (time.time() - 600, time.time() - 600))
    (tmp_path / "worker-1.log").write_text("ValueError: of now\n")
    assert serve_postmortem.log_causes(str(tmp_path), 60) == ["worker-1.log: ValueError: of now"]


def test_the_log_that_explains_most_speaks_first_with_kind_and_remedy(tmp_path):
    (tmp_path / "server.log").write_text("TimeoutError: RPC call to load_model timed out.\n")
    (tmp_path / "ray-worker.log").write_text("(RayWorkerWrapper pid=3) Fatal Python error: Bus error\n")
    found = serve_postmortem.log_findings(str(tmp_path))
    assert [sentence.split(":")[0] for sentence, _cause in found] == ["ray-worker.log", "server.log"]
    assert found[0][1].kind == "shm" and "--shm-size" in found[0][1].remedy and found[0][1].process == "RayWorkerWrapper pid=3"
