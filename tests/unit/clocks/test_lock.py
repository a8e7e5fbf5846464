"""The module gpu_clocks against mock-nvidia-smi, and the words it believes."""

from __future__ import annotations

import json
import os
import re
import time

import pytest
from ansible.module_utils.plumbline.clocks import lock as clocks
from ansible.module_utils.plumbline.clocks import query as clocks_query
from ansible.module_utils.plumbline.clocks import record as clocks_record
from ansible.module_utils.plumbline.machine import nvidia
from ansible.module_utils.testing import patch_module_args
from clocks_mock import ROOT, MockGpus
from jsonschema import Draft202012Validator

FACT = json.loads((ROOT / "docs/schema/fact.schema.json").read_text())
SCHEMA = json.loads((ROOT / "docs/schema/clocks.schema.json").read_text())

ECHO = 'GPU clocks set to "(gpuClkMin 1980, gpuClkMax 1980)" for GPU 00000000:07:00.0\nAll done.\n'


class Node(MockGpus):
    """The mock, and the module run against it."""

    def __init__(self, folder, capsys):
        super().__init__(folder)
        self.capsys = capsys

    def run(self, check=False, **arguments):
        """Run the module; return its result, whose fact fits the schemas and names no piece of hardware."""
        import gpu_clocks

        given = {
            "nvidia_smi": str(self.tool), "state_dir": str(self.state_dir), "settle_s": 0, "nhc_logs": [str(self.nhc_log)],
        }  # fmt: skip
        given.update(arguments, _ansible_check_mode=check)
        with patch_module_args(given), pytest.raises(SystemExit):
            gpu_clocks.main()
        text = self.capsys.readouterr().out
        assert not re.search(r"GPU-[0-9a-f]{8}|serial", text), "a result that names the GPU"
        result = json.loads(text)
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


def said(result, check):
    """Return the reason of a check."""
    return next(item for item in result["fact"]["reasons"] if item["check"] == check)


# -- words ------------------------------------------------------------------------------------------------------


def test_echo():
    assert clocks.parse_echo(ECHO) == {"0000:07:00.0": (1980, 1980)}
    assert clocks.parse_echo("All done.\n") == {}


def test_refusals_are_named():
    # The lines are those that users of nvidia-smi quote; an unsupported GPU is a "warning" with exit code 0.
    denied = "The current user does not have permission to change clocks for GPU 0000000F:01:00.0.\n"
    assert "permission denied (exit 4)" in clocks.refusal("c", "-lgc", 4, denied, "")["seen"]
    without = "Setting locked GPU clocks is not supported for GPU 00000000:05:00.0.\nTreating as warning and moving on.\nAll done.\n"
    reason = clocks.refusal("c", "-lgc", 0, without, "")
    assert reason["status"] == "failed" and "not supported on 0000:05:00.0 (exit 0)" in reason["seen"]
    assert clocks.refusal("c", "-lgc", 255, "", "Unknown Error")["seen"] == "nvidia-smi -lgc: exit 255: Unknown Error"
    assert clocks.refusal("c", "-lgc", 0, ECHO, "") is None


# -- evidence ---------------------------------------------------------------------------------------------------


def gpu(sm=1980, use=0, uuid="GPU-1", used_mib=0):
    """Return one GPU as parsed."""
    row = {
        "index": "0", "pci.bus_id": "00000001:00:00.0", "uuid": uuid, "driver_version": "580", "clocks.max.sm": "1980 MHz",
        "clocks.current.sm": "%s MHz" % sm, "utilization.gpu": "%s %%" % use, "memory.used": "%s MiB" % used_mib,
    }  # fmt: skip
    return clocks_query.parse_gpus(", ".join(row) + "\n" + ", ".join(row.values()))[0]


@pytest.fixture
def record():
    """Return the record of a lock of gpu() at 1980 MHz, mode 1."""
    return clocks_record.make([gpu()], 1980, 1, {"0001:00:00.0": (1980, 1980)})


def doubts(record, seen, mhz=1980, mode=1, logs=()):
    """Return the doubts about a lock as one text."""
    return "; ".join(clocks.doubts_of_lock(record, [seen], mhz, mode, logs))


