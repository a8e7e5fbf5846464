"""What an instance had before is kept before anything is changed, and is what it has again."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.controller.azure import protection
from ansible.module_utils.plumbline.controller.azure.arm import Refused

SET = "/subscriptions/a/resourceGroups/rg/providers/Microsoft.Compute/virtualMachineScaleSets/train"
INSTANCE = SET + "/virtualMachines/0"
NEITHER, IN, BOTH = (protection.LEVELS[name] for name in ("none", "scale_in", "scale_set_actions"))


class MockArm:
    """Stands in for Azure: one instance with its policy, which takes ``late`` questions to have what it was told."""

    def __init__(self, policy=None, late=0):
        self.policy, self.late, self.orders, self.on_put = policy, late, [], None

    def ask(self, method, path, version, body=None):
        assert (path, version) == (INSTANCE, "2024-07-01")
        if method == "PUT":
            if self.on_put:
                self.on_put()
            self.orders.append(body["properties"])
            self.left = self.late
            return 200, {}
        old = not self.orders or self.left > 0
        if self.orders and self.left > 0:
            self.left -= 1
        policy = (
            (self.orders[-2]["protectionPolicy"] if len(self.orders) > 1 else self.policy) if old else self.orders[-1]["protectionPolicy"]
        )
        state = "Updating" if self.orders and old else "Succeeded"
        return 200, {"properties": {"provisioningState": state, **({"protectionPolicy": policy} if policy else {})}}


@pytest.fixture
def memory(tmp_path):
    return protection.Memory(str(tmp_path / "memory"))


def instances(arm, memory, run="run-1", **more):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    return protection.Instances(arm, memory, run, clock=lambda: now[0], sleep=sleep, **more)


def test_what_was_before_is_kept_first_and_given_back_last(memory):
    arm = MockArm(late=2)
    arm.on_put = lambda: seen.append(memory.get(INSTANCE))
    seen = []
    of_run = instances(arm, memory)
    assert of_run.protect("n1", INSTANCE, "scale_in") == (True, "n1 is protected from scale-in; before it was not protected")
    assert seen[0]["before"] == NEITHER and seen[0]["set"] == IN
    (kept,) = Path(memory.folder).iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (record,) = memory.all()
    assert of_run.give_back(record) == (True, "n1 is not protected again")
    assert arm.orders == [{"protectionPolicy": IN}, {"protectionPolicy": NEITHER}] and memory.all() == []


def test_what_the_owner_protected_stays(memory):
    arm = MockArm(dict(BOTH))
    assert instances(arm, memory).protect("n1", INSTANCE, "scale_in")[0] is False
    assert arm.orders == [] and memory.all() == []
    arm = MockArm({"protectFromScaleIn": True})
    of_run = instances(arm, memory)
    of_run.protect("n1", INSTANCE, "scale_set_actions")
    of_run.give_back(memory.get(INSTANCE))
    assert [order["protectionPolicy"] for order in arm.orders] == [BOTH, IN]


def test_a_second_run_after_one_that_was_killed_keeps_what_was_before_both(memory):
    arm = MockArm()
    instances(arm, memory, "killed").protect("n1", INSTANCE, "scale_in")
    second = instances(arm, memory, "second")
    second.protect("n1", INSTANCE, "scale_in")
    assert memory.get(INSTANCE)["before"] == NEITHER and memory.get(INSTANCE)["run"] == "second" and len(arm.orders) == 1
    # The first one, should it live after all, leaves it to the second.
    assert instances(arm, memory, "killed").give_back(memory.get(INSTANCE))[1].startswith("n1 is protected by another run, second")
    assert instances(arm, memory, "reset").give_back(memory.get(INSTANCE), whoever=True)[0] is True


def test_what_somebody_changed_meanwhile_is_left(memory):
    arm = MockArm()
    of_run = instances(arm, memory)
    of_run.protect("n1", INSTANCE, "scale_in")
    arm.orders.append({"protectionPolicy": BOTH})
    assert "somebody else made so" in of_run.give_back(memory.get(INSTANCE))[1]
    assert memory.all() == [] and len(arm.orders) == 2


def test_an_instance_that_is_gone_is_forgotten_and_any_other_error_is_not(memory):
    of_run = instances(MockArm(), memory)
    of_run.protect("n1", INSTANCE, "scale_in")

    class Refusing:
        def __init__(self, status):
            self.status = status

        def ask(self, *_):
            raise Refused("no", self.status)

    with pytest.raises(Refused):
        instances(Refusing(403), memory).give_back(memory.get(INSTANCE))
    assert memory.get(INSTANCE)
    assert "is gone" in instances(Refusing(404), memory).give_back(memory.get(INSTANCE))[1]
    assert memory.all() == []


def test_an_order_that_is_not_carried_out_is_an_error_and_is_remembered(memory):
    with pytest.raises(Refused, match="its provisioning Updating, 300 s after it was to be protected from scale-in"):
        instances(MockArm(late=10**6), memory).protect("n1", INSTANCE, "scale_in")
    assert memory.get(INSTANCE)["before"] == NEITHER


def test_check_mode_keeps_and_changes_nothing(memory):
    arm = MockArm()
    assert instances(arm, memory, check_mode=True).protect("n1", INSTANCE, "scale_in")[0] is True
    assert arm.orders == [] and memory.all() == []


def test_an_instance_of_either_kind_of_set():
    assert protection.instance_path(INSTANCE, SET) == INSTANCE
    flexible = "/subscriptions/a/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/flex_1"
    assert protection.instance_path(flexible, SET) == SET + "/virtualMachines/flex_1"


def test_a_damaged_record_is_none(memory, tmp_path):
    memory.put({"instance": INSTANCE, "node": "n1", "run": "r", "before": NEITHER, "set": IN})
    (tmp_path / "memory" / "x.json").write_text("{")
    assert [record["node"] for record in memory.all()] == ["n1"]


@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, None])
def test_every_refusal_has_a_remedy(status):
    assert len(protection.remedy(Refused("no", status))) > 10
