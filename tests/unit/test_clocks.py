"""GPU clocks: the tool's words, what proves a lock, and the module against a mock of ``nvidia-smi``.

The mock speaks the lines recorded on an H200: the CSV of ``--query-gpu`` and the echo of ``-lgc``. It keeps a lock in a file
next to itself, clamps to 1980 MHz as the driver does, and logs every call.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from ansible.module_utils.plumbline import clocks, nvidia
from ansible.module_utils.testing import patch_module_args
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parent.parent.parent
CAPTURE = ROOT / "tests" / "captures" / "h200" / "nvidia-smi.query.csv"
FACT = json.loads((ROOT / "docs/schema/fact.schema.json").read_text())
SCHEMA = json.loads((ROOT / "docs/schema/clocks.schema.json").read_text())

ECHO = 'GPU clocks set to "(gpuClkMin 1980, gpuClkMax 1980)" for GPU 00000000:07:00.0\nAll done.\n'

MOCK = r"""#!/usr/bin/env python3
import pathlib, sys
here = pathlib.Path(__file__).parent
with open(here / "calls", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\n")
mood = (here / "mood").read_text() if (here / "mood").exists() else ""
lock = here / "lock"
buses = ["00000001:00:00.0", "00000002:00:00.0"]
if sys.argv[1].startswith("--query-gpu="):
    if mood == "dead":
        print("Unable to determine the device handle for GPU 00000001:00:00.0: Unknown Error"); sys.exit(15)
    names = sys.argv[1].split("=")[1].split(",")
    units = {name: " [MHz]" for name in names if name.startswith("clocks.")}
    units["utilization.gpu"] = " [%]"
    print(", ".join(name + units.get(name, "") for name in names))
    for index, bus in enumerate(buses):
        sm = int(lock.read_text()) if lock.exists() and mood != "sleepy" else 345
        values = {"index": index, "pci.bus_id": bus, "uuid": "GPU-%d" % index, "driver_version": "580.159.04",
                  "persistence_mode": "Enabled", "clocks.current.sm": "%d MHz" % sm, "clocks.max.sm": "1980 MHz",
                  "clocks.current.memory": "3201 MHz", "clocks.applications.graphics": "1980 MHz",
                  "utilization.gpu": "97 %" if mood == "busy" else "0 %"}
        print(", ".join(str(values[name]) for name in names))
elif sys.argv[1] == "-lgc":
    if mood == "refuses":
        print("The current user does not have permission to change clocks for GPU 00000001:00:00.0."); sys.exit(4)
    mhz = min(int(sys.argv[2].split(",")[0]), 1980)
    assert sys.argv[3] == "--mode"
    lock.write_text(str(mhz))
    for bus in buses[: 1 if mood == "silent" else 2]:
        print('GPU clocks set to "(gpuClkMin %d, gpuClkMax %d)" for GPU %s' % (mhz, mhz, bus))
    print("All done.")
elif sys.argv[1] == "-rgc":
    if lock.exists():
        lock.unlink()
    print("All done.")
"""


class Node:
    """A directory with the mock in it, and the module run against it."""

    def __init__(self, folder, capsys):
        self.folder = folder
        self.capsys = capsys
        self.tool = folder / "mock-nvidia-smi"
        self.tool.write_text(MOCK)
        self.tool.chmod(self.tool.stat().st_mode | stat.S_IXUSR)
        self.record = folder / "run" / clocks.RECORD

    def mood(self, word):
        """Make the mock misbehave."""
        (self.folder / "mood").write_text(word)

    def calls(self):
        """Return the state-changing calls since the last time."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("--query-gpu")]

    def run(self, check=False, **arguments):
        """Run the module; return its result, whose fact fits the schemas."""
        import gpu_clocks

        given = {"nvidia_smi": str(self.tool), "state_dir": str(self.folder / "run"), "settle_s": 0}
        given.update(arguments, _ansible_check_mode=check)
        with patch_module_args(given), pytest.raises(SystemExit):
            gpu_clocks.main()
        result = json.loads(self.capsys.readouterr().out)
        if "fact" in result:
            Draft202012Validator(FACT).validate(result["fact"])
            Draft202012Validator(SCHEMA).validate(result["fact"])
        return result


@pytest.fixture
def node(tmp_path, capsys):
    """Return a node with two GPUs at 345 MHz."""
    return Node(tmp_path, capsys)


def verdicts(result):
    """Return {check: status} of a result's fact."""
    return {item["check"]: item["status"] for item in result["fact"]["reasons"]}


# -- words ------------------------------------------------------------------------------------------------------


def test_echo():
    assert clocks.parse_echo(ECHO) == {"0000:07:00.0": (1980, 1980)}
    assert clocks.parse_echo("All done.\n") == {}


def test_capture_is_read():
    text = CAPTURE.read_text()
    gpu = clocks.parse_gpus(text)[0]
    assert (gpu["bus_id"], gpu["sm_mhz"], gpu["sm_max_mhz"], gpu["applications_mhz"]) == (
        "0000:00:06.0",
        345,
        1980,
        1980,
    )
    # The capture did not ask for it: no value, not 0, so this GPU proves nothing about being idle.
    assert gpu["utilisation_percent"] is None
    assert not clocks.is_unlocked(None, [gpu], "boot")
    with pytest.raises(nvidia.NvidiaError, match="cannot be read"):
        clocks.parse_gpus("index, uuid\n0, GPU-1\n")


# -- evidence ---------------------------------------------------------------------------------------------------


def gpu(sm=1980, use=0, uuid="GPU-1"):
    """Return one GPU as parsed."""
    return {
        "bus_id": "0001:00:00.0", "uuid": uuid, "driver": "580", "sm_mhz": sm, "sm_max_mhz": 1980, "memory_mhz": 3201,
        "utilisation_percent": use,
    }  # fmt: skip


def test_a_lock_needs_record_and_clock():
    record = clocks.make_record([gpu()], 1980, 1, "boot")
    assert clocks.is_locked(record, [gpu()], 1980, 1, "boot")
    assert not clocks.is_locked(None, [gpu()], 1980, 1, "boot")
    assert not clocks.is_locked(record, [gpu(sm=345)], 1980, 1, "boot")  # unlocked behind our back
    assert not clocks.is_locked(record, [gpu(sm=None)], 1980, 1, "boot")
    assert not clocks.is_locked(record, [gpu(use=97)], 1980, 1, "boot")  # boosting under load looks the same
    assert not clocks.is_locked(record, [gpu()], 1980, 0, "boot")  # another mode
    assert not clocks.is_locked(record, [gpu(sm=1500)], 1500, 1, "boot")
    assert not clocks.is_locked(record, [gpu()], 1980, 1, "next boot")
    assert not clocks.is_locked(record, [gpu(uuid="GPU-2")], 1980, 1, "boot")  # the GPU was replaced
    assert not clocks.is_locked(clocks.make_record([], 1980, 1, "boot"), [], 1980, 1, "boot")


def test_unlocked_needs_proof_too():
    record = clocks.make_record([gpu()], 1980, 1, "boot")
    assert clocks.is_unlocked(None, [gpu(sm=345)], "boot")
    assert clocks.is_unlocked(record, [gpu(sm=345)], "next boot")
    assert not clocks.is_unlocked(record, [gpu(sm=345)], "boot")
    assert not clocks.is_unlocked(None, [gpu(sm=1980)], "boot")
    assert not clocks.is_unlocked(None, [gpu(sm=345, use=50)], "boot")


def test_damaged_record_is_none(tmp_path):
    (tmp_path / clocks.RECORD).write_text("{half")
    assert clocks.read_record(str(tmp_path)) is None
    (tmp_path / clocks.RECORD).write_text("[]")
    assert clocks.read_record(str(tmp_path)) is None


# -- the module -------------------------------------------------------------------------------------------------


def test_without_a_gpu_it_is_skipped_without_numbers(node):
    node.tool.unlink()
    result = node.run(state="locked", mhz=1980)
    if nvidia.is_present(nvidia.presence(str(node.tool))):
        pytest.skip("this machine has a GPU")
    assert result["changed"] is False
    assert result["fact"]["status"] == "skipped" and result["fact"]["measured"] == {}
    assert result["fact"]["reasons"][0]["seen"] == "no GPU"


def test_lock_once_and_again(node):
    first = node.run(state="locked", mhz=1980)
    assert node.calls() == ["-lgc 1980,1980 --mode 1"]
    assert first["changed"] and first["fact"]["status"] == "healthy"
    assert first["fact"]["measured"]["gpus"]["0001:00:00.0"] == {
        "sm_max_mhz": 1980, "sm_before_mhz": 345, "sm_after_mhz": 1980, "memory_mhz": 3201, "utilisation_percent": 0,
        "echo_min_mhz": 1980, "echo_max_mhz": 1980,
    }  # fmt: skip
    assert [item["sm_mhz"] for item in first["before"]] == [345, 345]
    assert first["diff"]["before"] != first["diff"]["after"]
    second = node.run(state="locked", mhz=1980)
    assert node.calls() == []
    assert second["changed"] is False and second["fact"]["status"] == "healthy"
    assert second["diff"]["before"] == second["diff"]["after"]


def test_a_lock_that_something_else_undid_is_made_again(node):
    node.run(state="locked", mhz=1980)
    (node.folder / "lock").unlink()  # Azure NHC ends with nvidia-smi -rgc
    node.calls()
    again = node.run(state="locked", mhz=1980)
    assert again["changed"] and node.calls() == ["-lgc 1980,1980 --mode 1"]


def test_other_clock_or_mode_is_a_change(node):
    node.run(state="locked", mhz=1980)
    node.calls()
    assert node.run(state="locked", mhz=1500)["changed"]
    assert node.run(state="locked", mhz=1500, mode=0)["changed"]
    assert node.calls() == ["-lgc 1500,1500 --mode 1", "-lgc 1500,1500 --mode 0"]


def test_clamped_clock_fails_and_leaves_no_record(node):
    result = node.run(state="locked", mhz=2619)
    assert result["fact"]["status"] == "failed" and result["changed"]
    lock = next(item for item in result["fact"]["reasons"] if item["check"] == "clocks.lock")
    assert (
        "0001:00:00.0 at (1980, 1980)" in lock["seen"] and "2619" in lock["threshold"] and "1980 MHz" in lock["remedy"]
    )
    assert not node.record.exists()


@pytest.mark.parametrize(
    ("mood", "check", "status"),
    [
        ("silent", "clocks.lock", "incomplete"),
        ("refuses", "clocks.lock", "failed"),
        ("sleepy", "clocks.sm", "failed"),
    ],
)
def test_what_is_not_proven_is_not_passed(node, mood, check, status):
    node.mood(mood)
    result = node.run(state="locked", mhz=1980)
    assert verdicts(result)[check] == status
    assert result["fact"]["status"] == status
    assert not node.record.exists()


def test_dead_driver(node):
    node.mood("dead")
    result = node.run(state="locked", mhz=1980)
    assert result["changed"] is False and node.calls() == []
    assert result["fact"]["status"] in ("failed", "incomplete") and result["fact"]["measured"] == {}
    assert "Unable to determine the device handle" in result["fact"]["reasons"][0]["seen"]


def test_check_mode_changes_nothing(node):
    result = node.run(check=True, state="locked", mhz=1980)
    assert node.calls() == [] and not node.record.exists()
    assert result["changed"] and result["fact"]["status"] == "skipped"
    assert result["fact"]["reasons"][0]["check"] == "check_mode"
    assert "would lock 2 GPUs at 1980 MHz, mode 1" in result["fact"]["reasons"][0]["seen"]
    assert result["fact"]["measured"]["gpus"]["0002:00:00.0"]["sm_before_mhz"] == 345
    assert "locked at 1980 MHz" in result["diff"]["after"]
    node.run(state="locked", mhz=1980)
    node.calls()
    assert node.run(check=True, state="locked", mhz=1980)["changed"] is False
    assert node.run(check=True, state="unlocked")["changed"] is True
    assert node.calls() == []


def test_unlock(node):
    assert node.run(state="unlocked")["changed"] is False
    node.run(state="locked", mhz=1980)
    node.calls()
    result = node.run(state="unlocked")
    assert result["changed"] and node.calls() == ["-rgc"]
    assert not node.record.exists() and result["after"][0]["sm_mhz"] == 345
    assert node.run(state="unlocked")["changed"] is False
    # A busy GPU proves nothing: better one call too many than clocks that stay locked.
    node.mood("busy")
    assert node.run(state="unlocked")["changed"] is True


def test_reported_only_reads(node):
    node.run(state="locked", mhz=1980)
    node.calls()
    result = node.run(state="reported")
    assert node.calls() == [] and result["changed"] is False
    assert "0001:00:00.0 at 1980 MHz" in result["fact"]["reasons"][0]["seen"]
    assert "our lock at 1980 MHz is recorded" in result["fact"]["reasons"][0]["seen"]


def test_wrong_arguments(node):
    assert "mhz" in node.run(state="locked")["msg"]
    assert "positive" in node.run(state="locked", mhz=0)["msg"]
    assert node.calls() == []
