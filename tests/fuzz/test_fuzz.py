"""Every reader, fed with broken text, on this Python and on the oldest that nodes have: no rule of ``fuzz.py`` is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED, COUNT = 10, 2000
# Measured: 35 s on one core.
LIMIT_S = 240


def python39():
    """Return the path of a Python 3.9, or None, and why there is none."""
    found = subprocess.run([str(HERE / "python39.sh")], capture_output=True, text=True, check=False)
    return (found.stdout.strip() if found.returncode == 0 else None), found.stderr.strip()


@pytest.fixture(scope="module")
def outputs():
    """Return what the fuzz printed and its exit status, by Python: both run at once."""
    oldest, why = python39()
    pythons = {"here": sys.executable, "3.9": oldest}
    # Neither this environment's packages nor its settings: the readers need the standard library alone.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    running = {
        name: subprocess.Popen(
            [path, "-S", str(HERE / "fuzz.py"), str(SEED), str(COUNT)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        for name, path in pythons.items()
        if path
    }
    found = {}
    try:
        for name, process in running.items():
            said, _none = process.communicate(timeout=LIMIT_S)
            found[name] = (process.returncode, said)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return found, why


@pytest.mark.parametrize("python", ["here", "3.9"])
def test_no_rule_is_broken(outputs, python):
    found, why = outputs
    if python not in found:
        pytest.skip(why)
    status, said = found[python]
    assert status == 0, said
    assert python != "3.9" or said.startswith("Python 3.9.")
    assert said.count(" %d texts, 0 broke a rule" % COUNT) == 17, said


def test_same_seed_same_texts():
    shown = [
        subprocess.run(
            [sys.executable, str(HERE / "fuzz.py"), "7", "1", "nccl", "--show", "5"], capture_output=True, text=True, check=False
        ).stdout.rpartition("nccl ")[0]
        for _time in range(2)
    ]
    assert shown[0] == shown[1] and len(shown[0]) > 20