def test_a_lock_needs_record_and_clock(record, monkeypatch, tmp_path):
    assert doubts(record, gpu()) == ""
    assert "no record" in doubts(None, gpu())
    assert "not at 1980 MHz: 0001:00:00.0 at 345 MHz" in doubts(record, gpu(sm=345))  # unlocked behind our back
    assert "not at 1980 MHz" in doubts(record, gpu(sm="[N/A]"))
    assert "in use" in doubts(record, gpu(use=97))  # boosting under load looks the same
    assert "in use" in doubts(record, gpu(use="[N/A]"))
    assert "in use" in doubts(record, gpu(used_mib=40000))  # an idle server keeps the clocks up too
    assert "mode 1, by us" in doubts(record, gpu(), mode=0)
    assert "locked at 1980 MHz" in doubts(record, gpu(sm=1500), mhz=1500)
    assert "other GPUs" in doubts(record, gpu(uuid="GPU-2"))
    assert "earlier boot" in doubts(dict(record, boot_id="another"), gpu())
    assert "driver was 570" in doubts(dict(record, driver="570"), gpu())
    assert "does not say when" in doubts(dict(record, locked_at=None), gpu())
    log = tmp_path / "health.log"
    log.write_text("Health checks completed with exit code: 0.\n")
    os.utime(log, (record["locked_at"] - 60, record["locked_at"] - 60))
    assert doubts(record, gpu(), logs=[str(log)]) == ""
    os.utime(log, (record["locked_at"] + 60, record["locked_at"] + 60))
    assert "Azure NHC, which unlocks" in doubts(record, gpu(), logs=[str(tmp_path / "*.log")])
    monkeypatch.setattr(clocks_record, "driver_load", lambda root="/": 4711)
    assert "loaded again" in doubts(record, gpu())


def test_unlocked_needs_proof_too(record):
    assert clocks.is_unlocked(None, [gpu(sm=345)])
    assert clocks.is_unlocked(dict(record, boot_id="another"), [gpu(sm=345)])
    assert not clocks.is_unlocked(record, [gpu(sm=345)])
    assert not clocks.is_unlocked(None, [gpu(sm=1980)])
    assert not clocks.is_unlocked(None, [gpu(sm=345, use=50)])
    assert not clocks.is_unlocked(None, [])


def test_damaged_record_is_none(tmp_path):
    for text in ("{half", "[]", '{"mhz": 1980}'):
        (tmp_path / clocks_record.RECORD).write_text(text)
        assert clocks_record.read(str(tmp_path)) is None


def test_driver_load_changes_with_the_module(tmp_path):
    assert clocks_record.driver_load(str(tmp_path)) is None
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    assert clocks_record.driver_load(str(tmp_path)) == (tmp_path / "sys/module/nvidia").stat().st_ino


# -- the module -------------------------------------------------------------------------------------------------


def test_without_a_gpu_it_is_skipped_without_numbers(node):
    node.tool.unlink()
    result = node.run(state="locked", mhz=1980)
    if nvidia.is_present(nvidia.presence(str(node.tool))):
        pytest.skip("this machine has a GPU")
    assert result["changed"] is False
    assert result["fact"]["status"] == "skipped" and result["fact"]["measured"] == {}
    assert result["fact"]["reasons"][0]["seen"] == "no GPU"
    assert node.run(state="unlocked")["changed"] is False


def test_lock_once_and_again(node):
    first = node.run(state="locked", mhz=1980)
    assert node.calls() == ["-lgc 1980,1980 --mode 1"]
    assert first["changed"] and first["fact"]["status"] == "healthy"
    numbers = first["fact"]["measured"]["gpus"]["0001:00:00.0"]
    assert (numbers["sm_before_mhz"], numbers["sm_after_mhz"]) == (345, 1980)
    assert (numbers["echo_min_mhz"], numbers["echo_max_mhz"]) == (1980, 1980)
    assert numbers["throttle_us"]["sw_power_cap"] == 1000 and numbers["reasons"] == ["gpu_idle"]
    assert [item["sm_mhz"] for item in first["before"]] == [345, 345]
    assert [item["sm_mhz"] for item in first["after"]] == [1980, 1980]
    assert first["diff"]["before"].splitlines()[0] == "0001:00:00.0: 345 MHz"
    assert first["diff"]["after"].splitlines()[0] == "0001:00:00.0: 1980 MHz, our lock at 1980 MHz, mode 1, recorded"
    assert "no record" in str(first["fact"]["context"]["doubts"])
    second = node.run(state="locked", mhz=1980)
    assert node.calls() == []
    assert second["changed"] is False and second["fact"]["status"] == "healthy"
    assert second["diff"]["before"] == second["diff"]["after"]
    assert second["fact"]["context"]["doubts"] == []


