"""Each device copies alone, one after the other, and all of them several times: with the real conductor and processes' states."""

from __future__ import annotations

import threading
import time

from ansible.module_utils.plumbline.gpus import torch_worker

LIMIT_S = 10


class Child:
    """A device in a thread: what the conductor asks of a process."""

    def __init__(self, work):
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        self.killed = False

    def poll(self):
        return None if self.thread.is_alive() and not self.killed else 0

    def kill(self):
        self.killed = True


def take_turns(folder, devices, monkeypatch, hangs=()):
    """Return ``(what ran as (device, name, began, ended), the states, the conductor)``."""
    ran = []

    class Transfer:
        def __init__(self, torch, device, size_bytes):
            self.number = device

        def measure(self, name, seconds, state, direction=None):
            began = time.monotonic()
            time.sleep(0.3 if self.number in hangs and direction else 0.02)
            ran.append((self.number, name, began, time.monotonic()))

    monkeypatch.setattr(torch_worker, "Transfer", Transfer)
    spec = {"folder": str(folder), "transfer_bytes": 1, "transfer_s": 0.02, "slack_s": 0.1 if hangs else LIMIT_S, "patience_s": LIMIT_S}
    conductor = torch_worker.Conductor(spec)
    names = ["device%d" % number for number in range(devices)]
    states = [torch_worker.State(str(folder), name) for name in names]
    for number, name in enumerate(names):
        conductor.children[name] = Child(lambda number=number: torch_worker.transfers(None, number, spec, number, states[number]))
    for phase in ("h2d", "d2h"):
        conductor.gather(names, phase, LIMIT_S)
    conductor.turns(names)
    return ran, states, conductor


def test_one_device_at_a_time_and_each_in_every_turn(tmp_path, monkeypatch):
    ran, states, conductor = take_turns(tmp_path, 3, monkeypatch)
    alone = [item for item in ran if item[1].endswith("_alone")]
    assert [item[0] for item in alone] == [0, 0, 1, 1, 2, 2] * torch_worker.TURNS
    assert [item[1] for item in alone[:2]] == ["h2d_alone", "d2h_alone"] and not conductor.hung
    assert all(before[3] <= after[2] for before, after in zip(alone, alone[1:])), "two copied at the same time"


def test_who_hangs_in_its_turn_is_given_up_and_the_others_go_on(tmp_path, monkeypatch):
    ran, states, conductor = take_turns(tmp_path, 3, monkeypatch, hangs=(1,))
    assert set(conductor.hung) == {"device1"} and conductor.hung["device1"]["before"] == torch_worker.turn_of(1, 1)
    assert [item[0] for item in ran if item[1].endswith("_alone") and item[0] != 1] == [0, 0, 2, 2] * torch_worker.TURNS


def test_a_phase_keeps_all_its_turns_and_adds_up_what_was_wrong(tmp_path):
    class Tensor:
        def __init__(self, wrong):
            self.wrong = wrong

        def copy_(self, other, non_blocking):
            return self

        def __ne__(self, other):
            return self

        def sum(self):
            return self

        def item(self):
            return self.wrong

    class Device:
        def seconds(self, work, count):
            work()
            return 0.001 * count

        def sync(self):
            pass

    transfer = torch_worker.Transfer.__new__(torch_worker.Transfer)
    transfer.device, transfer.size_bytes = Device(), 10**6
    transfer.host = transfer.there = Tensor(0)
    transfer.back = Tensor(1)
    state = torch_worker.State(str(tmp_path), "device0")
    for _turn in range(3):
        transfer.measure("h2d_alone", 0.001, state, "h2d")
    phase = state.data["phases"]["h2d_alone"]
    assert len(phase["turns_s"]) == 3 and phase["wrong"] == 3 and phase["began"] <= phase["ended"]
