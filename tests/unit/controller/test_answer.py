"""A node is asked for its Python with one bounded command; what is no good answer is left to the module."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from ansible.module_utils.plumbline.controller import answer


def ask(interpreter, timeout_s=5):
    """Ask on this machine."""
    return subprocess.run(["sh", "-c", answer.command(interpreter, timeout_s)], capture_output=True, text=True, check=False)


def test_a_python_that_is_new_enough_answers():
    told = answer.read(ask(sys.executable).stdout, "3.9")
    assert told["ping"] == "pong" and told["python_version"].startswith("3.") and told["python"] == sys.executable


@pytest.mark.parametrize("stdout", ["", "Welcome!\n", "[1]", "{}", '["2.7.18", "/usr/bin/python"]', '["x", "y"]', "null"])
def test_what_is_no_good_answer_is_left_to_the_module(stdout):
    assert answer.read(stdout, "3.9") is None


def test_a_banner_before_the_answer_does_no_harm_and_versions_are_numbers():
    assert answer.read('Welcome!\n["3.10.2+", "/usr/bin/python3"]\n', "3.9")["python_version"] == "3.10.2+"
    assert answer.read('["3.9.0", "/p"]', "3.10") is None and answer.read('["3.9.0", "/p"]', "three") is None


def test_a_python_that_hangs_is_ended_at_the_bound(tmp_path):
    hung = tmp_path / "python3"
    hung.write_text("#!/bin/sh\nsleep 600\n")
    hung.chmod(0o755)
    began = time.monotonic()
    assert ask(str(hung), 1).returncode in answer.TIMED_OUT and time.monotonic() - began < 8
    assert "did not answer within 1 s" in answer.hung(str(hung), 1) and "ps -eo" in answer.hung(str(hung), 1)


def test_a_bound_is_a_positive_number():
    assert answer.bound("3") == 3
    with pytest.raises(ValueError, match="at least 1"):
        answer.bound(0)
