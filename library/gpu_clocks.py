#!/usr/bin/python
"""Ansible module: lock or unlock the GPU clocks of one node, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_clocks
short_description: Lock, unlock or report GPU clocks, and prove it
description:
  - Locks the graphics clock of every GPU of the node with C(nvidia-smi -lgc MHZ,MHZ --mode N) and believes it only on
    evidence - the driver's echo for each GPU must say exactly what was asked for, and C(clocks.sm) must arrive there.
    A clamped clock, a GPU without an echo, a missing permission and an unsupported GPU are C(failed), each named.
  - NVML cannot be asked whether clocks are locked. The module calls the node locked, and changes nothing, only where
    its own record (O(state_dir); this boot, this load of the driver, these GPUs, no run of Azure NHC since) agrees and
    every GPU runs at the target while nothing uses it. In any doubt it locks again and says what the doubt was.
  - Reads are those of C(nvidia-smi --query-gpu). A field that the driver does not know makes its evidence C(incomplete).
  - Without a GPU the fact is C(skipped), with no number in it.
options:
  state:
    description: V(reported) only reads.
    type: str
    choices: [locked, unlocked, reported]
    default: locked
  mhz:
    description: Graphics clock in MHz; required for O(state=locked).
    type: int
  mode:
    description: The tool's C(--mode). V(1) is closed-loop control, V(0) the driver's highest frequency accuracy.
    type: int
    choices: [0, 1]
    default: 1
  settle_s:
    description: Seconds that C(clocks.sm) may take to arrive at the target.
    type: int
    default: 5
  state_dir:
    description: Where the record of the lock is kept; must not survive a reboot.
    type: path
    default: /run/plumbline
  nhc_logs:
    description:
      - Patterns of Azure NHC's logs. One that changed after the lock voids the record, because NHC unlocks the clocks.
      - They are looked at beside the places where NHC and the role node_health leave them by default
        (C(plugins/module_utils/plumbline/clocks/record.py)).
    type: list
    elements: str
    default: []
  gpus:
    description: GPUs whose clocks are set and read, as the variable C(plumbline_gpus) has them; empty for all.
    type: raw
    default: []
  nvidia_smi:
    description: Path of C(nvidia-smi); found in E(PATH) where it is not given.
    type: path
  timeout_s:
    description: Seconds that one call of C(nvidia-smi) may take.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Reads the GPUs and says what it would change; the fact is C(skipped) where it would.
  diff_mode:
    support: full
author: Plumbline
"""

EXAMPLES = r"""
- name: Lock at the top clock of an H100 or H200
  gpu_clocks:
    state: locked
    mhz: 1980

- name: Give the clocks back to the driver
  gpu_clocks:
    state: unlocked
"""

