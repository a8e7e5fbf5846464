"""InfiniBand's counters over a window: what good ports count passes, and each kind of bad one is found."""

from __future__ import annotations

import shutil

import ib_counters as module
import pytest
from ansible.module_utils.plumbline.controller.report.data import Schemas
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import ib_counters, ib_judge, ib_limits
from health_nodes import sysfs, write
from module_run import run_module

PORTS = ["mlx5_ib%d" % number for number in range(8)]
BASE = "sys/class/infiniband/%s/ports/1/%s/%s"
WINDOW_S = 300.0
SCHEMAS = Schemas()


def problems(fact):
    """Return what is wrong with a fact by its schemas, as the callback finds it."""
    return SCHEMAS.problems("link", fact)


@pytest.fixture
def root(tmp_path):
    """Return a folder with the eight ports of an ND H100 v5, as they stand before the phase: some have counted errors since boot."""
    sysfs(tmp_path)
    write(tmp_path, ib_counters.BOOT_ID, "boot-1")
    for device in PORTS:
        for name, (folder, _bits) in ib_counters.ERRORS.items():
            write(tmp_path, BASE % (device, folder, name), "3" if name == "symbol_error" else "0")
        write(tmp_path, BASE % (device, "counters", "port_xmit_data"), "1000")
        write(tmp_path, BASE % (device, "counters", "port_rcv_data"), "1000")
    ethernet(tmp_path, 5000)
    return tmp_path


def ethernet(root, count):
    for name in ("tx_bytes", "rx_bytes"):
        write(root, "sys/class/net/eth0/statistics/" + name, str(count))


def carry(root, gigabytes=100):
    """Let each port send and receive so many GB, in words of four bytes."""
    for device in (device for device in PORTS if (root / "sys/class/infiniband" / device).exists()):
        for name in ("port_xmit_data", "port_rcv_data"):
            write(root, BASE % (device, "counters", name), str(1000 + gigabytes * 250_000_000))


def put(root, counter, value, device="mlx5_ib4"):
    write(root, BASE % (device, ib_counters.ERRORS[counter][0], counter), str(value))


def judged(root, change, window_s=WINDOW_S, expected=tuple(PORTS), transport="IB", limits=None, traffic=True):
    """Read, change, read again, and return ``(fact, {check: reason})``; the window is as long as ``window_s`` says."""
    before = ib_counters.read("eth0", str(root))
    if traffic:
        carry(root)
    change(root)
    after = dict(ib_counters.read("eth0", str(root)), at_s=before["at_s"] + window_s)
    found = Measurement("link", "ib_counters")
    seen = ib_counters.difference(before, after)
    ib_judge.judge(found, seen, list(expected), transport, ib_limits.limits(limits or {}))
    fact = found.fact()
    assert problems(fact) == []
    return fact, {item["check"]: item for item in fact["reasons"]}


def bad(reasons):
    return {check.partition(".")[2]: item["status"] for check, item in reasons.items() if item["status"] not in ("healthy", "skipped")}


def test_ports_that_carried_data_and_counted_nothing_new_are_healthy(root):
    fact, reasons = judged(root, lambda root: None)
    assert fact["status"] == "healthy" and bad(reasons) == {}
    assert set(reasons) >= {"ib_counters.ports", "ib_counters.traffic", "ib_counters.symbol_error", "ib_counters.rnr_nak_retry_err"}
    port = fact["measured"]["ports"][4]
    assert port["port"] == "mlx5_ib4/1" and port["sent_bytes"] == port["received_bytes"] == 100 * 10**9
    # What was counted before the phase is not the phase's.
    assert port["errors"]["symbol_error"] == 0 and fact["measured"]["window_s"] == WINDOW_S
    assert "InfiniBand 1600.000 GB, eth0 0.000 GB" in reasons["ib_counters.traffic"]["seen"]


