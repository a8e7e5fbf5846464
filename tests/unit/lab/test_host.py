"""What the lab reads off this machine; that it does its work there is shown by tests/integration/test_lab.py."""

import os
import subprocess

import pytest
from ansible.module_utils.plumbline.lab import host


def test_settings_of_a_node(tmp_path):
    assert host.settings_of(str(tmp_path)) == {}
    (tmp_path / "node.json").write_text('{"address": "10.98.0.11"')
    assert host.settings_of(str(tmp_path)) == {}, "cut short"
    (tmp_path / "node.json").write_text('{"address": "10.98.0.11"}')
    assert host.settings_of(str(tmp_path)) == {"address": "10.98.0.11"}


def test_nodes_are_those_that_have_files_and_those_that_run(tmp_path):
    assert host.nodes_of(str(tmp_path)) == []
    (tmp_path / "nodes" / "lab2").mkdir(parents=True)
    running = str(tmp_path / "nodes" / "lab1")
    process = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], host.MARKER: running})
    try:
        assert host.nodes_of(str(tmp_path)) == [running, str(tmp_path / "nodes" / "lab2")]
    finally:
        process.kill()
        process.wait()
    assert host.nodes_of(str(tmp_path)) == [str(tmp_path / "nodes" / "lab2")]


def test_last_words():
    done = subprocess.CompletedProcess([], 1, "one\ntwo\n", "three\nfour\n")
    assert host.last_words(done, 2) == "three\nfour" and host.last_words(done, 9) == "one\ntwo\nthree\nfour"


@pytest.mark.parametrize(("installed", "status", "said"), [(False, None, None), (True, 0, True), (True, 1, False)])
def test_rule_for_bridged_packets(monkeypatch, installed, status, said):
    asked = []

    def call(*argv, check):
        asked.append(argv)
        return subprocess.CompletedProcess(argv, status, "", "")

    monkeypatch.setattr(host.shutil, "which", lambda name: "/sbin/" + name if installed else None)
    monkeypatch.setattr(host, "call", call)
    assert host.lets_pass("labbr0") is said
    assert asked == ([("iptables", "-w", "-C", "FORWARD", "-i", "labbr0", "-o", "labbr0", "-j", "ACCEPT")] if installed else [])
