"""Ansible action: a fact, once more, with what the nodes knew of the failure that it tells."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.module_utils.plumbline.controller import postmortem
from ansible.plugins.action import ActionBase

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

ARGUMENT_SPEC = {
    "fact": {"type": "dict", "required": True},
    "check": {"type": "str", "required": True},
    "results": {"type": "list", "elements": "dict", "required": True},
    "remedy": {"type": "str"},
}


class ActionModule(ActionBase):
    """The action behind ``fact_amend:``."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Return the fact as a module would, so that the callback keeps it."""
        result = super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        try:
            kind = postmortem.kind_of(given["fact"])
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        said = postmortem.sentences(given["results"])
        if not said:
            return dict(result, skipped=True, changed=False, skip_reason="no node has something to say")
        fact = postmortem.amended(given["fact"], given["check"], said, given["remedy"])
        return dict(result, changed=False, ansible_facts={"plumbline": {kind: fact}}, fact=fact)
