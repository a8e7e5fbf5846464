"""Health and clocks on real nodes: how many tasks they take, the fleet's fact, and NHC in the background.

NHC needs GPUs and Docker, so a stand-in named mock-… takes its place here; its lines are NHC's, and no number of it is a result.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.lab

COUNTED = ("runner_on_ok", "runner_on_failed", "runner_on_skipped", "runner_on_unreachable")
MOCK = "/opt/mock-nhc/mock-run-health-checks.sh"
SKU = {
    "mocked": {
        "health": {"source": "tests/integration/test_health.py", "clock_skew_max_ms": 2000}, "gpu": {"count": 0},
        "nhc": {"checks": ["check_hw_cpuinfo 2 96 96", "check_gpu_xid", "check_nccl_allreduce 460.0 1 16G"]},
    }
}  # fmt: skip
SCRIPT = r"""#!/bin/sh
# mock-run-health-checks: a stand-in for Azure's runner
while [ $# -gt 0 ]; do case $1 in -o) log=$2; shift;; -c|-t) shift;; esac; shift; done
sleep 8
cat >> "$log" <<'LOG'
[1] - Running check:  "check_hw_cpuinfo 2 96 96"
[2] - Running check:  "check_gpu_xid"
SUCCESS:  nhc:  Health check passed:  check_gpu_xid:  GPU XID error check passed.
[3] - Running check:  "check_nccl_allreduce 460.0 1 16G"
ERROR:  nhc:  Health check failed:  check_nccl_allreduce: NCCL allreduce, BUS BW (expected >=460.0 GB/s). FaultCode: NHC2010
SUCCESS:  nhc:  Health check passed:  check_nccl_allreduce: passed
Health checks completed with exit code: 0.
LOG
exit 0
"""


def tasks_by_host(run):
    """Return {host: [task, ...]} of every task that ran for a host, however it ended."""
    found = {}
    for event in run.events:
        if event["event"] in COUNTED:
            data = event["event_data"]
            found.setdefault(data["host"], []).append(data["task"])
    return found


@pytest.fixture(scope="module")
def validated(lab):
    """``site.yml --tags health,clocks``."""
    return lab.play("site.yml", "--tags health,clocks", run_id="budget").ok("health and clocks")


def test_health_and_clocks_take_at_most_four_tasks_a_node(validated, lab):
    counts = tasks_by_host(validated)
    assert set(lab.names) <= set(counts)
    for name in lab.names:
        # What runs once for all nodes counts for the first.
        assert len(counts[name]) <= (8 if name == lab.names[0] else 4), (name, counts[name])
        assert any("Judge the health" in task for task in counts[name])
        assert any("GPU clocks" in task for task in counts[name])


def test_every_node_has_its_own_and_the_fleets_fact(validated, lab):
    for name in lab.names:
        assert validated.fact(name, "health", "node")["status"] == "healthy"
        fleet = validated.fact(name, "health", "fleet")
        assert fleet["status"] == "healthy" and fleet["measured"]["nodes_count"] == 3
        checks = {item["check"]: item["status"] for item in fleet["reasons"]}
        assert checks["fleet.kernel"] == checks["fleet.os"] == "healthy"
        assert checks["fleet.memory_total_bytes"] == "skipped", "three nodes are too few for an outlier"
    assert validated.document("selection.json")["replaced"] == []


def test_limit_still_reports(lab):
    run = lab.play("site.yml", "--tags health", "--limit labt2", run_id="limited").ok("--limit")
    assert set(run.document()["verdicts"]["nodes"]) == {"labt2"}


@pytest.fixture(scope="module")
def mocked(lab):
    """A stand-in for NHC on the first node only."""
    lab.shell("labt1", "mkdir -p /opt/mock-nhc/conf; cat > %s <<'END'\n%s\nEND\nchmod 755 %s" % (MOCK, SCRIPT, MOCK))
    lab.shell("labt1", "printf ' * || check_gpu_xid\\n' > /opt/mock-nhc/conf/mocked.conf")
    yield {"sku_name": "mocked", "sku_overrides": SKU, "node_health_nhc": "require", "node_health_nhc_script": MOCK}
    lab.shell("labt1", "rm -rf /opt/mock-nhc /var/log/plumbline")


def test_nhc_runs_in_the_background_and_its_error_decides(lab, mocked):
    run = lab.play("site.yml", "--tags health", run_id="nhc", **mocked)
    assert run.status != 0
    polls = [event["event_data"]["host"] for event in run.events if event["event"] == "runner_on_async_poll"]
    assert "labt1" in polls
    fact = run.fact("labt1", "health", "node")
    checks = {item["check"]: item for item in fact["reasons"]}
    assert checks["nhc.check_nccl_allreduce"]["status"] == fact["status"] == "failed"
    assert "NHC2010" in checks["nhc.check_nccl_allreduce"]["seen"]
    assert checks["nhc.check_hw_cpuinfo"]["status"] == checks["nhc.check_gpu_xid"]["status"] == "healthy"
    assert fact["context"]["remediation"]["class"] == "replace"
    # The clock was compared, though the module ran in the background.
    assert checks["clock.skew"]["status"] == "healthy" and "±" in checks["clock.skew"]["seen"]
    assert lab.shell("labt1", "cat /opt/mock-nhc/conf/mocked.conf").split() == ["*", "||", "check_gpu_xid"]
    # Not installed, though required: no evidence, no pass.
    missing = {item["check"]: item["status"] for item in run.fact("labt2", "health", "node")["reasons"]}
    assert missing["nhc"] == "incomplete"
    assert run.document("selection.json")["serving"] == []


def test_nhc_is_not_run_in_check_mode(lab, mocked):
    lab.shell("labt1", "rm -rf /var/log/plumbline/nhc")
    run = lab.play("site.yml", "--tags health", "--check", run_id="nhc-check", **mocked)
    run.ok("--check")
    assert lab.shell("labt1", "ls /var/log/plumbline/nhc 2>/dev/null || true").strip() == ""
    assert "would run %s" % MOCK in str([e["event_data"].get("res") for e in run.events if e["event"] == "runner_on_ok"])
