#!/usr/bin/python
"""Ansible module: a fact, once more, with what was learnt after it was returned."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fact_amend
short_description: add reasons to a fact that was returned before
description:
  - What other nodes know of a failure is only asked after it. The fact comes back whole, under its old name, so that it takes the place
    of the first one in the run folder. Its status does not change, added reasons explain it.
options:
  fact: {description: The fact., type: dict, required: true}
  check: {description: Name of the check that the sentences belong to., type: str, required: true}
  seen:
    description:
      - "Sentences C(who: where: what), one reason each. Those whose last part the fact says already are left out."
    type: list
    elements: str
    required: true
  remedy: {description: What to do., type: str}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Add what the second node knew
  fact_amend:
    fact: "{{ vllm_serve_startup.fact }}"
    check: serve.postmortem
    seen: ["10.98.0.12: the container plumbline-pp2_across ended with 137, killed by signal 9 from outside"]
"""

RETURN = r"""
fact: {description: The fact with the added reasons., type: dict, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.fact import reason


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "fact": {"type": "dict", "required": True},
            "check": {"type": "str", "required": True},
            "seen": {"type": "list", "elements": "str", "required": True},
            "remedy": {"type": "str"},
        },
        supports_check_mode=True,
    )
    args = module.params
    fact = dict(args["fact"])
    kind = str(fact.get("schema", "")).rpartition("/")[0].rpartition(".")[2]
    if not kind or "reasons" not in fact:
        module.fail_json(msg="this is no fact: keys %s, expected at least schema and reasons" % sorted(fact))
    known = " ".join(item["seen"] for item in fact["reasons"])
    fact["reasons"] = fact["reasons"] + [
        reason(args["check"], fact["status"], sentence, None, args["remedy"])
        for sentence in args["seen"]
        if sentence.split(": ", 2)[-1] not in known
    ]
    module.exit_json(changed=False, ansible_facts={"plumbline": {kind: fact}}, fact=fact)


if __name__ == "__main__":
    main()
