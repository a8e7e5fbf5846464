"""Services that should and should not run, as systemctl tells them."""

from __future__ import annotations

import pytest
import stock_image
from ansible.module_utils.plumbline.health.checks.services import check_services
from ansible.module_utils.plumbline.health.evidence import services

GONE = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
RUNS = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success"}
STOPPED = {"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "Result": "success"}
FAILED = {"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
STARTS = {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}


def judged(key, **units):
    """Return ``(status, seen)`` of services that the SKU has under ``key``."""
    evidence = {"services": {"units": units, "error": None, "absent": None}}
    (found,) = check_services(evidence, {key: list(units)})
    return found["status"], found["seen"]


@pytest.mark.parametrize(
    ("unit", "active", "inactive"),
    [
        (RUNS, ("healthy", "a as it should be"), ("degraded", "a is active (running)")),
        (STOPPED, ("degraded", "a is inactive (dead)"), ("healthy", "a as it should be")),
        (FAILED, ("degraded", "a is failed (exit-code)"), ("healthy", "a as it should be")),
        (STARTS, ("degraded", "a is activating (auto-restart)"), ("healthy", "a as it should be")),
        (dict(STOPPED, LoadState="masked"), ("degraded", "a is masked"), ("healthy", "a as it should be")),
        (GONE, ("skipped", "not installed: a"), ("healthy", "not installed: a")),
    ],
)
def test_one_service(unit, active, inactive):
    assert judged("services_active", a=unit) == active
    assert judged("services_inactive", a=unit) == inactive


def test_several_services_are_one_reason():
    assert judged("services_active", a=RUNS, b=FAILED, c=GONE) == ("degraded", "b is failed (exit-code); not installed: c")


def test_a_machine_of_which_nothing_is_expected_says_nothing():
    assert check_services({"services": services.services([])}, {}) == []


def test_no_systemd_is_skipped(tmp_path):
    seen = services.services(["a"], str(tmp_path))
    (found,) = check_services({"services": seen}, {"services_active": ["a"]})
    assert (found["status"], found["seen"]) == ("skipped", "systemd does not run here")


def test_systemctl_is_asked_once_for_all(tmp_path):
    stock_image.systemd(tmp_path)
    seen = services.services(["nvidia-fabricmanager", "apt-daily.timer", "sku-customizations"], str(tmp_path))
    assert seen["units"]["nvidia-fabricmanager"] == RUNS and seen["units"]["apt-daily.timer"]["LoadState"] == "not-found"
    stock_image.program(tmp_path, "usr/bin/systemctl", "#!/bin/sh\necho LoadState=loaded")
    assert "answered for 1 of 2 services" in services.services(["a", "b"], str(tmp_path))["error"]