@pytest.mark.parametrize(
    ("counter", "value", "window_s", "status"),
    [
        ("link_downed", 1, WINDOW_S, "failed"),
        ("local_link_integrity_errors", 1, WINDOW_S, "failed"),
        ("excessive_buffer_overrun_errors", 1, WINDOW_S, "failed"),
        # 120 an hour: five minutes may have ten, and chance twice as many.
        ("symbol_error", 3 + 10, WINDOW_S, None),
        ("symbol_error", 3 + 19, WINDOW_S, None),
        ("symbol_error", 3 + 20, WINDOW_S, "degraded"),
        ("symbol_error", 3 + 120, WINDOW_S, "degraded"),
        ("symbol_error", 3 + 121, WINDOW_S, "failed"),
        ("symbol_error", 3 + 239, 7200.0, None),
        ("symbol_error", 3 + 241, 7200.0, "failed"),
        ("symbol_error", 3 + 1, 20.0, None),
        ("link_error_recovery", 25, WINDOW_S, None),
        ("link_error_recovery", 26, WINDOW_S, "degraded"),
        ("port_rcv_errors", 3000, WINDOW_S, None),
        ("port_rcv_errors", 3001, WINDOW_S, "degraded"),
        ("port_xmit_discards", 30001, WINDOW_S, "degraded"),
        # What a peer's loss does to its partners, too: never out for it.
        ("rnr_nak_retry_err", 1, WINDOW_S, "degraded"),
        ("req_transport_retries_exceeded", 128, WINDOW_S, "degraded"),
        ("req_rnr_retries_exceeded", 1, WINDOW_S, "degraded"),
        ("local_ack_timeout_err", 300, WINDOW_S, None),
        ("local_ack_timeout_err", 301, WINDOW_S, "degraded"),
        # Told, and not judged.
        ("out_of_sequence", 100000, WINDOW_S, None),
        ("VL15_dropped", 200, WINDOW_S, None),
    ],
)
def test_each_counter_by_its_limit(root, counter, value, window_s, status):
    fact, reasons = judged(root, lambda root: put(root, counter, value), window_s)
    assert bad(reasons) == ({counter.lower(): status} if status else {})
    if status:
        found = reasons["ib_counters." + counter.lower()]
        assert "mlx5_ib4/1 +" in found["seen"] and found["threshold"] and found["remedy"]
    assert next(item for item in fact["measured"]["ports"] if item["port"] == "mlx5_ib4/1")["errors"][counter] == (
        value - 3 if counter == "symbol_error" else value
    )


def test_a_counter_that_went_back_is_no_pass_and_what_came_since_still_counts(root):
    put(root, "link_downed", 7)
    put(root, "symbol_error", 500, "mlx5_ib2")
    fact, reasons = judged(root, lambda root: (put(root, "link_downed", 0), put(root, "symbol_error", 200, "mlx5_ib2")))
    assert bad(reasons) == {"link_downed": "incomplete", "symbol_error": "failed"} and fact["status"] == "failed"
    assert "mlx5_ib4/1 went back from 7 to 0" in reasons["ib_counters.link_downed"]["seen"]
    assert "at least +200" in reasons["ib_counters.symbol_error"]["seen"]


def test_a_counter_at_its_end_counts_no_more(root):
    put(root, "local_link_integrity_errors", 15)  # of four bits
    _fact, reasons = judged(root, lambda root: None)
    assert bad(reasons) == {"local_link_integrity_errors": "incomplete"}
    assert "stands at its end, 15" in reasons["ib_counters.local_link_integrity_errors"]["seen"]
    assert "perfquery -R" in reasons["ib_counters.local_link_integrity_errors"]["remedy"]


