"""Every long-running program of a layout starts, is watched and says why it ended in the same way."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.serving.command import AddressUnknown
from ansible.module_utils.plumbline.serving.launch import LaunchError, Program


@pytest.fixture
def program(tmp_path):
    """Return a function that makes a program of a shell script; what it started ends with the test."""
    serve_id = "test-%s" % uuid.uuid4()

    def make(script, **env):
        made = Program(["sh", "-c", script], env, "127.0.0.1", str(tmp_path / "serve" / "server.log"))
        made.serve_id = serve_id
        return made

    yield make
    processes.stop(serve_id, grace_s=1)


def ended(made, seconds=5):
    for _elapsed_s in made.moments(seconds, every_s=0.05):
        pass
    return not made.is_running()


def test_it_runs_marked_with_the_nodes_own_environment(program):
    made = program("echo $VLLM_HOST_IP $GLOO_SOCKET_IFNAME $WORD; exec sleep 61", WORD="said")
    assert not made.is_running(), "not started yet"
    made.start(made.serve_id)
    assert made.is_running() and made.pid in processes.marked(made.serve_id)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(made.log).read_text() != "127.0.0.1 lo said\n":
        time.sleep(0.05)
    assert Path(made.log).read_text() == "127.0.0.1 lo said\n"


def test_an_earlier_log_is_kept_once_and_never_read_as_this_ones(program):
    for word in ("first", "second", "third"):
        made = program("echo ValueError: %s" % word)
        made.start(made.serve_id)
        assert ended(made) and made.cause() == "ValueError: " + word
    assert Path(made.log + ".previous").read_text() == "ValueError: second\n"


def test_moments_end_with_the_program_or_with_the_time(program):
    made = program("sleep 61")
    made.start(made.serve_id)
    seen = list(made.moments(0.3, every_s=0.05))
    assert made.is_running() and len(seen) > 2 and seen == sorted(seen) and seen[-1] < 0.3
    short = program("exit 3")
    short.start(short.serve_id)
    started = time.monotonic()
    assert ended(short, 60) and time.monotonic() - started < 10


def test_last_words_stand_in_for_a_log_without_an_exception(program):
    made = program("printf 'one\\n\\ntwo\\n three \\n'")
    assert "No such file" in made.last_words(), "never started"
    made.start(made.serve_id)
    assert ended(made) and made.cause() == "" and made.last_words() == "two | three" and made.last_words(1) == "three"


def test_what_cannot_be_started_is_said(program, tmp_path):
    made = program("true")
    made.argv = [str(tmp_path / "no-such-program")]
    with pytest.raises(LaunchError, match="no-such-program"):
        made.start(made.serve_id)
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="file"):
        Program(["true"], {}, "127.0.0.1", str(tmp_path / "file" / "server.log")).start("x")


def test_a_node_without_the_address_starts_nothing(tmp_path):
    with pytest.raises(AddressUnknown, match="192.0.2.99"):
        Program(["true"], {}, "192.0.2.99", str(tmp_path / "log"))


def test_the_command_can_be_pasted_and_has_no_secret(tmp_path):
    made = Program(["vllm", "serve", "a b"], {"HF_TOKEN": "hf_secretsecret"}, "127.0.0.1", str(tmp_path / "log"))
    assert "VLLM_HOST_IP=127.0.0.1" in made.command and "'a b'" in made.command and "hf_secret" not in made.command


def test_a_key_given_as_an_option_is_in_no_command_line(tmp_path):
    made = Program(["sh", "-c", "exec sleep 61", "--api-key", "keyMadeUp4711"], {}, "127.0.0.1", str(tmp_path / "server.log"))
    serve_id = "test-%s" % uuid.uuid4()
    try:
        made.start(serve_id)
        assert "keyMadeUp4711" not in Path("/proc/%d/cmdline" % made.pid).read_text() and "keyMadeUp4711" not in made.command
        assert processes.environment_of(made.pid)["VLLM_API_KEY"] == "keyMadeUp4711"
    finally:
        processes.stop(serve_id, grace_s=1)
