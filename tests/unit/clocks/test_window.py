"""The clock window: what is sampled around and during a measurement (against mock-nvidia-smi), and what it is judged to mean."""

from __future__ import annotations

import json
import threading
import time

import pytest
from ansible.module_utils.plumbline.clocks import judge as clocks_judge
from ansible.module_utils.plumbline.clocks import query as clocks_query
from ansible.module_utils.plumbline.clocks import record as clocks_record
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core.fact import Measurement, worst
from ansible.module_utils.plumbline.machine import nvidia
from clocks_mock import ROOT, MockGpus
from jsonschema import Draft202012Validator

BUS = "0001:00:00.0"
SCHEMA = json.loads((ROOT / "docs/schema/benchmark.schema.json").read_text())
CLOCKS = dict(SCHEMA["properties"]["context"]["properties"]["clocks"], **{"$defs": SCHEMA["$defs"]})


def verdicts(reasons):
    """Return {check: status}."""
    return {item["check"]: item["status"] for item in reasons}


def said(reasons, check):
    """Return what was seen by a check."""
    return next(item["seen"] for item in reasons if item["check"] == check)


# -- the window over the mock -------------------------------------------------------------------------------------


@pytest.fixture
def gpus(tmp_path):
    """Return two mock GPUs, locked by us at 1980 MHz."""
    mock = MockGpus(tmp_path)
    mock.lock(1980)
    seen = clocks_query.Reader(str(mock.tool)).read()
    record = clocks_record.make(seen, 1980, 1, {gpu["bus_id"]: (1980, 1980) for gpu in seen}, [str(mock.nhc_log)])
    clocks_record.write(str(mock.state_dir), record)
    mock.calls()
    return mock


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Do not wait long for GPUs to be quiet."""
    monkeypatch.setattr(clocks_window, "QUIET_S", 0.1)


def measure(gpus, expected_mhz=1980, load=None, seconds=0.7, nodes=1, during=None):
    """Open a window, let the mock show ``load`` for a while, close it; return the benchmark fact it was attached to."""
    measurement = Measurement("benchmark", "window")
    given = {"expected_mhz": expected_mhz, "interval_s": 0.1, "nvidia_smi": str(gpus.tool), "state_dir": str(gpus.state_dir)}
    with clocks_window.watch(given, nodes=nodes) as window:
        gpus.mood(**(load or {"use": 97, "used_mib": 40000, "active": "0x0000000000000000"}))
        if during:
            during()
        time.sleep(seconds)
        enough = time.monotonic() + (5 if (load or {"use": 97}).get("use") else 0)  # a loaded machine starts the mock late
        while time.monotonic() < enough and sum(gpu["utilisation_percent"] > 0 for seen in list(window.samples) for gpu in seen) < 6:
            time.sleep(0.05)
        gpus.mood(**{key: value for key, value in (load or {}).items() if key in ("counters", "unknown", "no_xml_counters")})
    window.attach(measurement)
    fact = measurement.fact()
    Draft202012Validator(CLOCKS).validate(fact["context"]["clocks"])
    assert "GPU-0" not in json.dumps(fact), "a fact that names the GPU"
    return fact


def test_without_a_gpu_it_costs_nothing(tmp_path):
    if nvidia.is_present(nvidia.presence(str(tmp_path / "none"))):
        pytest.skip("this machine has a GPU")
    measurement, threads = Measurement("benchmark", "window"), threading.active_count()
    with clocks_window.watch({"nvidia_smi": str(tmp_path / "none")}) as window:
        assert threading.active_count() == threads
    window.attach(measurement)
    assert measurement.context["clocks"] == {"status": "skipped", "seen": "no GPU"} and measurement.reasons == []
    Draft202012Validator(CLOCKS).validate(measurement.context["clocks"])


def test_locked_and_loaded_is_healthy_with_numbers(gpus):
    fact = measure(gpus)
    assert fact["status"] == "healthy", fact["reasons"]
    seen = fact["context"]["clocks"]
    assert seen["status"] == "healthy" and seen["samples"] >= 2 and seen["window_s"] >= 0.7 and seen["expected_from"] == "argument"
    gpu = seen["gpus"][BUS]
    assert gpu["sm_mhz"] == {"min": 1980, "median": 1980, "max": 1980} and gpu["at_target"] is True and gpu["in_use"] is True
    assert gpu["throttle_us"] == dict.fromkeys(clocks_query.COUNTERS, 0)
    assert (gpu["before_sm_mhz"], gpu["after_sm_mhz"]) == (1980, 1980) and gpu["loaded_samples"] >= 2
    assert gpus.calls() == [], "the window only reads"
    assert verdicts(fact["reasons"]) == dict.fromkeys(("clocks.window", "clocks.lock", "clocks.sm", "clocks.throttle"), "healthy")


def test_throttling_is_degraded_with_microseconds(gpus):
    gpus.mood(counters={"hw_thermal_slowdown": 50000, "sw_power_cap": 400000})
    load = {"use": 97, "used_mib": 40000, "sm": 1410, "active": "0x0000000000000044",
            "counters": {"hw_thermal_slowdown": 50000, "sw_power_cap": 400000}}  # fmt: skip
    fact = measure(gpus, load=load)
    assert fact["status"] == "degraded", fact["reasons"]
    assert verdicts(fact["reasons"])["clocks.sm"] == verdicts(fact["reasons"])["clocks.throttle"] == "degraded"
    gpu = fact["context"]["clocks"]["gpus"][BUS]
    assert gpu["throttle_us"]["sw_power_cap"] > 100000 and gpu["throttle_us"]["hw_thermal_slowdown"] > 10000
    assert gpu["reasons_seen"]["sw_power_cap"] == gpu["loaded_samples"] and gpu["at_target"] is False
    text = said(fact["reasons"], "clocks.throttle")
    assert "sw_power_cap %d us" % gpu["throttle_us"]["sw_power_cap"] in text and "hw_thermal_slowdown" in text
    assert "median 1410" in said(fact["reasons"], "clocks.sm")


def test_lock_lost_before_is_failed(gpus):
    gpus.lock(None)
    fact = measure(gpus)
    assert fact["status"] == "failed" and "%s at 345 MHz before" % BUS in said(fact["reasons"], "clocks.lock")
    assert gpus.calls() == [], "the window does not lock"


def test_lock_lost_during_the_measurement_is_failed(gpus):
    fact = measure(gpus, during=gpus.lock)  # unlocked while busy: it boosts to the same 1980 MHz, and falls when idle
    text = said(fact["reasons"], "clocks.lock")
    assert fact["status"] == "failed" and "%s at 345 MHz after" % BUS in text and "before" not in text
    assert verdicts(fact["reasons"])["clocks.sm"] == "healthy", "the samples alone would not have seen it"


def test_clock_off_target_without_a_reason_is_failed(gpus):
    fact = measure(gpus, load={"use": 97, "used_mib": 40000, "sm": 1200, "active": "0x0000000000000000"})
    assert verdicts(fact["reasons"])["clocks.sm"] == "failed" and "median 1200" in said(fact["reasons"], "clocks.sm")
    assert verdicts(fact["reasons"])["clocks.lock"] == "healthy"


def test_without_a_record_nothing_is_proven(gpus):
    clocks_record.drop(str(gpus.state_dir))
    fact = measure(gpus)
    assert verdicts(fact["reasons"])["clocks.lock"] == "incomplete" and fact["status"] == "incomplete"
    assert "no record" in said(fact["reasons"], "clocks.lock")


def test_nhc_since_the_lock_is_seen(gpus):
    time.sleep(0.02)
    gpus.nhc_log.write_text("x")
    fact = measure(gpus)
    assert verdicts(fact["reasons"])["clocks.lock"] == "incomplete" and "Azure NHC" in said(fact["reasons"], "clocks.lock")


def test_target_comes_from_the_record_where_none_is_given(gpus):
    fact = measure(gpus, expected_mhz=0)
    assert fact["context"]["clocks"]["expected_mhz"] == 1980 and fact["context"]["clocks"]["expected_from"] == "record"
    clocks_record.drop(str(gpus.state_dir))
    gpus.lock(None)
    fact = measure(gpus, expected_mhz=0)
    assert verdicts(fact["reasons"])["clocks.lock"] == "skipped" and fact["context"]["clocks"]["expected_mhz"] is None
    assert fact["context"]["clocks"]["gpus"][BUS]["at_target"] is None and fact["status"] == "healthy"


def test_no_sample_under_load_of_a_gpu_in_use_is_said_and_leaves_the_verdict(gpus):
    fact = measure(gpus, load={"used_mib": 40000})
    assert verdicts(fact["reasons"])["clocks.load"] == "skipped" and fact["status"] == "healthy"
    text = said(fact["reasons"], "clocks.load")
    assert "0 samples under load, expected 1 or more, of 2 of 2 GPUs" in text and "not judged" in text and BUS in text
    assert "clocks.throttle" not in verdicts(fact["reasons"]), "nothing was proven of clocks under load"


def test_a_throttled_gpu_without_a_sample_is_found_by_its_counters(gpus):
    gpus.mood(counters={"hw_thermal_slowdown": 50000})
    fact = measure(gpus, load={"used_mib": 40000, "counters": {"hw_thermal_slowdown": 50000}})
    assert verdicts(fact["reasons"])["clocks.load"] == "skipped" and verdicts(fact["reasons"])["clocks.throttle"] == "degraded"
    assert fact["status"] == "degraded"


def test_a_short_window_is_sampled_by_one_process(gpus):
    started = []
    follow = clocks_query.Reader.follow

    def counted(reader, interval_s):
        started.append(follow(reader, interval_s))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks_query.Reader, "follow", counted)
        fact = measure(gpus, seconds=1.0)
    assert fact["status"] == "healthy" and fact["context"]["clocks"]["gpus"][BUS]["loaded_samples"] >= 3
    assert len(started) == 1 and started[0].process.poll() is not None, "it ended with the window"


def test_where_the_loop_is_not_known_single_calls_stand_in(gpus, monkeypatch):
    monkeypatch.setattr(clocks_window, "INTERVAL_S", 0.2)
    gpus.mood(no_loop=1)
    fact = measure(gpus, seconds=1.0, load={"use": 97, "used_mib": 40000, "active": "0x0", "no_loop": 1})
    assert fact["status"] == "healthy" and fact["context"]["clocks"]["samples"] >= 1 and fact["context"]["clocks"]["interval_s"] == 0.2


def test_a_loop_that_says_nothing_is_given_up(gpus, monkeypatch):
    monkeypatch.setattr(clocks_window, "INTERVAL_S", 0.2)
    monkeypatch.setattr(clocks_window, "FIRST_ANSWER_S", 0.2)
    monkeypatch.setattr(clocks_query.Reader, "follow", lambda reader, _interval: clocks_query.Loop("sleep", ["60"]))
    fact = measure(gpus, seconds=1.2)
    assert fact["status"] == "healthy" and fact["context"]["clocks"]["gpus"][BUS]["loaded_samples"] >= 1


def test_an_answer_of_the_loop_that_lacks_a_gpu_shifts_nothing(tmp_path):
    script = tmp_path / "loop"
    script.write_text(
        "#!/bin/sh\necho 'index, pci.bus_id'\necho '0, A'\necho 'WARNING: infoROM is corrupted at gpu 0001:00:00.0'\necho '1, B'\n"
        "echo '0, A2'\necho 'Unable to determine the device handle'\necho '0, A3'\necho '1, B3'\n"
    )
    script.chmod(0o755)
    found = [text.splitlines()[1:] for text in clocks_query.Loop(str(script), []).texts(2)]
    assert found == [["0, A", "1, B"], ["0, A2"], ["0, A3", "1, B3"]]


def test_gpus_that_nobody_used_say_nothing(gpus):
    fact = measure(gpus, load={"use": 0})
    assert verdicts(fact["reasons"])["clocks.load"] == "skipped" and fact["status"] == "healthy"
    assert "clocks.throttle" not in verdicts(fact["reasons"])


def test_older_driver_without_counters_says_so_and_leaves_the_verdict(gpus):
    unknown = [names[0] for key, names in clocks_query.FIELDS.items() if key in clocks_query.COUNTERS.values()]
    load = {"use": 97, "used_mib": 40000, "active": "0x0", "unknown": unknown, "no_xml_counters": 1}
    gpus.mood(unknown=unknown, no_xml_counters=1)
    fact = measure(gpus, load=load)
    assert verdicts(fact["reasons"])["clocks.throttle_counters"] == "skipped" and fact["status"] == "healthy"
    assert set(fact["context"]["clocks"]["missing_fields"]) == set(unknown)
    # The same driver with the counters in -q -x: all is there.
    load.pop("no_xml_counters")
    gpus.mood(unknown=unknown)
    assert measure(gpus, load=load)["status"] == "healthy"


def test_a_driver_that_does_not_answer_is_said_and_the_measurement_goes_on(gpus):
    gpus.mood(dead=1)
    fact = measure(gpus, load={"dead": 1})
    assert verdicts(fact["reasons"])["clocks.window"] == "skipped" and "not judged" in said(fact["reasons"], "clocks.window")
    assert "Unable to determine" in said(fact["reasons"], "clocks.window")


def test_an_exception_passes_through_and_the_window_is_closed(gpus):
    measurement = Measurement("benchmark", "window")
    with pytest.raises(RuntimeError, match="server died"):
        with clocks_window.watch({"nvidia_smi": str(gpus.tool), "state_dir": str(gpus.state_dir)}) as window:
            raise RuntimeError("server died")
    window.attach(measurement)
    assert measurement.context["clocks"]["node"] and not window._thread.is_alive()


def test_several_nodes_are_named(gpus):
    fact = measure(gpus, nodes=2)
    assert fact["context"]["clocks"]["nodes"] == 2 and fact["context"]["clocks"]["node"]
    assert verdicts(fact["reasons"])["clocks.other_nodes"] == "skipped" and fact["status"] == "healthy"


def test_samples_are_bounded(gpus, monkeypatch):
    monkeypatch.setattr(clocks_window, "MAX_SAMPLES", 4)
    fact = measure(gpus, seconds=1.5)
    assert 2 <= fact["context"]["clocks"]["samples"] <= 4 and fact["context"]["clocks"]["interval_s"] > 0.1


# -- the judgement, without a clock -------------------------------------------------------------------------------


class Seen:
    """A closed window with given samples of one GPU."""

    node, errors, error, record_problems, reader, full_load = "n1", 0, None, [], None, False

    def __init__(self, samples, before_us=None, after_us=None, seconds=10, expected=1980):
        self.expected_mhz, self.duration_s = expected, seconds
        self.before = [sample(1980, 0, throttle_us=before_us)]
        self.after = [sample(1980, 0, throttle_us=after_us)]
        self.samples = [[item] for item in samples]
        self.reader = type("Reader", (), {"missing": []})()


def sample(sm, use=97, active="0x0", throttle_us=None):
    """Return one GPU of one sample."""
    text = "index, pci.bus_id, clocks.current.sm [MHz], utilization.gpu [%%], clocks_event_reasons.active, memory.used [MiB]\n" + (
        "0, 00000001:00:00.0, %d MHz, %d %%, %s, 40000 MiB" % (sm, use, active)
    )
    gpu = clocks_query.parse_gpus(text.replace("%%", "%"))[0]
    gpu["throttle_us"] = dict(dict.fromkeys(clocks_query.COUNTERS, 0), **(throttle_us or {}))
    return gpu


def test_power_cap_counts_from_a_hundredth_of_the_time_under_load():
    ten = [sample(1980)] * 5 + [sample(1980, 0)] * 5  # loaded for 5 of 10 s
    assert verdicts(clocks_judge.judge(Seen(ten, after_us={"sw_power_cap": 49999})))["clocks.throttle"] == "healthy"
    reasons = clocks_judge.judge(Seen(ten, after_us={"sw_power_cap": 50000}))
    assert verdicts(reasons)["clocks.throttle"] == "degraded" and "50000 us (1.0 % of the time" in said(reasons, "clocks.throttle")
    assert verdicts(clocks_judge.judge(Seen(ten, after_us={"hw_power_brake_slowdown": 1})))["clocks.throttle"] == "degraded"


def test_under_a_full_load_the_power_limit_is_no_fault_and_heat_is():
    # As four H200s did in a sweep to 256 requests: 3.8 % of the time under load at their power limit.
    window = Seen([sample(1980)] * 6 + [sample(1800, active="0x4")] * 4, after_us={"sw_power_cap": 3900000})
    assert verdicts(clocks_judge.judge(window))["clocks.throttle"] == "degraded"
    window.full_load = True
    reasons = clocks_judge.judge(window)
    assert verdicts(reasons)["clocks.throttle"] == verdicts(reasons)["clocks.sm"] == "healthy"
    assert "sw_power_cap 3900000 us" in said(reasons, "clocks.throttle") and "at their power limit" in said(reasons, "clocks.sm")
    for reason in ("sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"):
        window = Seen([sample(1980)] * 10, after_us={"sw_power_cap": 3900000, reason: 20000})
        window.full_load = True
        assert verdicts(clocks_judge.judge(window))["clocks.throttle"] == "degraded", reason
    lost = Seen([sample(1200)] * 10, after_us={"sw_power_cap": 10})
    lost.full_load = True
    assert verdicts(clocks_judge.judge(lost))["clocks.sm"] == "failed"


def test_hw_slowdown_has_no_counter_so_samples_decide():
    reasons = clocks_judge.judge(Seen([sample(1980)] * 3 + [sample(990, active="0x8")]))
    assert verdicts(reasons)["clocks.throttle"] == "degraded" and "hw_slowdown in 1 of 4 samples" in said(reasons, "clocks.throttle")
    assert verdicts(reasons)["clocks.sm"] == "degraded"


def test_a_little_power_cap_does_not_excuse_a_lost_lock():
    reasons = clocks_judge.judge(Seen([sample(1200)] * 10, after_us={"sw_power_cap": 10}))
    assert verdicts(reasons)["clocks.sm"] == "failed"
    # Held down for most of the time by what the counters say: throttled, though no sample caught the reason.
    reasons = clocks_judge.judge(Seen([sample(1200)] * 10, after_us={"sw_power_cap": 9000000}))
    assert verdicts(reasons)["clocks.sm"] == "degraded"


def test_one_step_is_not_off_but_a_boost_above_the_lock_is():
    assert verdicts(clocks_judge.judge(Seen([sample(1965)] * 3)))["clocks.sm"] == "healthy"
    reasons = clocks_judge.judge(Seen([sample(1980)] * 3, expected=1500))
    assert verdicts(reasons)["clocks.sm"] == "failed" and verdicts(reasons)["clocks.lock"] == "failed"


def test_counters_that_went_back_are_no_evidence():
    reasons = clocks_judge.judge(Seen([sample(1980)] * 3, before_us={"sw_power_cap": 5}, after_us={"sw_power_cap": 0}))
    assert verdicts(reasons)["clocks.throttle_counters"] == "incomplete"


def test_a_gpu_that_left_is_incomplete():
    seen = Seen([sample(1980)] * 3)
    seen.after = []
    assert verdicts(clocks_judge.judge(seen))["clocks.window"] == "incomplete"


# -- two real H200s -----------------------------------------------------------------------------------------------


class Captured(Seen):
    """The window of a fact, with as many samples as it had; what throttled is given by PCI address."""

    def __init__(self, seen, throttle_us=None):
        self.expected_mhz, self.duration_s = seen["expected_mhz"], seen["window_s"]
        self.reader = type("Reader", (), {"missing": seen["missing_fields"]})()
        ends, samples = [], []
        for bus, gpu in seen["gpus"].items():
            grown = dict(gpu["throttle_us"], **(throttle_us or {}).get(bus, {}))
            ends.append([dict(sample(gpu["before_sm_mhz"], 0), bus_id=bus), dict(sample(1980, 0, throttle_us=grown), bus_id=bus)])
            loads = [1] * gpu["loaded_samples"] + [0] * (seen["samples"] - gpu["loaded_samples"])
            samples.append([dict(sample(1980, use), bus_id=bus) for use in loads])
        (self.before, self.after), self.samples = zip(*ends), list(zip(*samples))


def captured(name):
    """Return a fact that the modules wrote on two H200s."""
    return json.loads((ROOT / "tests" / "captures" / "h200x2" / ("collective.%s.json" % name)).read_text())


@pytest.mark.parametrize("name", ["sendrecv.within", "all_reduce.within"])
def test_good_h200s_are_healthy_whether_a_sample_fell_on_each_or_not(name):
    fact = captured(name)
    seen = fact["context"]["clocks"]
    reasons = clocks_judge.judge(Captured(seen))
    others = [item for item in fact["reasons"] if not item["check"].startswith(("clocks.", "collective.parity"))]
    assert worst(item["status"] for item in reasons + others) == "healthy", reasons
    blind = [bus for bus, gpu in seen["gpus"].items() if not gpu["loaded_samples"]]
    assert blind == (["0000:00:07.0"] if name == "sendrecv.within" else [])
    if blind:
        assert "of 1 of 2 GPUs in use (0000:00:07.0)" in said(reasons, "clocks.load")
        assert said(reasons, "clocks.throttle") == "1 GPUs were not throttled"


@pytest.mark.parametrize("bus", ["0000:00:06.0", "0000:00:07.0"])
def test_the_same_window_throttled_is_found_on_either_gpu(bus):
    seen = captured("sendrecv.within")["context"]["clocks"]
    reasons = clocks_judge.judge(Captured(seen, {bus: {"hw_thermal_slowdown": 1200}}))
    assert verdicts(reasons)["clocks.throttle"] == "degraded" and bus in said(reasons, "clocks.throttle")