def test_what_the_driver_does_not_tell_is_said_and_not_guessed(root):
    for device in PORTS:
        (root / (BASE % (device, "hw_counters", "req_rnr_retries_exceeded"))).unlink()  # mlx5 has it from Linux 6.11 on
        write(root, BASE % (device, "counters", "excessive_buffer_overrun_errors"), "N/A (no PMA)")  # as sysfs.c has it
    fact, reasons = judged(root, lambda root: None)
    assert fact["status"] == "healthy"
    told = {check for check, item in reasons.items() if item["status"] == "skipped"}
    assert told == {"ib_counters.excessive_buffer_overrun_errors", "ib_counters.req_rnr_retries_exceeded"}


def test_a_counter_that_is_read_at_one_end_only_is_no_pass(root):
    _fact, reasons = judged(root, lambda root: put(root, "link_downed", "", "mlx5_ib1"))
    assert bad(reasons) == {"link_downed": "incomplete"} and "mlx5_ib1/1" in reasons["ib_counters.link_downed"]["seen"]


def test_a_port_without_any_counter_is_no_pass(root):
    shutil.rmtree(root / "sys/class/infiniband/mlx5_ib6/ports/1/counters")
    _fact, reasons = judged(root, lambda root: None)
    assert bad(reasons) == {"ports": "incomplete", "traffic": "incomplete"}
    assert "no error counter can be read: mlx5_ib6/1" in reasons["ib_counters.ports"]["seen"]


def test_a_port_that_goes_away_fails_its_node(root):
    fact, reasons = judged(root, lambda root: shutil.rmtree(root / "sys/class/infiniband/mlx5_ib5"))
    assert bad(reasons) == {"ports": "failed"} and "went away: mlx5_ib5/1" == reasons["ib_counters.ports"]["seen"]


def test_a_port_that_comes_was_not_counted_from_the_beginning(root):
    port = root / "sys/class/infiniband/mlx5_ib5"
    port.rename(root / "away")
    _fact, reasons = judged(root, lambda root: (root / "away").rename(port))
    assert bad(reasons) == {"ports": "incomplete"} and "came: mlx5_ib5/1" in reasons["ib_counters.ports"]["seen"]


def test_a_port_that_the_sku_has_and_the_node_has_not(root):
    shutil.rmtree(root / "sys/class/infiniband/mlx5_ib5")
    _fact, reasons = judged(root, lambda root: None)
    assert bad(reasons) == {"ports": "failed"} and reasons["ib_counters.ports"]["seen"] == "not there: mlx5_ib5"


def test_a_driver_that_was_loaded_again_hides_what_was_before(root):
    before = ib_counters.read("eth0", str(root))
    before["ports"]["mlx5_ib3/1"]["registration"] += 1
    seen = ib_counters.difference(before, ib_counters.read("eth0", str(root)))
    assert seen["restarted"] == ["mlx5_ib3/1"]
    found = Measurement("link", "ib_counters")
    ib_judge.judge(found, seen, PORTS, "IB", ib_limits.LIMITS)
    assert [(item["check"], item["status"]) for item in found.reasons if item["status"] not in ("healthy", "skipped")] == [
        ("ib_counters.ports", "incomplete")
    ]


def test_a_reboot_leaves_no_number(root):
    fact, reasons = judged(root, lambda root: write(root, ib_counters.BOOT_ID, "boot-2"))
    assert set(reasons) == {"ib_counters.ports"} and fact["status"] == "incomplete" and fact["measured"]["ports"] == []


def test_traffic_that_took_ethernet_where_infiniband_is_expected(root):
    _fact, reasons = judged(root, lambda root: ethernet(root, 50 * 10**9), traffic=False)
    assert bad(reasons) == {"traffic": "degraded"} and "eth0 100.000 GB" in reasons["ib_counters.traffic"]["seen"]
    _fact, reasons = judged(root, lambda root: ethernet(root, 100 * 10**9), transport="", traffic=False)
    assert reasons["ib_counters.traffic"]["status"] == "skipped"


