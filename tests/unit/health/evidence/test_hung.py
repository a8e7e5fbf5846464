"""Hung processes: what has not moved between looks, and nothing that only waits for a disk, on purpose, or in the kernel itself."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.checks.hung import check_hung
from ansible.module_utils.plumbline.health.evidence import hung
from health_nodes import write


def process(proc, pid, name, state="D", parent=1, switches=7, wait="rpc_wait_bit_killable", started=100):
    """Write one process below ``proc``, as proc_pid_stat(5) and proc_pid_status(5) have it."""
    fields = [state, str(parent), str(pid), *["0"] * 16, str(started), "0", "0"]
    write(proc, "%d/stat" % pid, "%d (%s) %s" % (pid, name, " ".join(fields)))
    write(proc, "%d/status" % pid, "Name:\t%s\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t3" % (name, switches))
    write(proc, "%d/wchan" % pid, wait)


@pytest.fixture
def look(tmp_path):
    """Return a function that looks at ``/proc``, and does each of the changes while it waits."""
    process(tmp_path, 1, "systemd", "S", 0)
    process(tmp_path, 2, "kthreadd", "S", 0)

    def run(*changes):
        todo, slept = list(changes), []

        def sleep(seconds):
            slept.append(seconds)
            if todo:
                todo.pop(0)()

        found = hung.hung(proc=str(tmp_path), sleep=sleep)
        assert found["waited_s"] == sum(slept)
        return found

    run.proc = tmp_path
    return run


def judged(found):
    """Return the status and the words of the check."""
    item = check_hung({"hung": found}, {})[0]
    return item["status"], item["seen"]


def test_nobody_waits_and_so_nobody_is_waited_for(look):
    process(look.proc, 50, "vllm", "R")
    assert look() == {"waited_s": 0.0, "processes": [], "kernel_threads": []}


def test_a_process_that_does_not_move_is_named(look):
    process(look.proc, 50, "nvidia-smi", wait="os_acquire_mutex")
    process(look.proc, 51, "rsync")
    found = look()
    assert found["waited_s"] == 10.0
    status, words = judged(found)
    assert status == "degraded"
    assert words == "2 did not move for 10 s: nvidia-smi (pid 50, in os_acquire_mutex), rsync (pid 51, in rpc_wait_bit_killable)"


def test_a_process_that_waits_for_its_disk_moves(look):
    process(look.proc, 50, "rsync")
    found = look(lambda: process(look.proc, 50, "rsync", switches=8))
    assert (found["processes"], found["waited_s"]) == ([], 3.0) and judged(found)[0] == "healthy"
    # And so does one that is slow, which the second look sees.
    found = look(lambda: None, lambda: process(look.proc, 50, "rsync", switches=9))
    assert found["processes"] == [] and found["waited_s"] == 10.0


def test_another_process_of_the_same_number_is_another(look):
    process(look.proc, 50, "rsync")
    assert look(lambda: process(look.proc, 50, "rsync", started=200))["processes"] == []


@pytest.mark.parametrize("wait", ["wait_for_vfork_done", "__refrigerator", "kernel_clone", "do_freezer_trap"])
def test_what_waits_on_purpose_does_not_hang(look, wait):
    process(look.proc, 50, "make", wait=wait)
    assert judged(look())[0] == "healthy"


def test_threads_of_the_kernel_are_apart(look):
    process(look.proc, 60, "kworker/u193:0+hv_balloon", parent=2, wait="0")
    found = look()
    assert (found["processes"], found["waited_s"], len(found["kernel_threads"])) == ([], 0.0, 1)
    process(look.proc, 50, "cat", wait="0")
    found = look()
    assert [item["pid"] for item in found["processes"]] == [50] and [item["pid"] for item in found["kernel_threads"]] == [60]
    assert judged(found) == ("degraded", "1 did not move for 10 s: cat (pid 50)")


def test_this_machine_and_a_recorded_one(tmp_path):
    assert judged(hung.hung(str(tmp_path)))[0] == "skipped"
    seen = hung.hung("/", looks_s=())
    assert set(seen) == {"waited_s", "processes", "kernel_threads"}
