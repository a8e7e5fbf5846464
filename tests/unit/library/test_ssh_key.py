"""A key of a node's own, by the real ssh-keygen, and the line that lets it in."""

from __future__ import annotations

import os
import pwd
import subprocess
import time

import pytest
import ssh_access
import ssh_key
from ansible.module_utils.plumbline.machine import ssh
from module_run import run_module

ME = pwd.getpwuid(os.getuid()).pw_name
HOST = {"address": "127.0.0.1", "port": 2222, "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIhost root@x"]}


def make(capsys, tmp_path, **more):
    return run_module(ssh_key, capsys, run_folder=str(tmp_path / "runs"), comment="plumbline-mpi@n1", hosts=[HOST], **more)


def test_a_run_gets_a_key_of_its_own_with_host_keys_pinned(capsys, tmp_path):
    made = make(capsys, tmp_path)
    folder = os.path.dirname(made["identity_file"])
    derived = subprocess.run(["ssh-keygen", "-y", "-f", made["identity_file"]], capture_output=True, text=True, check=True).stdout
    assert derived.split()[:2] == made["public_key"].split()[:2] and made["public_key"].endswith(" plumbline-mpi@n1")
    assert made["changed"] and made["sources"] == ["127.0.0.1"] and made["config"] == folder + "/config"
    assert os.stat(folder).st_mode & 0o777 == 0o700 and os.stat(made["identity_file"]).st_mode & 0o777 == 0o600
    with open(folder + "/known_hosts", encoding="utf-8") as text:
        assert text.read() == "[127.0.0.1]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIhost\n"
    with open(made["config"], encoding="utf-8") as text:
        assert "IdentityFile " in text.read()
    assert "PRIVATE KEY" not in str(made)


def test_two_runs_have_two_keys_and_one_takes_its_own_away(capsys, tmp_path):
    one, two = make(capsys, tmp_path), make(capsys, tmp_path)
    assert one["public_key"] != two["public_key"]
    assert run_module(ssh_key, capsys, state="absent", identity_file=one["identity_file"])["changed"]
    assert not os.path.exists(os.path.dirname(one["identity_file"])) and os.path.exists(two["identity_file"])
    assert not run_module(ssh_key, capsys, state="absent", identity_file=one["identity_file"])["changed"]
    assert run_module(ssh_key, capsys, state="absent", run_folder=str(tmp_path / "runs"))["changed"]
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_run_left_goes_when_nobody_can_need_it(capsys, tmp_path):
    old, running = make(capsys, tmp_path), make(capsys, tmp_path)
    with open(os.path.join(os.path.dirname(old["identity_file"]), "until"), "w", encoding="utf-8") as text:
        text.write("%d\n" % (time.time() - 1))
    new = make(capsys, tmp_path)
    assert not os.path.exists(old["identity_file"])
    assert os.path.exists(running["identity_file"]) and os.path.exists(new["identity_file"])


def test_the_measurement_forgets_its_key_and_no_folder_that_is_none_of_ours(capsys, tmp_path):
    made = make(capsys, tmp_path)
    ssh.forget(made["config"])
    assert not os.path.exists(os.path.dirname(made["identity_file"]))
    (tmp_path / "config").write_text("Host *\n")
    ssh.forget(str(tmp_path / "config"))
    assert (tmp_path / "config").exists()


def test_check_mode_makes_and_removes_nothing(capsys, tmp_path):
    said = make(capsys, tmp_path, _ansible_check_mode=True)
    assert said["changed"] and said["public_key"] == "" and list(tmp_path.iterdir()) == []
    made = make(capsys, tmp_path)
    assert run_module(ssh_key, capsys, state="absent", run_folder=str(tmp_path / "runs"), _ansible_check_mode=True)["changed"]
    assert os.path.exists(made["identity_file"])


def test_a_key_that_stays_is_made_once(capsys, tmp_path):
    path = str(tmp_path / "keys/id_ed25519")
    first = run_module(ssh_key, capsys, identity_file=path, comment="plumbline-model-sync@n2")
    again = run_module(ssh_key, capsys, identity_file=path, comment="plumbline-model-sync@n2")
    assert (first["changed"], again["changed"]) == (True, False) and first["public_key"] == again["public_key"]


def test_a_host_without_a_route_gives_no_source(capsys, tmp_path):
    said = run_module(
        ssh_key, capsys, run_folder=str(tmp_path / "runs"), hosts=[HOST, {"address": "no-such-host.invalid"}], _ansible_check_mode=True
    )
    assert said["sources"] == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's home in a folder of the test."""
    entry = pwd.getpwnam(ME)
    fake = type("Entry", (), {"pw_dir": str(tmp_path), "pw_uid": entry.pw_uid, "pw_gid": entry.pw_gid})
    monkeypatch.setattr(ssh_access.pwd, "getpwnam", {ME: fake}.__getitem__)
    return tmp_path


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIone plumbline-mpi@n1"


def access(capsys, **arguments):
    return run_module(ssh_access, capsys, user=ME, comment="plumbline-mpi@", **arguments)


def test_a_key_is_let_in_and_taken_away(capsys, home):
    said = access(capsys, keys=[KEY], sources=["10.0.0.4"], valid_s=60)
    text = (home / ".ssh/authorized_keys").read_text()
    assert said["changed"] and text.startswith('restrict,from="10.0.0.4",expiry-time="2') and text.endswith(KEY + "\n")
    assert said["diff"]["after"] == text and said["diff"]["before"] == ""
    assert access(capsys, state="absent", keys=[KEY])["changed"]
    assert not access(capsys, state="absent", keys=[KEY])["changed"]
    assert (home / ".ssh/authorized_keys").read_text() == ""


def test_check_mode_shows_the_line_of_a_key_that_is_not_made_yet(capsys, home):
    said = access(capsys, keys=[], sources=["10.0.0.4"], valid_s=60, _ansible_check_mode=True)
    assert said["changed"] and 'restrict,from="10.0.0.4",expiry-time="' in said["diff"]["after"]
    assert list(home.iterdir()) == []


def test_other_peoples_keys_are_not_shown(capsys, home):
    (home / ".ssh").mkdir()
    (home / ".ssh/authorized_keys").write_text("ssh-rsa AAAAB3theirs them@there\n")
    assert "theirs" not in str(access(capsys, keys=[KEY]))


def test_a_user_that_is_not_there_is_named_and_has_nothing_to_take_away(capsys, home):
    said = run_module(ssh_access, capsys, user="no-such-user", comment="plumbline-mpi@", keys=[KEY])
    assert said["failed"] and "there is no user no-such-user" in said["msg"]
    assert not run_module(ssh_access, capsys, user="no-such-user", comment="plumbline-mpi@", state="absent").get("failed")
