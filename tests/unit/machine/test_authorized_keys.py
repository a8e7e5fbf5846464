"""Lines of authorized_keys come and go without touching anybody else's."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
from ansible.module_utils.plumbline.machine import authorized_keys

OURS = "plumbline-mpi@"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI%s plumbline-mpi@%s"
ONE, TWO = KEY % ("one", "n1"), KEY % ("two", "n1")
# What people have in the file: options with blanks and quotes, another key of a similar name, no newline at the end.
THEIRS = (
    "# by hand\n\n"
    'command="echo \\"Please login as azureuser\\" ssh-ed25519",no-pty ssh-rsa AAAAB3NzaC1yc2EAAAA theirs plumbline-mpi@x\n'
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTI= me@home"
)
NOW = 1_800_000_000


def added(text, *lines):
    return authorized_keys.with_lines(text, list(lines), OURS, NOW)


def test_a_line_is_restricted_to_where_it_comes_from_and_until_when():
    assert authorized_keys.line(ONE) == "restrict " + ONE
    stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(NOW))
    said = authorized_keys.line(ONE, ["10.0.0.4", "fd00::4"], NOW)
    assert said == f'restrict,from="10.0.0.4,fd00::4",expiry-time="{stamp}" {ONE}'


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----", ONE + "\nssh-rsa AAAAmore x"])
def test_what_is_no_public_key_gets_no_line(key):
    with pytest.raises(ValueError, match="no public key"):
        authorized_keys.line(key)


@pytest.mark.parametrize("source", ["node1", "10.0.0.4,*", '10.0.0.4" ', "!10.0.0.4", ""])
def test_a_source_is_an_address_and_no_pattern(source):
    with pytest.raises(ValueError, match="no address"):
        authorized_keys.line(ONE, [source])


def test_a_line_comes_and_goes_and_nothing_else_changes():
    both = added(THEIRS, authorized_keys.line(ONE))
    assert both == THEIRS + "\nrestrict " + ONE + "\n"
    assert added(both, authorized_keys.line(ONE)) == both
    assert authorized_keys.without_lines(both, [ONE], OURS) == THEIRS + "\n"


def test_a_key_that_is_there_with_other_options_is_there_once():
    text = added("", authorized_keys.line(ONE))
    assert added(text, authorized_keys.line(ONE, ["10.0.0.4"])) == 'restrict,from="10.0.0.4" %s\n' % ONE


def test_one_run_takes_its_own_key_away_and_a_reset_takes_all_of_ours():
    text = added(THEIRS, authorized_keys.line(ONE), authorized_keys.line(TWO))
    assert authorized_keys.without_lines(text, [ONE], OURS).count(OURS) == THEIRS.count(OURS) + 1
    assert TWO in authorized_keys.without_lines(text, [ONE], OURS)
    assert authorized_keys.without_lines(text, [], OURS) == THEIRS + "\n"
    assert authorized_keys.without_lines(text, [], "plumbline-model-sync@") == text


def test_what_is_no_key_takes_no_comment_and_no_blank_line_away():
    text = added(THEIRS, authorized_keys.line(ONE))
    assert authorized_keys.without_lines(text, ["no key"], OURS) == text
    assert authorized_keys.without_lines(text, ["", ONE], OURS) == THEIRS + "\n"


def test_the_file_is_its_users_before_it_has_its_name(tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir(mode=0o700)
    path, calls, replace = str(tmp_path / ".ssh/authorized_keys"), [], os.replace
    monkeypatch.setattr(authorized_keys.os, "geteuid", lambda: 0)
    monkeypatch.setattr(authorized_keys.os, "chown", lambda target, uid, gid: calls.append((target == path, uid, gid)))
    monkeypatch.setattr(authorized_keys.os, "replace", lambda source, target: (calls.append("named"), replace(source, target)))
    authorized_keys.change(str(tmp_path), (1234, 5678), lambda text: added(text, authorized_keys.line(ONE)))
    assert calls == [(False, 1234, 5678), "named"] and ONE in (tmp_path / ".ssh/authorized_keys").read_text()


def test_a_line_of_ours_that_expired_goes_with_the_next_one_and_theirs_stays():
    dead, alive = authorized_keys.line(ONE, (), NOW - 5), authorized_keys.line(TWO, (), NOW + 5)
    theirs = authorized_keys.line(KEY % ("three", "n1"), (), NOW - 5).replace(OURS, "guest@") + "\n"
    text = theirs + dead + "\n" + alive + "\n"
    new = authorized_keys.line(KEY % ("four", "n2"))
    assert added(text, new) == theirs + alive + "\n" + new + "\n"


def test_bytes_that_are_no_text_and_carriage_returns_stay_as_they_are(tmp_path):
    path = tmp_path / ".ssh/authorized_keys"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"ssh-rsa AAAAB3 caf\xe9\r\n")
    path.chmod(0o640)
    owner = (os.getuid(), os.getgid())
    authorized_keys.change(str(tmp_path), owner, lambda text: added(text, authorized_keys.line(ONE)))
    assert path.read_bytes() == b"ssh-rsa AAAAB3 caf\xe9\r\nrestrict " + ONE.encode() + b"\n"
    authorized_keys.change(str(tmp_path), owner, lambda text: authorized_keys.without_lines(text, [ONE], OURS))
    assert path.read_bytes() == b"ssh-rsa AAAAB3 caf\xe9\r\n" and path.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in path.parent.iterdir()] == ["authorized_keys"]


def test_a_home_without_ssh_gets_one_that_sshd_accepts_and_taking_away_makes_none(tmp_path):
    owner = (os.getuid(), os.getgid())
    assert authorized_keys.change(str(tmp_path), owner, lambda text: authorized_keys.without_lines(text, [ONE], OURS)) == ("", "")
    assert list(tmp_path.iterdir()) == []
    authorized_keys.change(str(tmp_path), owner, lambda text: added(text, authorized_keys.line(ONE)))
    assert (tmp_path / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600


def come_and_go(home, number):
    key = KEY % ("run%d" % number, "n%d" % number)
    owner = (os.getuid(), os.getgid())
    for _ in range(20):
        authorized_keys.change(home, owner, lambda text: added(text, authorized_keys.line(key)))
        with open(home + "/.ssh/authorized_keys", encoding="utf-8") as text:
            assert key in text.read()
        authorized_keys.change(home, owner, lambda text: authorized_keys.without_lines(text, [key], OURS))


def test_runs_beside_each_other_do_not_take_each_others_keys_away(tmp_path):
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / ".ssh/authorized_keys").write_text(THEIRS + "\n")
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=come_and_go, args=(str(tmp_path), number)) for number in range(6)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0] * 6
    assert (tmp_path / ".ssh/authorized_keys").read_text() == THEIRS + "\n"


def test_a_key_is_taken_away_on_a_full_disk_and_none_is_let_in_there(tmp_path, monkeypatch):
    home, file = str(tmp_path), tmp_path / ".ssh" / "authorized_keys"
    me = (os.getuid(), os.getgid())
    authorized_keys.change(home, me, lambda _text: THEIRS + "\nrestrict " + ONE + "\n")

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(authorized_keys, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        authorized_keys.change(home, me, lambda text: text + "restrict " + TWO + "\n")
    authorized_keys.change(home, me, lambda text: authorized_keys.without_lines(text, [ONE], OURS))
    assert file.read_text() == THEIRS + "\n" and file.stat().st_mode & 0o777 == 0o600