def test_a_node_that_only_waited_says_nothing_of_the_wire(root):
    fact, reasons = judged(root, lambda root: ethernet(root, 10**6), traffic=False)
    assert fact["status"] == "healthy" and "too little to compare" in reasons["ib_counters.traffic"]["seen"]


def test_limits_of_the_inventory(root):
    changed = {"rnr_nak_retry_err": 100, "symbol_error": None, "link_downed": 2}

    def change(root):
        for counter, value in (("rnr_nak_retry_err", 100), ("symbol_error", 60000), ("link_downed", 2)):
            put(root, counter, value)

    fact, reasons = judged(root, change, limits=changed)
    assert fact["status"] == "healthy" and "ib_counters.symbol_error" not in reasons
    assert reasons["ib_counters.link_downed"]["threshold"] == "<= 2 (the inventory)"
    with pytest.raises(ValueError, match="no limit for 'symbl_error'"):
        ib_limits.limits({"symbl_error": 1})
    for wrong in (-1, True, "many", float("nan")):
        with pytest.raises(ValueError, match="expected a number from 0 on"):
            ib_limits.limits({"symbol_error": wrong})


def test_every_limit_says_where_it_is_from_and_is_of_a_counter_that_is_read():
    for limit in ib_limits.LIMITS:
        assert limit.counter in ib_counters.ERRORS and limit.source and limit.remedy and limit.status in ("failed", "degraded")
    own = {name for name, (folder, _bits) in ib_counters.ERRORS.items() if folder == ib_counters.PORT}
    assert {limit.counter for limit in ib_limits.LIMITS if limit.status == "failed"} <= own


def test_the_module_from_reading_to_fact(root, capsys):
    read = run_module(module, capsys, root=str(root), interface="eth0")
    assert set(read["reading"]["ports"]) == {name + "/1" for name in PORTS} and "fact" not in read
    carry(root)
    put(root, "link_downed", 1)
    given = {"judge": True, "before": read["reading"], "expected_ports": PORTS, "expected_transport": "IB", "root": str(root)}
    fact = run_module(module, capsys, **given)["fact"]
    assert (fact["name"], fact["status"]) == ("ib_counters", "failed") and problems(fact) == []
    assert fact["context"]["interface"] == "eth0" and "node" not in fact["context"] and "nodes" not in fact["context"]
    checked = run_module(module, capsys, _ansible_check_mode=True, **given)["fact"]
    assert checked["status"] == "skipped" and checked["reasons"][0]["check"] == "check_mode"


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"expected_ports": []}, "skipped", "not looked at"),
        ({"before": {}}, "incomplete", "no reading from before"),
        ({"before": "junk"}, "incomplete", "no reading from before"),
        ({}, "incomplete", "no reading from before"),
    ],
)
def test_the_module_without_a_window(root, capsys, given, status, words):
    fact = run_module(module, capsys, judge=True, root=str(root), **given)["fact"]
    assert fact["status"] == status and words in fact["reasons"][0]["seen"] and problems(fact) == []


def test_a_machine_without_infiniband_is_skipped_with_words(tmp_path, capsys):
    for before in ({}, run_module(module, capsys, root=str(tmp_path))["reading"]):
        fact = run_module(module, capsys, judge=True, before=before, root=str(tmp_path))["fact"]
        assert fact["status"] == "skipped" and fact["reasons"][0]["seen"] == "no InfiniBand port"
    write(tmp_path, "sys/class/infiniband/mlx5_an0/ports/1/link_layer", "Ethernet")
    assert ib_counters.read(None, str(tmp_path))["ports"] == {}
    lacking = run_module(module, capsys, judge=True, expected_ports=PORTS, before=ib_counters.read(None, str(tmp_path)), root=str(tmp_path))
    assert lacking["fact"]["status"] == "failed"


def test_a_limit_that_is_none_is_an_error(capsys):
    result = run_module(module, capsys, limits={"symbol_errors": 1})
    assert result["failed"] and "no limit for 'symbol_errors'" in result["msg"]