def test_a_lock_that_something_else_undid_is_made_again(node):
    node.run(state="locked", mhz=1980)
    node.lock(None)
    node.calls()
    again = node.run(state="locked", mhz=1980)
    assert again["changed"] and node.calls() == ["-lgc 1980,1980 --mode 1"]
    assert "not at 1980 MHz" in again["fact"]["context"]["doubts"][0]


def test_nhc_after_the_lock_voids_it_even_where_the_clocks_look_right(node):
    node.run(state="locked", mhz=1980)
    node.calls()
    node.nhc_log.write_text("Health checks completed with exit code: 0.\n")
    later = time.time() + 5
    os.utime(node.nhc_log, (later, later))
    assert node.run(check=True, state="locked", mhz=1980)["changed"]
    again = node.run(state="locked", mhz=1980)
    assert again["changed"] and node.calls() == ["-lgc 1980,1980 --mode 1"]
    assert "Azure NHC" in again["fact"]["context"]["doubts"][0]
    os.utime(node.nhc_log, (later - 60, later - 60))  # as when NHC runs first, the order of site.yml
    assert node.run(state="locked", mhz=1980)["changed"] is False


def test_a_gpu_in_use_is_locked_again(node):
    node.run(state="locked", mhz=1980)
    node.calls()
    node.mood(use=97)
    assert node.run(state="locked", mhz=1980)["changed"] and node.calls() == ["-lgc 1980,1980 --mode 1"]


def test_other_clock_or_mode_is_a_change(node):
    node.run(state="locked", mhz=1980)
    node.calls()
    assert node.run(state="locked", mhz=1500)["changed"]
    assert node.run(state="locked", mhz=1500, mode=0)["changed"]
    assert node.calls() == ["-lgc 1500,1500 --mode 1", "-lgc 1500,1500 --mode 0"]


def test_clamped_clock_fails_and_leaves_no_record(node):
    wish = node.run(check=True, state="locked", mhz=2619)
    assert wish["fact"]["status"] == "failed" and verdicts(wish)["clocks.max"] == "failed" and node.calls() == []
    result = node.run(state="locked", mhz=2619)
    assert result["fact"]["status"] == "failed" and result["changed"]
    lock = said(result, "clocks.lock")
    assert "0001:00:00.0 at (1980, 1980)" in lock["seen"] and "2619" in lock["threshold"] and "1980 MHz" in lock["remedy"]
    assert not node.record.exists()


@pytest.mark.parametrize(
    ("mood", "check", "status", "text"),
    [
        ({"silent": 1}, "clocks.lock", "failed", "no echo from the driver for 0002:00:00.0"),
        ({"refuses": 1}, "clocks.lock", "failed", "permission denied"),
        ({"unsupported": 1}, "clocks.lock", "failed", "not supported on 0001:00:00.0, 0002:00:00.0"),
        ({"sleepy": 1}, "clocks.sm", "failed", "0001:00:00.0 at 345 MHz"),
        ({"active": "0x0000000000000048"}, "clocks.throttle", "failed", "hw_slowdown on 0001:00:00.0"),
        ({"active": "0x0000000000000004"}, "clocks.throttle", "degraded", "sw_power_cap"),
        ({"active": "0x0000000000010000"}, "clocks.throttle", "degraded", "unknown_0x10000"),
        ({"active": "[N/A]"}, "clocks.throttle", "incomplete", "no reading"),
        ({"persistence": "Disabled"}, "clocks.persistence", "degraded", "persistence mode is off"),
    ],
)
def test_what_is_not_proven_is_not_passed(node, mood, check, status, text):
    node.mood(**mood)
    result = node.run(state="locked", mhz=1980)
    assert verdicts(result)[check] == status and result["fact"]["status"] == status
    reason = said(result, check)
    assert text in reason["seen"] and reason["threshold"] and reason["remedy"]
    assert node.record.exists() == (check in ("clocks.throttle", "clocks.persistence"))


def test_refused_lock_is_no_change(node):
    node.mood(refuses=1)
    assert node.run(state="locked", mhz=1980)["changed"] is False
    unlock = node.run(state="unlocked")
    assert unlock["changed"] is False
    node.lock(1980)
    unlock = node.run(state="unlocked")
    assert verdicts(unlock)["clocks.unlock"] == "failed" and unlock["changed"] is False


def test_dead_driver(node):
    node.mood(dead=1)
    result = node.run(state="locked", mhz=1980)
    assert result["changed"] is False and node.calls() == []
    assert result["fact"]["status"] in ("failed", "incomplete") and result["fact"]["measured"] == {}
    assert "Unable to determine the device handle" in result["fact"]["reasons"][0]["seen"]


