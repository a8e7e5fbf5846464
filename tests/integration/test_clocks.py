"""clocks.yml and reset.yml on lab nodes: skipped without a GPU; with mock-nvidia-smi locked once, locked again when lost, undone."""

from __future__ import annotations

import pytest
from conftest import ROOT

pytestmark = pytest.mark.lab

MOCK = ROOT / "tests" / "mocks" / "clocks" / "mock-nvidia-smi"
FOLDER = "/var/tmp/mock-gpus"
TOOL = FOLDER + "/mock-nvidia-smi"


@pytest.fixture
def mocked(lab):
    """Put mock-nvidia-smi on the first node, and remove it and the record of its lock afterwards."""
    node = lab.names[0]
    lab.play("playbooks/reset.yml").ok("reset")
    lab.shell(node, "mkdir -p %s && cat >%s <<'MOCK'\n%s\nMOCK\nchmod +x %s" % (FOLDER, TOOL, MOCK.read_text(), TOOL))
    yield node
    lab.shell(node, "rm -rf %s /run/plumbline/gpu_clocks.json" % FOLDER)


def test_without_a_gpu_clocks_and_reset_change_nothing(lab):
    lab.play("playbooks/reset.yml").ok("reset")  # what the tests before left
    for playbook in ("playbooks/clocks.yml", "playbooks/reset.yml"):
        run = lab.play(playbook).ok(playbook)
        assert run.changed == {}, playbook
        for name in lab.names:
            fact = run.fact(name, "clocks", "node")
            assert fact["status"] == "skipped" and fact["reasons"][0]["seen"] == "no GPU" and fact["measured"] == {}


def test_lock_once_again_when_lost_and_undo(lab, mocked):
    def play(playbook, *arguments):
        return lab.play(playbook, *arguments, gpu_clocks_nvidia_smi=TOOL).ok(playbook)

    checked = play("playbooks/clocks.yml", "--check", "--diff")
    assert checked.changed == {mocked: 1} and "locked at 1980 MHz" in checked.text
    assert lab.shell(mocked, "ls %s /run/plumbline 2>&1 | grep -c -e '^lock$' -e gpu_clocks.json || true" % FOLDER).strip() == "0"

    run = play("playbooks/clocks.yml")
    assert run.changed == {mocked: 1}
    fact = run.fact(mocked, "clocks", "node")
    assert fact["status"] == "healthy" and fact["measured"]["gpus"]["0001:00:00.0"]["echo_min_mhz"] == 1980
    assert run.fact(lab.names[1], "clocks", "node")["status"] == "skipped"
    assert play("playbooks/clocks.yml").changed == {}, "a second run changes nothing"

    lab.shell(mocked, TOOL + " -rgc")  # as Azure NHC does
    assert play("playbooks/clocks.yml").changed == {mocked: 1}, "a lock that was lost is made again"

    assert play("playbooks/reset.yml").changed == {mocked: 1}
    assert lab.shell(mocked, "ls %s/lock /run/plumbline/gpu_clocks.json 2>/dev/null || true" % FOLDER).strip() == ""
    assert play("playbooks/reset.yml").changed == {}
