"""Copying a model: rsync's command lines and failures."""

import time

import model_sync
import pytest
from ansible.module_utils.plumbline.core.processes import is_running
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


def test_transfer_that_takes_too_long_is_ended_with_its_children():
    started = time.monotonic()
    status, out, err = model_sync.run_bounded(["sh", "-c", "sleep 60 & echo $!; echo half >&2; wait"], 0.5)
    assert status is None and err == "half\n" and time.monotonic() - started < 10
    assert not is_running(int(out))


def test_transfer_that_ends_is_told():
    assert model_sync.run_bounded(["sh", "-c", "echo out; echo err >&2; exit 23"], 10) == (23, "out\n", "err\n")
