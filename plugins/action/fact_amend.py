"""Action plugin: a fact, once more, with what the nodes knew of the failure that it tells."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fact_amend
short_description: add to a fact what was learnt of its failure after it was returned
description:
  - What other nodes know of a failure is only asked after it. The fact comes back whole, under its old name, so that it takes the place
    of the first one in the run folder. Its status does not change, added reasons explain it.
  - Runs on the controller and touches no node. Skipped when no node has something to say.
options:
  fact: {description: The fact., type: dict, required: true}
  check: {description: Name of the check that the added reasons belong to., type: str, required: true}
  results:
    description:
      - What a loop of M(serve_postmortem) over the nodes registered. Each cause becomes a reason, and so does the message of a node that
        did not answer. Those whose last part the fact says already are left out.
    type: list
    elements: dict
    required: true
  remedy: {description: What to do., type: str}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Add what the second node knew
  fact_amend:
    fact: "{{ vllm_serve_startup.fact }}"
    check: serve.postmortem
    results: "{{ __vllm_serve_said.results }}"
"""

RETURN = r"""
fact: {description: The fact with the added reasons., type: dict, returned: when a node has something to say}
"""


from ansible.module_utils.plumbline.controller import postmortem
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``fact_amend:``."""

    ARGUMENTS = {
        "fact": {"type": "dict", "required": True},
        "check": {"type": "str", "required": True},
        "results": {"type": "list", "elements": "dict", "required": True},
        "remedy": {"type": "str"},
    }

    def answer(self, arguments, task_vars):
        """Return the fact as a module would, so that the callback keeps it."""
        kind = postmortem.kind_of_failed(arguments["fact"])
        said = postmortem.sentences(arguments["results"])
        if not said:
            return {"skipped": True, "changed": False, "skip_reason": "no node has something to say"}
        found = postmortem.findings(arguments["results"])
        fact = postmortem.amended(arguments["fact"], arguments["check"], said, arguments["remedy"], found)
        return {"changed": False, "ansible_facts": {"plumbline": {kind: fact}}, "fact": fact}
