#!/usr/bin/python
"""Ansible module: one run at a time serves on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_lock
short_description: hold a node for one run's serving, give it back, or take it from whoever holds it
description:
  - Each start of a layout ends what Plumbline serves on its nodes. The lock keeps a second run from ending a first one.
  - Its action plugin says who asks (O(holder)), and sees whether a holder on the same controller has ended; then the lock is taken over.
    A lock of another controller is taken over when nothing of Plumbline's runs on the node and its run has not come back for 15 minutes.
  - A run that left its server running (C(vllm_serve_keep)) holds nothing any more. The next run replaces the server, and says whose.
  - Two users who are not root have a lock each; they cannot end each other's processes.
options:
  state:
    description: C(taken) is also how a run renews its own. C(broken) is for the reset.
    type: str
    choices: [taken, released, broken]
    default: taken
  layout: {description: What is going to be served., type: str, default: ""}
  holder:
    description: Keys token, run, user, controller, place, pid and started. The action plugin fills it in.
    type: dict
    default: {}
  gone: {description: Token of a holder that has ended. The action plugin fills it in., type: str, default: ""}
  path: {description: "The lock's file; without it C(/run/plumbline-serving.lock), in C(/tmp) for a user who is not root.", type: path}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Hold the node for this run
  serve_lock:
    layout: pp2_across
"""

RETURN = r"""
held: {description: "Whether another run holds it, so that nothing was taken.", type: bool, returned: always}
former: {description: Who held it before., type: dict, returned: when another did}
msg:
  description: Who holds or held it and what to do, or why there can be no lock.
  type: str
  returned: when another did, or there can be none
"""

from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.serving import lock

ADVICE = "Wait for that run, or end it and what it serves with playbooks/reset.yml."


def taken(args, path, check_mode):
    """Take the lock, or look whether it could be; return the result."""
    busy = bool(processes.marked(measurements=True))
    if check_mode:
        former = lock.holder_of(path)
        why = lock.would_replace(former, args["holder"], busy, args["gone"])
        former = None if why == "ours" else former
    else:
        former, why = lock.take(path, dict(args["holder"], layout=args["layout"]), busy, args["gone"])
    if former is None:
        return {"held": False}
    if not why:
        msg = "another run serves here: %s; expected none. %s" % (lock.described(former), ADVICE)
        return {"held": True, "former": former, "msg": msg}
    return {"held": False, "former": former, "msg": "replaces %s: %s" % (lock.described(former), why)}


def broken(path, check_mode):
    """Break the lock, or look whose it is; return the result."""
    former = lock.break_it(path, look_only=check_mode)
    if former is None:
        return {"held": False}
    did = "would break" if check_mode else "broke"
    kept = ", which had ended and left its server running" if former.get("kept") else ""
    return {"held": False, "former": former, "changed": True, "msg": "%s the lock of %s%s" % (did, lock.described(former), kept)}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "released", "broken"], "default": "taken"},
            "layout": {"type": "str", "default": ""},
            "holder": {"type": "dict", "default": {}},
            "gone": {"type": "str", "default": ""},
            "path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    args = module.params
    path = args["path"] or lock.path_of()
    if args["state"] != "broken" and not args["holder"].get("token"):
        module.fail_json(msg="holder has no token, expected who asks for the lock: run it as a task, so that its action plugin tells")
    result = {"held": False}
    try:
        if args["state"] == "taken":
            result = taken(args, path, module.check_mode)
        elif args["state"] == "broken":
            result = broken(path, module.check_mode)
        elif not module.check_mode:
            lock.release(path, args["holder"]["token"], kept=bool(processes.marked()))
    except OSError as error:
        # Serving is what was asked for; without the lock it is as safe as nobody else serving here.
        result["msg"] = "the lock %s: %s. Another run could end what this one serves here." % (path, error)
        module.warn(result["msg"])
    module.exit_json(**dict({"changed": False}, **result))


if __name__ == "__main__":
    main()
