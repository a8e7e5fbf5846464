"""Action plugin: torch's collectives against those of nccl-tests on the same nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_parity
short_description: compare each collective by torch with that by nccl-tests, and add what came out to its fact
description:
  - Runs on the controller, once, on the facts that this run has kept. A collective that only one of the two tools measured is left alone.
  - The fact comes back whole, under its old name, so that it takes the place of the first one in the run folder.
options:
  tolerance:
    description: By how much the bus bandwidths may differ, as a share.
    type: float
    default: 0.1
  min_bytes:
    description: Smallest message that is compared.
    type: int
    default: 67108864
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Compare torch with nccl-tests
  collective_parity:
    tolerance: 0.1
  run_once: true
"""

RETURN = r"""
plumbline_facts:
  description: Lists of the facts that were compared, by node. The callback keeps them.
  returned: always
  type: dict
"""

from ansible.module_utils.plumbline.controller import fabric_state, kept
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``collective_parity:``."""

    ARGUMENTS = {"tolerance": {"type": "float", "default": 0.1}, "min_bytes": {"type": "int", "default": 67108864}}

    def answer(self, arguments, task_vars):
        """Return the compared facts."""
        if not 0 < arguments["tolerance"] < 1:
            raise ValueError("tolerance is %s, expected a share between 0 and 1" % arguments["tolerance"])
        return kept.for_hosts(fabric_state.with_parity(kept.entries("collective"), arguments["tolerance"], arguments["min_bytes"]))
