"""Copying a model: rsync's and ssh's command lines and failures, sshd's host keys."""

import time

import model_sync
import pytest
from ansible.module_utils.plumbline.core.processes import is_running
from ansible.module_utils.plumbline.model import keys as manifest_keys
from ansible.module_utils.plumbline.model import pull as manifest_pull

# rsync 3.2.7, --no-human-readable --stats
STATS = """
Number of files: 10 (reg: 10)
Number of regular files transferred: 10
Total file size: 1774310 bytes
Total bytes sent: 245
Total bytes received: 1775503
"""


def test_received_bytes():
    assert manifest_pull.received_bytes(STATS) == 1775503
    assert manifest_pull.received_bytes("Total bytes received: 1,775,503\n") == 1775503
    assert manifest_pull.received_bytes("") is None


# What rsync and ssh really say.
@pytest.mark.parametrize(
    ("status", "stderr", "check", "remedy"),
    [
        (
            11,
            'rsync: [receiver] write failed on "/m/a": No space left on device (28)\nrsync error: file IO (code 11)',
            "model.disk",
            "free",
        ),
        (255, "Host key verification failed.\nrsync: connection unexpectedly closed", "model.ssh", "another host key"),
        (255, "root@10.0.0.1: Permission denied (publickey).", "model.ssh", "authorized_keys"),
        (255, "ssh: connect to host 10.0.0.1 port 22: Connection refused", "model.ssh", "sshd"),
        (23, 'rsync: [sender] link_stat "/m/a" failed: No such file or directory (2)', "model.source", "head"),
        (30, "rsync error: timeout in data send/receive (code 30)", "model.transfer", "run it again"),
        (None, "", "model.transfer", "model_sync_timeout_s"),
    ],
)
def test_explain(status, stderr, check, remedy):
    found, seen, what = manifest_pull.explain(status, stderr, "10.0.0.1:/m")
    assert found == check
    assert "10.0.0.1:/m" in seen
    assert remedy in what


def test_known_hosts_text_takes_the_port_and_drops_comments():
    assert manifest_pull.known_hosts_text("h", 22, ["ssh-ed25519 AAA root@h"]) == "h ssh-ed25519 AAA\n"
    assert manifest_pull.known_hosts_text("h", 2222, ["ssh-ed25519 AAA"]) == "[h]:2222 ssh-ed25519 AAA\n"


def test_ssh_trusts_only_what_it_was_given():
    command = manifest_pull.ssh_command(2222, "/k", "/known")
    for option in (
        "-i /k",
        "-p 2222",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/known",
        "GlobalKnownHostsFile=/dev/null",
        "-F none",
    ):
        assert option in command


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        (
            "sshd: /usr/sbin/sshd -D -e -f /etc/ssh/lab_sshd_config [listener] 0 of 200-400 startups\0",
            ("/usr/sbin/sshd", ["-f", "/etc/ssh/lab_sshd_config"]),
        ),
        ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0\0\0", ("/usr/sbin/sshd", [])),
        ("/usr/sbin/sshd\0-D\0-h\0/k1\0-oPort=2222\0", ("/usr/sbin/sshd", ["-h", "/k1", "-oPort=2222"])),
        ("sshd: root@notty\0", None),
        ("sshd: root [priv]\0", None),
        ("/usr/bin/python3\0sshd\0", None),
        ("", None),
    ],
)
def test_listener_options(cmdline, expected):
    assert manifest_keys.listener_options(cmdline) == expected


def test_listeners_skips_what_is_no_process(tmp_path):
    for name, cmdline in (("7", "/usr/sbin/sshd\0-D\0"), ("8", "/usr/sbin/sshd\0-D\0"), ("9", "bash\0"), ("self", "/usr/sbin/sshd\0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cmdline").write_text(cmdline)
    (tmp_path / "10").mkdir()
    assert manifest_keys.listeners(str(tmp_path)) == [("/usr/sbin/sshd", [])]


def test_host_key_paths():
    out = "port 22\nhostkey /etc/ssh/lab_hostkey\nhostkeyagent none\nhostkey /etc/ssh/b\n"
    assert manifest_keys.host_key_paths(out) == ["/etc/ssh/lab_hostkey", "/etc/ssh/b"]


def test_public_key():
    assert manifest_keys.public_key("ssh-ed25519 AAAA root@lab1\n") == "ssh-ed25519 AAAA"
    assert manifest_keys.public_key("ecdsa-sha2-nistp256 BBBB") == "ecdsa-sha2-nistp256 BBBB"
    assert manifest_keys.public_key("-----BEGIN OPENSSH PRIVATE KEY-----") is None


def test_transfer_that_takes_too_long_is_ended_with_its_children():
    started = time.monotonic()
    status, out, err = model_sync.run_bounded(["sh", "-c", "sleep 60 & echo $!; echo half >&2; wait"], 0.5)
    assert status is None and err == "half\n" and time.monotonic() - started < 10
    assert not is_running(int(out))


def test_transfer_that_ends_is_told():
    assert model_sync.run_bounded(["sh", "-c", "echo out; echo err >&2; exit 23"], 10) == (23, "out\n", "err\n")