def test_older_driver_lacks_fields_and_that_is_no_crash(node):
    counters = [name for names in clocks_query.FIELDS.values() for name in names if name.startswith(clocks_query.COUNTER_PREFIX)]
    # Renamed fields are asked for by their old name, counters come from -q -x.
    node.mood(unknown=[*counters, "clocks_event_reasons.active"])
    result = node.run(state="locked", mhz=1980)
    assert result["fact"]["status"] == "healthy"
    numbers = result["fact"]["measured"]["gpus"]["0001:00:00.0"]
    assert numbers["reasons"] == ["gpu_idle"] and numbers["throttle_us"]["hw_thermal_slowdown"] == 1000
    assert set(result["fact"]["context"]["missing_fields"]) == set(counters)
    # Neither name: that evidence is incomplete, and so is the fact; the lock itself is proven.
    node.mood(unknown=[*counters, "clocks_event_reasons.active", "clocks_throttle_reasons.active"], no_xml_counters=1)
    result = node.run(state="locked", mhz=1500)
    assert verdicts(result)["clocks.throttle"] == "incomplete" and verdicts(result)["clocks.lock"] == "healthy"
    assert "does not know clocks_event_reasons.active" in said(result, "clocks.throttle")["seen"]
    assert result["fact"]["measured"]["gpus"]["0001:00:00.0"]["throttle_us"]["sw_power_cap"] is None
    # Without a clock there is nothing to say.
    node.mood(unknown=["clocks.current.sm", "clocks.sm"])
    result = node.run(state="locked", mhz=1980)
    assert result["fact"]["status"] in ("failed", "incomplete") and "clocks.sm" in result["fact"]["reasons"][0]["seen"]


def test_check_mode_changes_nothing(node):
    result = node.run(check=True, state="locked", mhz=1980)
    assert node.calls() == [] and not node.record.exists()
    assert result["changed"] and result["fact"]["status"] == "skipped"
    assert result["fact"]["reasons"][0]["check"] == "check_mode"
    assert "would lock 2 GPUs at 1980 MHz, mode 1: there is no record" in result["fact"]["reasons"][0]["seen"]
    assert result["fact"]["measured"]["gpus"]["0002:00:00.0"]["sm_before_mhz"] == 345
    assert result["diff"]["before"] == "0001:00:00.0: 345 MHz\n0002:00:00.0: 345 MHz\n"
    assert result["diff"]["after"].splitlines()[1] == "0002:00:00.0: locked at 1980 MHz, mode 1"
    node.run(state="locked", mhz=1980)
    node.calls()
    assert node.run(check=True, state="locked", mhz=1980)["changed"] is False
    unlock = node.run(check=True, state="unlocked")
    assert unlock["changed"] is True and "unlocked" in unlock["diff"]["after"]
    assert node.calls() == [] and node.record.exists()


def test_unlock(node):
    assert node.run(state="unlocked")["changed"] is False
    node.run(state="locked", mhz=1980)
    node.calls()
    result = node.run(state="unlocked")
    assert result["changed"] and node.calls() == ["-rgc"]
    assert result["fact"]["status"] == "healthy" and verdicts(result)["clocks.sm"] == "healthy"
    assert not node.record.exists() and result["after"][0]["sm_mhz"] == 345
    assert node.run(state="unlocked")["changed"] is False
    # A busy GPU proves nothing: better one call too many than clocks that stay locked.
    node.mood(use=97)
    busy = node.run(state="unlocked")
    assert busy["changed"] is True and verdicts(busy)["clocks.sm"] == "skipped"
    node.mood(sm=1980)  # said "All done." and stayed up
    assert verdicts(node.run(state="unlocked"))["clocks.sm"] == "incomplete"


def test_reported_only_reads(node):
    node.run(state="locked", mhz=1980)
    node.calls()
    result = node.run(state="reported")
    assert node.calls() == [] and result["changed"] is False
    assert "0001:00:00.0 at 1980 MHz" in result["fact"]["reasons"][0]["seen"]
    assert "our lock at 1980 MHz is recorded" in result["fact"]["reasons"][0]["seen"]
    assert "void" not in result["fact"]["reasons"][0]["seen"]


def test_wrong_arguments(node):
    assert "mhz" in node.run(state="locked")["msg"]
    assert "positive" in node.run(state="locked", mhz=0)["msg"]
    assert node.calls() == []
