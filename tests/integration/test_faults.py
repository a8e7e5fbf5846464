"""What breaks ends in a clear verdict, the rest goes on, the exit status says so, and nothing measured is lost."""

from __future__ import annotations

import threading
import time

import pytest

pytestmark = pytest.mark.lab

TP1 = {"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"}
ONE_RUN = {"serve_benchmark_runs": 1, "serve_benchmark_sweep": [], "serve_benchmark_prompts": 1, "vllm_serve_layouts": [TP1]}


def verdicts(run):
    """Return the report's verdict by node."""
    return {node: entry["status"] for node, entry in run.document()["verdicts"]["nodes"].items()}


def said_of(run, node):
    """Return everything the report says of a node, as text."""
    return str(run.document()["verdicts"]["nodes"][node])


@pytest.fixture
def full_disk(lab):
    """Fill the disk of the third node, and free it afterwards."""
    lab.shell("labt3", "mkdir -p /var/lib/plumbline; dd if=/dev/zero of=/var/lib/plumbline/ballast bs=1M 2>/dev/null; true")
    yield "labt3"
    lab.shell("labt3", "rm -f /var/lib/plumbline/ballast")


@pytest.fixture
def dead_sshd(lab):
    """Kill every sshd of the second node, open connections included; afterwards the lab starts the node again."""
    lab.shell("labt2", "pkill -9 -x sshd", check=False)
    yield "labt2"
    lab.up()


def test_dead_node_and_full_disk_end_in_verdicts_and_the_rest_serves(lab, dead_sshd, full_disk):
    run = lab.play("site.yml", "--skip-tags fabric", run_id="broken", **ONE_RUN)
    assert run.status != 0
    assert verdicts(run) == {"labt1": "healthy", dead_sshd: "failed", full_disk: "failed"}
    assert "disk" in said_of(run, full_disk) and "free" in said_of(run, full_disk)
    assert "unreachable" in said_of(run, dead_sshd)
    assert run.document("selection.json")["serving"] == ["labt1"]
    assert run.fact("labt1", "benchmark", "tp1")["status"] in ("healthy", "degraded")
    report = (run.dir / "report.md").read_text()
    assert dead_sshd in report and full_disk in report


def test_corrupt_shard_takes_the_node_out_and_a_spare_takes_its_place(lab):
    lab.play("site.yml", "--tags model", run_id="model").ok("model sync")
    path = "/var/lib/plumbline/models/tiny-qwen2/"
    shard = lab.shell("labt2", "ls %s | grep safetensors$ | head -1" % path).strip()
    lab.shell("labt2", "printf 'X' | dd of=%s%s bs=1 seek=4096 conv=notrunc 2>/dev/null" % (path, shard))
    run = lab.play("site.yml", "--tags model", run_id="corrupt")
    assert run.status != 0
    fact = run.fact("labt2", "model", "tiny_qwen2")
    assert fact["status"] == "failed"
    assert shard in str(fact["reasons"]) and fact["measured"]["corrupt_files"] == 1
    assert verdicts(run)["labt1"] == verdicts(run)["labt3"] == "healthy"
    assert run.document("selection.json")["layouts"][2]["nodes"] == ["labt1", "labt3"]

    lab.play("site.yml", "--tags model", run_id="repair", model_sync_on_corruption="repair").ok("repair")
    lab.play("site.yml", "--tags model", run_id="repaired").ok("after the repair")


def test_killed_server_fails_its_layout_and_the_next_one_runs(lab):
    victim, survivor = dict(TP1, name="victim"), dict(TP1, name="survivor")
    killed = threading.Event()

    def kill_when_measuring():
        # Waits for the second result file of the benchmark, then kills the server by its recorded mark.
        for _ in range(240):
            seen = lab.shell("labt1", "ls /var/lib/plumbline/serve/victim/bench-01.json 2>/dev/null", check=False)
            if seen.strip():
                lab.shell(
                    "labt1",
                    "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -qx PLUMBLINE_SERVE_ID=victim "
                    "&& kill -9 ${p#/proc/}; done; true",
                )
                killed.set()
                return
            time.sleep(0.5)

    lab.shell("labt1", "rm -rf /var/lib/plumbline/serve/victim")
    killer = threading.Thread(target=kill_when_measuring)
    killer.start()
    run = lab.play(
        "site.yml", "--tags serve", run_id="killed",
        vllm_serve_layouts=[victim, survivor], serve_benchmark_runs=4, serve_benchmark_prompts=1, serve_benchmark_sweep=[],
        # Calls on their own take long enough to be met by the kill; and both ways are walked.
        serve_benchmark_preload="{{ vllm_serve_layout.name == 'survivor' }}",
    )  # fmt: skip
    killer.join()
    assert killed.is_set()
    assert run.status != 0
    fact = run.fact("labt1", "benchmark", "victim")
    assert fact["status"] == "failed"
    assert "the server" in fact["reasons"][0]["seen"] and "ended during the run" in fact["reasons"][0]["seen"]
    assert 1 <= fact["measured"]["num_runs"] < 4, "what the runs before measured is kept"
    other = run.fact("labt1", "benchmark", "survivor")
    assert other["status"] in ("healthy", "degraded")
    assert (fact["context"]["client_preloaded"], other["context"]["client_preloaded"]) == (False, True)


def test_report_is_written_when_no_node_answers(lab, tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "nodes: {hosts: {gone1: {ansible_host: 127.0.0.1, ansible_port: 1}, gone2: {ansible_host: 127.0.0.1, ansible_port: 2}}}\n"
    )
    run = lab.play("site.yml", "--tags validate", run_id="gone", inventory=inventory)
    assert run.status != 0
    assert verdicts(run) == {"gone1": "failed", "gone2": "failed"}
    assert (run.dir / "report.html").exists()
