"""A whole play that downloads a model from a hub: what it keeps, and that the token is nowhere, not even with -vvv."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.core import processes
from library.test_model_hub import OLD, SHARDS, SIZE, SMALL, TOKEN, client, needs_client, until
from model.hub_mock import REPOSITORY, HubMock
from project import ROOT

INVENTORY = """
all:
  hosts:
    head: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  children:
    nodes: {hosts: {head: {}}}
    serving: {hosts: {head: {}}}
    usable: {hosts: {head: {}}}
"""


@pytest.fixture
def hub():
    standing = HubMock({OLD: {**SMALL, **SHARDS}}, {"main": OLD}, token=TOKEN)
    yield standing
    standing.close()


def play(folder, hub, *more, token=TOKEN):
    """Run playbooks/model.yml; return (status, output, command lines of all processes meanwhile)."""
    (folder / "inventory.yml").write_text(INVENTORY)
    variables = {
        "model_sync_source": "hub", "model_sync_path": str(folder / "models" / "tiny"), "model_sync_hub_repository": REPOSITORY,
        "model_sync_hub_endpoint": hub.url, "model_sync_hub_program": client() or "hf",
    }  # fmt: skip
    env = dict(
        os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), PLUMBLINE_RESULTS_DIR=str(folder / "results"), HF_TOKEN=token,
        ANSIBLE_ASYNC_DIR=str(folder / "async"), ANSIBLE_LOCAL_TEMP=str(folder / "local"), ANSIBLE_REMOTE_TEMP=str(folder / "remote"),
    )  # fmt: skip
    argv = ["ansible-playbook", "playbooks/model.yml", "-i", str(folder / "inventory.yml"), "-e", json.dumps(variables), *more]
    seen, over = set(), threading.Event()

    def watch():
        while not over.is_set():
            seen.update(command for command in map(_command, processes.pids()) if command)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    finally:
        over.set()
        watcher.join()
    return run.returncode, run.stdout + run.stderr, seen


def _command(pid):
    try:
        return Path("/proc/%d/cmdline" % pid).read_bytes()
    except OSError:
        return b""


def facts(folder):
    return {path.name: json.loads(path.read_text()) for path in folder.glob("results/*/facts/head/*.json")}


def holding(folder, secret):
    return [str(path) for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def forgotten(folder, secret):
    """No file holds the secret. Ansible's background job removes the module itself, with its options, up to five seconds after it ended."""
    until(lambda: not holding(folder, secret), 10)


@needs_client
def test_the_head_downloads_and_verifies_and_the_token_is_nowhere(hub, tmp_path):
    hub.rate = 3_000_000
    status, said, commands = play(tmp_path, hub, "-vvv")
    kept = facts(tmp_path)
    assert {name: fact["status"] for name, fact in kept.items()} == {"model.tiny.json": "healthy", "model.tiny.download.json": "healthy"}, (
        said
    )
    assert status == 0 and kept["model.tiny.json"]["context"]["origin"]["commit"] == OLD
    assert kept["model.tiny.download.json"]["measured"]["transferred_bytes"] > 2 * SIZE
    assert any(b"--local-dir" in command for command in commands) and not [item for item in commands if TOKEN.encode() in item]
    lines = [line for line in said.splitlines() if " of 48.0 MB, " in line and " MB/s, " in line and line.endswith(" left")]
    assert lines and lines[0].split()[0] == "head", "progress with rate and time left"
    assert TOKEN not in said
    forgotten(tmp_path, TOKEN)
    assert "Bearer " + TOKEN in {seen[3] for seen in hub.requests}


def test_what_the_hub_refuses_leaves_no_manifest_and_no_second_verdict(hub, tmp_path):
    status, said, _commands = play(tmp_path, hub, "-vvv", token="hfWrongSecret0815")
    kept = facts(tmp_path)
    assert list(kept) == ["model.tiny.download.json"], said
    fact = kept["model.tiny.download.json"]
    assert fact["status"] == "failed" and [item["check"] for item in fact["reasons"]] == ["hub.token"]
    assert not (tmp_path / "models" / "tiny" / "manifest.json").exists() and "hfWrongSecret0815" not in said
    forgotten(tmp_path, "hfWrongSecret0815")


def test_check_mode_asks_the_hub_and_changes_nothing(hub, tmp_path):
    status, said, _commands = play(tmp_path, hub, "--check", "--diff")
    assert status == 0 and "would be downloaded at commit" in said, said
    assert not (tmp_path / "models").exists() and not hub.sent
