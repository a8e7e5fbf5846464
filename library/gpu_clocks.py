#!/usr/bin/python
"""Ansible module: lock or unlock the GPU clocks of one node, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_clocks
short_description: Lock, unlock or report GPU clocks, and prove it
description:
  - Locks the graphics clock of every GPU of the node with C(nvidia-smi -lgc MHZ,MHZ --mode N) and believes it only on
    evidence - the driver's echo for each GPU must say exactly what was asked for, and C(clocks.sm) must arrive there.
  - NVML cannot be asked whether clocks are locked. The module calls the node locked, and changes nothing, only where
    its own record of this boot (O(state_dir)) agrees and every idle GPU runs at the target.
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
  description: The GPUs as they were, one dictionary each.
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
from ansible.module_utils.plumbline import clocks, nvidia
from ansible.module_utils.plumbline.fact import Measurement
from ansible.module_utils.plumbline.health_evidence import read_text


class Clocks:
    """One run of the module: reads, decides, acts, judges."""

    def __init__(self, module):
        self.given = module.params
        self.check_mode = module.check_mode
        self.stdout = ""
        self.boot_id = read_text("/proc/sys/kernel/random/boot_id")
        self.tool = nvidia.find_tool(self.given["nvidia_smi"])
        self.measurement = Measurement("clocks", "node", command="nvidia-smi " + " ".join(self.arguments()))
        self.measurement.context = {"state": self.given["state"], "boot_id": self.boot_id, "driver": None}
        if self.given["state"] == "locked":
            self.measurement.context.update(requested_mhz=self.given["mhz"], mode=self.given["mode"])

    def arguments(self):
        """Return the arguments that make the wanted state."""
        if self.given["state"] == "locked":
            return ["-lgc", "%d,%d" % (self.given["mhz"], self.given["mhz"]), "--mode", str(self.given["mode"])]
        if self.given["state"] == "unlocked":
            return ["-rgc"]
        return ["--query-gpu=" + ",".join(clocks.QUERY), "--format=csv"]

    def run(self):
        """Return the module's result."""
        found = nvidia.presence(self.given["nvidia_smi"])
        if not nvidia.is_present(found):
            self.measurement.add("gpu", "skipped", "no GPU", None)
            return dict(self.measurement.result(), changed=False)
        try:
            before = clocks.read_gpus(self.tool, self.given["timeout_s"])
        except nvidia.NvidiaError as error:
            self.measurement.add(
                "clocks.read",
                "failed" if found["pci"] else "incomplete",
                str(error),
                "the driver answers",
                "see the gpu checks of node_health",
            )
            return dict(self.measurement.result(), changed=False)
        if not before:
            self.measurement.add(
                "clocks.read",
                "failed" if found["pci"] else "incomplete",
                "nvidia-smi shows no GPU",
                "at least one",
                "see the gpu checks of node_health",
            )
            return dict(self.measurement.result(), changed=False)
        self.measurement.context["driver"] = before[0]["driver"]
        record = clocks.read_record(self.given["state_dir"])
        changed, after = getattr(self, self.given["state"])(before, record)
        if not self.measurement.measured:
            self.measurement.measured.update(clocks.measured(before, after))
        return dict(
            self.measurement.result(), changed=changed, before=before, after=after, diff=self.diff(before, changed)
        )

    def reported(self, before, record):
        """Read only; say whether a lock of ours is recorded."""
        text = ", ".join("%s at %s MHz" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in before)
        ours = record is not None and record.get("boot_id") == self.boot_id
        text += "; our lock at %s MHz is recorded" % record.get("mhz") if ours else "; no lock of ours in this boot"
        blind = any(gpu["sm_mhz"] is None for gpu in before)
        self.measurement.add("clocks.sm", "incomplete" if blind else "healthy", text, "an SM clock from every GPU")
        return False, before

    def locked(self, before, record):
        """Lock, unless our lock provably holds."""
        mhz, mode = self.given["mhz"], self.given["mode"]
        if clocks.is_locked(record, before, mhz, mode, self.boot_id):
            self.measurement.add(
                "clocks.lock", "healthy", "locked earlier in this boot, mode %d" % mode, "%d MHz" % mhz
            )
            self.measurement.reasons.append(clocks.judge_clocks(before, mhz))
            return False, before
        if self.check_mode:
            self.would("lock %d GPUs at %d MHz, mode %d" % (len(before), mhz, mode))
            return True, before
        # The record must not outlive a lock that is being replaced and may fail half-way.
        clocks.drop_record(self.given["state_dir"])
        if not self.act(lambda code, out, err: clocks.judge_lock(code, out, err, before, mhz)):
            return True, before
        self.measurement.measured.update(clocks.measured(before, [], clocks.parse_echo(self.stdout)))
        after = self.settled(mhz)
        if after is None:
            return True, before
        self.measurement.reasons.append(clocks.judge_clocks(after, mhz))
        self.measurement.measured.update(clocks.measured(before, after, clocks.parse_echo(self.stdout)))
        if all(item["status"] == "healthy" for item in self.measurement.reasons):
            clocks.write_record(self.given["state_dir"], clocks.make_record(after, mhz, mode, self.boot_id))
        return True, after

    def unlocked(self, before, record):
        """Unlock, unless no lock provably holds."""
        if clocks.is_unlocked(record, before, self.boot_id):
            self.measurement.add(
                "clocks.unlock", "healthy", "no lock of ours, and idle GPUs run at low clocks", "unlocked"
            )
            return False, before
        if self.check_mode:
            self.would("reset the clocks of %d GPUs" % len(before))
            return True, before
        if not self.act(lambda code, out, err: [clocks.judge_unlock(code, out, err)]):
            return False, before
        clocks.drop_record(self.given["state_dir"])
        try:
            return True, clocks.read_gpus(self.tool, self.given["timeout_s"])
        except nvidia.NvidiaError as error:
            self.measurement.add("clocks.read", "incomplete", str(error), "the driver answers after the reset")
            return True, before

    def act(self, judge):
        """Call ``nvidia-smi``, append what ``judge`` says; return whether the tool ended well."""
        try:
            code, self.stdout, stderr = nvidia.run(self.tool, self.arguments(), self.given["timeout_s"])
        except nvidia.NvidiaError as error:
            check = {"locked": "clocks.lock", "unlocked": "clocks.unlock"}[self.given["state"]]
            self.measurement.add(check, "failed", str(error), "the driver answers", "see the gpu checks of node_health")
            return False
        self.measurement.reasons += judge(code, self.stdout, stderr)
        return code == 0

    def settled(self, mhz):
        """Return the GPUs once every SM clock is at the target, or as they are after ``settle_s`` seconds."""
        deadline = time.monotonic() + self.given["settle_s"]
        while True:
            try:
                gpus = clocks.read_gpus(self.tool, self.given["timeout_s"])
            except nvidia.NvidiaError as error:
                self.measurement.add("clocks.sm", "incomplete", str(error), "the driver answers after the lock")
                return None
            if all(clocks.at_target(gpu, mhz) for gpu in gpus) or time.monotonic() >= deadline:
                return gpus
            time.sleep(0.25)

    def would(self, what):
        """Say in check mode what would be done."""
        self.measurement.add("check_mode", "skipped", "would %s" % what, None)

    def diff(self, before, changed):
        """Return the difference as --diff shows it."""
        given = self.given
        wanted = (
            "locked at %s MHz, mode %s" % (given["mhz"], given["mode"])
            if given["state"] == "locked"
            else given["state"]
        )
        old = "".join("%s: %s MHz\n" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in before)
        new = "".join("%s: %s\n" % (gpu["bus_id"], wanted) for gpu in before) if changed else old
        return {"before_header": "GPU clocks", "after_header": "GPU clocks", "before": old, "after": new}


def main():
    """Check the arguments, run."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["locked", "unlocked", "reported"], "default": "locked"},
            "mhz": {"type": "int"},
            "mode": {"type": "int", "choices": [0, 1], "default": 1},
            "settle_s": {"type": "int", "default": 5},
            "state_dir": {"type": "path", "default": "/run/plumbline"},
            "nvidia_smi": {"type": "path"},
            "timeout_s": {"type": "int", "default": 60},
        },
        required_if=[("state", "locked", ["mhz"])],
        supports_check_mode=True,
    )
    mhz = module.params["mhz"]
    if mhz is not None and mhz <= 0:
        module.fail_json(msg="gpu_clocks: mhz is %d, expected a positive clock in MHz such as 1980" % mhz)
    module.exit_json(**Clocks(module).run())


if __name__ == "__main__":
    main()