RETURN = r"""
ansible_facts:
  description: The fact under C(plumbline.clocks); shape in C(docs/schema/clocks.schema.json).
  returned: always
  type: dict
fact:
  description: The same fact.
  returned: always
  type: dict
before:
  description: The GPUs as they were, one dictionary each, without UUID and serial number.
  returned: with a GPU
  type: list
  elements: dict
after:
  description: The GPUs as they are now; in check mode the same as before.
  returned: with a GPU
  type: list
  elements: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.clocks import lock as clocks
from ansible.module_utils.plumbline.clocks import query as clocks_query
from ansible.module_utils.plumbline.clocks import record as clocks_record
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.machine import gpu_choice, nvidia


class Clocks:
    """One run of the module: reads, decides, acts, judges."""

    def __init__(self, module):
        self.given = module.params
        self.check_mode = module.check_mode
        self.stdout = ""
        self.nhc_logs = list(clocks_record.NHC_LOGS) + self.given["nhc_logs"]
        self.reader = clocks_query.Reader(nvidia.find_tool(self.given["nvidia_smi"]), self.given["timeout_s"])
        self.measurement = Measurement("clocks", "node", command="nvidia-smi " + " ".join(self.arguments()))
        self.measurement.context = {
            "state": self.given["state"],
            "boot_id": clocks_record.boot_id(),
            "driver": None,
            "missing_fields": [],
            "doubts": [],
        }
        if self.given["state"] == "locked":
            self.measurement.context.update(requested_mhz=self.given["mhz"], mode=self.given["mode"])

    def arguments(self):
        """Return the arguments that make the wanted state."""
        if self.given["state"] == "locked":
            return ["-lgc", "%d,%d" % (self.given["mhz"], self.given["mhz"]), "--mode", str(self.given["mode"])]
        if self.given["state"] == "unlocked":
            return ["-rgc"]
        return ["--query-gpu=" + ",".join(names[0] for names in clocks_query.FIELDS.values()), "--format=csv"]

    def add(self, *reasons):
        """Append reasons; None stands for nothing to say."""
        self.measurement.reasons += [item for item in reasons if item is not None]

    def run(self):
        """Return the module's result."""
        found = nvidia.presence(self.given["nvidia_smi"])
        if not nvidia.is_present(found):
            self.measurement.add("gpu", "skipped", "no GPU", None)
            return dict(self.measurement.result(), changed=False)
        before, problem = self.read()
        if not before:
            status = "failed" if found["pci"] else "incomplete"
            seen = problem or "nvidia-smi shows no GPU"
            self.measurement.add("clocks.read", status, seen, "a driver that answers for each GPU", "see the gpu checks of node_health")
            return dict(self.measurement.result(), changed=False)
        record = clocks_record.read(self.given["state_dir"])
        changed, after = getattr(self, self.given["state"])(before, record)
        self.measurement.context.update(driver=before[0]["driver"], missing_fields=self.reader.missing)
        echo = clocks.parse_echo(self.stdout) if self.given["state"] == "locked" and self.stdout else None
        self.measurement.measured.update(clocks.measured(before, after, echo))
        return dict(
            self.measurement.result(),
            changed=changed,
            before=[clocks_query.without_identity(gpu) for gpu in before],
            after=[clocks_query.without_identity(gpu) for gpu in after],
            diff=self.diff(before, after, record, changed),
        )

    def read(self):
        """Return ``(GPUs, None)``, or ``([], why not)``."""
        try:
            return self.reader.read(), None
        except nvidia.NvidiaError as error:
            return [], str(error)

    def reported(self, before, record):
        """Read only; say whether a lock of ours is recorded."""
        text = ", ".join("%s at %s MHz" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in before)
        void = clocks_record.problems(record, before, self.nhc_logs)
        if record is None:
            text += "; no lock of ours is recorded"
        else:
            text += "; our lock at %s MHz is recorded" % record.get("mhz")
            text += ", but void: %s" % "; ".join(void) if void else ""
        blind = any(gpu["sm_mhz"] is None for gpu in before)
        self.measurement.add("clocks.sm", "incomplete" if blind else "healthy", text, "an SM clock from every GPU")
        self.add(clocks.judge_throttle(before, self.reader.missing))
        return False, before

    def locked(self, before, record):
        """Lock, unless our lock provably holds."""
        mhz, mode = self.given["mhz"], self.given["mode"]
        doubts = clocks.doubts_of_lock(record, before, mhz, mode, self.nhc_logs)
        if not doubts:
            seen = "locked by us at %s, mode %d" % (clocks_record.stamp(record["locked_at"]), mode)
            self.measurement.add("clocks.lock", "healthy", seen, "%d MHz" % mhz)
            self.judge_evidence(before)
            return False, before
        self.measurement.context["doubts"] = doubts
        if self.check_mode:
            self.would("lock %d GPUs at %d MHz, mode %d: %s" % (len(before), mhz, mode, "; ".join(doubts)))
            self.add(clocks.judge_wish(before, mhz))
            self.add(*self.bad(clocks.judge_throttle(before, self.reader.missing), clocks.judge_persistence(before)))
            return True, before
        # The record must not outlive a lock that is being replaced and may fail half-way.
        clocks_record.drop(self.given["state_dir"])
        accepted = self.act(lambda code, out, err: clocks.judge_lock(code, out, err, before, mhz))
        echo = clocks.parse_echo(self.stdout)
        after, problem = self.settled(lambda gpu: clocks.at_target(gpu, mhz) or not accepted)
        if not after:
            self.measurement.add("clocks.sm", "incomplete", problem, "a driver that answers after the lock")
            return True, before
        if not accepted:
            return bool(echo) or [gpu["sm_mhz"] for gpu in after] != [gpu["sm_mhz"] for gpu in before], after
        self.judge_evidence(after)
        gone = sorted({gpu["bus_id"] for gpu in before} - {gpu["bus_id"] for gpu in after})
        if gone:
            self.measurement.add(
                "clocks.read", "failed", "no answer any more from %s" % ", ".join(gone), "every GPU answers after the lock",
                "see the gpu checks of node_health",
            )  # fmt: skip
        proven = {item["check"] for item in self.measurement.reasons if item["status"] == "healthy"}
        if {"clocks.lock", "clocks.sm"} <= proven and not gone:
            clocks_record.write(self.given["state_dir"], clocks_record.make(after, mhz, mode, echo, self.nhc_logs))
        return True, after

    def judge_evidence(self, gpus):
        """Judge what the GPUs show under a lock."""
        self.add(clocks.judge_clocks(gpus, self.given["mhz"]))
        self.add(clocks.judge_throttle(gpus, self.reader.missing), clocks.judge_persistence(gpus))

    def unlocked(self, before, record):
        """Unlock, unless no lock provably holds."""
        if clocks.is_unlocked(record, before):
            seen = "no lock of ours, and unused GPUs run at low clocks"
            self.measurement.add("clocks.unlock", "healthy", seen, "unlocked")
            return False, before
        if self.check_mode:
            self.would("reset the clocks of %d GPUs" % len(before))
            return True, before
        if not self.act(lambda code, out, err: [clocks.judge_unlock(code, out, err)]):
            return False, before
        clocks_record.drop(self.given["state_dir"])
        after, problem = self.settled(lambda gpu: clocks.is_low(gpu) or not clocks.is_quiet(gpu))
        if not after:
            self.measurement.add("clocks.sm", "incomplete", problem, "a driver that answers after the reset")
            return True, before
        self.add(clocks.judge_unlocked_clocks(after))
        return True, after

    def act(self, judge):
        """Call ``nvidia-smi``, append what ``judge`` says; return whether the tool did not refuse."""
        try:
            code, self.stdout, stderr = nvidia.run(self.reader.tool, self.arguments(), self.given["timeout_s"])
        except nvidia.NvidiaError as error:
            check = {"locked": "clocks.lock", "unlocked": "clocks.unlock"}[self.given["state"]]
            self.measurement.add(check, "failed", str(error), "the driver answers", "see the gpu checks of node_health")
            return False
        self.add(*judge(code, self.stdout, stderr))
        return clocks.refusal("clocks.act", "", code, self.stdout, stderr) is None

    def settled(self, arrived):
        """Return ``(GPUs, None)`` once all have ``arrived`` or ``settle_s`` is over, or ``([], why not)``."""
        deadline = time.monotonic() + self.given["settle_s"]
        while True:
            gpus, problem = self.read()
            if problem or all(arrived(gpu) for gpu in gpus) or time.monotonic() >= deadline:
                return gpus, problem or (None if gpus else "nvidia-smi shows no GPU any more")
            time.sleep(0.25)

    def would(self, what):
        """Say in check mode what would be done."""
        self.measurement.add("check_mode", "skipped", "would %s" % what, None)

    @staticmethod
    def bad(*reasons):
        """Return the reasons that are no pass: beside them, a change that was not made stays ``skipped``."""
        return [item for item in reasons if item is not None and item["status"] != "healthy"]

    def diff(self, before, after, record, changed):
        """Return the difference as --diff shows it, one line a GPU: in check mode what would be."""
        given, old_lock = self.given, ""
        if clocks_record.is_ours(record):
            old_lock = ", our lock at %s MHz, mode %s, recorded" % (record.get("mhz"), record.get("mode"))
        old = "".join("%s: %s MHz%s\n" % (gpu["bus_id"], gpu["sm_mhz"], old_lock) for gpu in before)
        if not changed:
            new = old
        elif self.check_mode:
            wanted = "locked at %s MHz, mode %s" % (given["mhz"], given["mode"])
            wanted = wanted if given["state"] == "locked" else "unlocked"
            new = "".join("%s: %s\n" % (gpu["bus_id"], wanted) for gpu in before)
        else:
            made = clocks_record.read(given["state_dir"])
            lock = ", our lock at %s MHz, mode %s, recorded" % (made["mhz"], made["mode"]) if made else ""
            new = "".join("%s: %s MHz%s\n" % (gpu["bus_id"], gpu["sm_mhz"], lock) for gpu in after)
        return {"before_header": "GPU clocks", "after_header": "GPU clocks", "before": old, "after": new}


def main():
    """Check the arguments, run."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["locked", "unlocked", "reported"], "default": "locked"},
            "mhz": {"type": "int"},
            "mode": {"type": "int", "choices": [0, 1], "default": 1},
            "settle_s": {"type": "int", "default": 5},
            "state_dir": {"type": "path", "default": clocks_record.STATE_DIR},
            "nhc_logs": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
            "timeout_s": {"type": "int", "default": 60},
        },
        required_if=[("state", "locked", ["mhz"])],
        supports_check_mode=True,
    )
    mhz = module.params["mhz"]
    if mhz is not None and mhz <= 0:
        module.fail_json(msg="gpu_clocks: mhz is %d, expected a positive clock in MHz such as 1980" % mhz)
    gpu_choice.of_module(module)
    module.exit_json(**Clocks(module).run())


if __name__ == "__main__":
    main()
