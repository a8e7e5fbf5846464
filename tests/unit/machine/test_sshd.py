"""What the sshd that runs here shows: its options, host keys and port."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.machine import sshd


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        (
            "sshd: /usr/sbin/sshd -D -e -f /etc/ssh/lab_sshd_config [listener] 0 of 200-400 startups\0",
            ("/usr/sbin/sshd", ["-f", "/etc/ssh/lab_sshd_config"]),
        ),
        ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0\0\0", ("/usr/sbin/sshd", [])),
        ("/usr/sbin/sshd\0-D\0-h\0/k1\0-oPort=2222\0", ("/usr/sbin/sshd", ["-h", "/k1", "-oPort=2222"])),
        ("/usr/sbin/sshd\0-p\x002222\0-D\0", ("/usr/sbin/sshd", ["-p", "2222"])),
        ("sshd: root@notty\0", None),
        ("sshd: root [priv]\0", None),
        ("/usr/bin/python3\0sshd\0", None),
        ("", None),
    ],
)
def test_listener_options(cmdline, expected):
    assert sshd.listener_options(cmdline) == expected


def test_listeners_skips_what_is_no_process(tmp_path):
    for name, cmdline in (("7", "/usr/sbin/sshd\0-D\0"), ("8", "/usr/sbin/sshd\0-D\0"), ("9", "bash\0"), ("self", "/usr/sbin/sshd\0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cmdline").write_text(cmdline)
    (tmp_path / "10").mkdir()
    assert sshd.listeners(str(tmp_path)) == [("/usr/sbin/sshd", [])]


def test_host_key_paths():
    out = "port 22\nhostkey /etc/ssh/lab_hostkey\nhostkeyagent none\nhostkey /etc/ssh/b\n"
    assert sshd.host_key_paths(out) == ["/etc/ssh/lab_hostkey", "/etc/ssh/b"]


def test_public_key():
    assert sshd.public_key("ssh-ed25519 AAAA root@lab1\n") == "ssh-ed25519 AAAA"
    assert sshd.public_key("ecdsa-sha2-nistp256 BBBB") == "ecdsa-sha2-nistp256 BBBB"
    assert sshd.public_key("-----BEGIN OPENSSH PRIVATE KEY-----") is None


def test_the_port_is_the_first_that_sshd_names():
    assert sshd.port("permitrootlogin yes\nport 2222\nport 22\n") == 2222
    assert sshd.port("permitrootlogin yes\n") is None
