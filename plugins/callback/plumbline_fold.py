"""Ansible's own output, but for a fleet without a line for every node that is well at every task."""

from __future__ import annotations

DOCUMENTATION = """
name: plumbline_fold
type: stdout
author: Plumbline
short_description: Ansible's default output, folded for a large fleet
description:
  - The default output, except that in a play on more than twelve hosts a task that went well on one of them prints nothing for it.
    What failed, was unreachable, changed something or has something to say is printed as always.
  - Verbose output (C(-v)) folds nothing.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

from ansible.plugins.callback.default import CallbackModule as Default

SHOWN = 12  # as controller/tally.py has it, which cannot be imported here yet
SAYING = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")


class CallbackModule(Default):
    """The ``plumbline_fold`` callback; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "plumbline_fold"

    def __init__(self):
        super().__init__()
        self._large = False

    def v2_playbook_on_play_start(self, play):
        """Note how many hosts the play has."""
        self._large = len(play.get_variable_manager()._inventory.get_hosts(play.hosts)) > SHOWN
        super().v2_playbook_on_play_start(play)

    def v2_runner_on_ok(self, result):
        """Print it, unless it is one of many that are well."""
        folded = self._large and not self._display.verbosity and not result.result.get("changed") and result.task.action not in SAYING
        if not folded:
            super().v2_runner_on_ok(result)
