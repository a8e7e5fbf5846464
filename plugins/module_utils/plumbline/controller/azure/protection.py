"""An instance of a scale set that is protected for the time of a run, and given back what it had before.

``protectionPolicy`` of an instance: learn.microsoft.com, virtual-machine-scale-sets-instance-protection (May 2026). It keeps Autoscale
from taking the instance, and with ``protectFromScaleSetActions`` keeps upgrades, reimages and deallocations of the whole set from it.
Flexible sets have it from API version 2023-09-01 on. Only the policy is sent, as that page has it: with the whole description of the
instance Azure takes it for one that differs from the set's model (azure-cli issue 30708).

What an instance had before is kept in a file of the controller, before anything is changed: the node itself may be dead at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

from ...core.files import write_atomically
from . import arm as azure_arm

API = "2024-07-01"
KEYS = ("protectFromScaleIn", "protectFromScaleSetActions")
# Azure refuses the second without the first.
LEVELS = {
    "none": dict.fromkeys(KEYS, False),
    "scale_in": {KEYS[0]: True, KEYS[1]: False},
    "scale_set_actions": dict.fromkeys(KEYS, True),
}
LIMIT_S, EVERY_S = 300, 5


class Memory:
    """What instances had before a run protected them: a file for each below ``folder``."""

    def __init__(self, folder):
        self.folder = os.path.expanduser(folder)

    def _path(self, instance):
        return os.path.join(self.folder, hashlib.sha256(instance.lower().encode()).hexdigest()[:32] + ".json")

    def get(self, instance):
        """Return the record ``{"instance", "node", "run", "before", "set"}`` of an instance, or None."""
        return _record(self._path(instance))

    def all(self):
        """Return all records, by the nodes' names."""
        names = sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []
        found = [_record(os.path.join(self.folder, name)) for name in names if name.endswith(".json")]
        return sorted((item for item in found if item), key=lambda item: str(item["node"]))

    def put(self, record):
        """Keep a record; raises OSError."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        write_atomically(self._path(record["instance"]), json.dumps(record, sort_keys=True), 0o600, durable=True)

    def drop(self, instance):
        """Forget an instance."""
        try:
            os.unlink(self._path(instance))
        except FileNotFoundError:
            pass


def _record(path):
    try:
        with open(path, encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and {"instance", "node", "run", "before", "set"} <= set(record)
    return record if whole else None


def instance_path(host_id, scale_set_id):
    """Return the instance's path below its set: of a Uniform set it is the host's own id, of a Flexible one its name below the set's."""
    if "/virtualmachinescalesets/" in host_id.lower():
        return host_id
    return "%s/virtualMachines/%s" % (scale_set_id, host_id.rpartition("/")[2])


def policy(answer):
    """Return what an instance's description says, both keys as truth values; a policy that is not there protects from nothing."""
    given = (answer.get("properties") or {}).get("protectionPolicy") or {}
    return {key: bool(given.get(key)) for key in KEYS}


def words(given):
    """Return a policy in words."""
    if given[KEYS[1]]:
        return "protected from actions of the scale set"
    return "protected from scale-in" if given[KEYS[0]] else "not protected"


class Instances:
    """Protects instances and gives them back; each call returns ``(changed, sentence)`` and raises ``arm.Refused``."""

    def __init__(self, arm, memory, run, check_mode=False, clock=time.monotonic, sleep=time.sleep):
        self.arm, self.memory, self.run, self.check_mode = arm, memory, run, check_mode
        self.clock, self.sleep = clock, sleep

    def protect(self, node, instance, level):
        """Protect an instance at ``level``; what it has already stays, and is no concern of the run's end."""
        has = policy(self.arm.ask("GET", instance, API)[1])
        wanted = {key: has[key] or LEVELS[level][key] for key in KEYS}
        record = self.memory.get(instance)
        before = has
        if record:
            # Of a run that did not come to its end, or that is still there: what was before it is what was before.
            before = record["before"]
        elif wanted == has:
            return False, "%s was %s before; it stays so" % (node, words(has))
        if self.check_mode:
            return wanted != has, "%s would be %s" % (node, words(wanted))
        self.memory.put({"instance": instance, "node": node, "run": self.run, "before": before, "set": wanted})
        if wanted != has:
            self._set(instance, wanted)
        return wanted != has, "%s is %s; before it was %s" % (node, words(wanted), words(before))

    def give_back(self, record, whoever=False):
        """Give an instance back what it had before; ``whoever`` protected it: the reset's word, a run asks for its own only."""
        node, instance = record["node"], record["instance"]
        if record["run"] != self.run and not whoever:
            return False, "%s is protected by another run, %s; left as it is" % (node, record["run"])
        try:
            has = policy(self.arm.ask("GET", instance, API)[1])
        except azure_arm.Refused as error:
            if error.status != 404:
                raise
            return self._forget(instance, False, "%s is gone (Azure knows no %s)" % (node, instance))
        if has != record["set"]:
            return self._forget(instance, False, "%s is %s, which somebody else made so meanwhile; left as it is" % (node, words(has)))
        if has == record["before"]:
            return self._forget(instance, False, "%s is %s, as before" % (node, words(has)))
        if self.check_mode:
            return True, "%s would be %s again" % (node, words(record["before"]))
        self._set(instance, record["before"])
        return self._forget(instance, True, "%s is %s again" % (node, words(record["before"])))

    def _forget(self, instance, changed, sentence):
        if not self.check_mode:
            self.memory.drop(instance)
        return changed, sentence

    def _set(self, instance, wanted):
        """Set an instance's policy and see that it has it: Azure takes the order first, and carries it out then."""
        self.arm.ask("PUT", instance, API, {"properties": {"protectionPolicy": wanted}})
        end = self.clock() + LIMIT_S
        while True:
            answer = self.arm.ask("GET", instance, API)[1]
            state = str((answer.get("properties") or {}).get("provisioningState"))
            if policy(answer) == wanted and state == "Succeeded":
                return
            if self.clock() >= end:
                said = "%s is %s, its provisioning %s, %d s after it was to be %s" % (
                    instance, words(policy(answer)), state, LIMIT_S, words(wanted),
                )  # fmt: skip
                raise azure_arm.Refused(said + "; look at the instance's activity log")
            self.sleep(EVERY_S)


def remedy(error):
    """Return what to do about a refusal."""
    return {
        401: "log in again (az login)",
        403: "the login needs Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read and write on the scale set"
        " (role Virtual Machine Contributor), or set azure_protection to none",
        404: "is the inventory old? Run again with --flush-cache",
        409: "something else is being done to the instance; the same command again when it is over",
        429: "it stayed so after all repetitions, try later",
    }.get(error.status, "look at the controller's network and login")
