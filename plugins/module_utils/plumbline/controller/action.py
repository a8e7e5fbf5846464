"""What action plugins share that work on the controller alone: checked arguments, no connection, errors as sentences."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ..core.scrub import scrub_options, scrub_text
from .kept import NothingKeeps
from .report.data import NotARunFolder, SchemasMissing


class ControllerAction(ActionBase):
    """An action plugin that never leaves the controller; a subclass has ``ARGUMENTS`` and ``answer``."""

    _requires_connection = False
    _supports_check_mode = True
    # The argument specification, as a module's.
    ARGUMENTS = {}

    def run(self, tmp=None, task_vars=None):
        """Return what ``answer`` returns; what it raises as ValueError or about the run folder fails the task with its words."""
        result = super().run(tmp, task_vars)
        try:
            _checked, arguments = self.validate_argument_spec(argument_spec=self.ARGUMENTS)
        except AnsibleError as error:
            # It quotes the argument, which may be an environment with a token in it.
            raise AnsibleActionFail(scrub_text(str(error))) from None
        try:
            result.update(self.answer(arguments, task_vars or {}))
        except (ValueError, NothingKeeps, NotARunFolder, SchemasMissing) as error:
            raise AnsibleActionFail(scrub_text("%s: %s" % (self._task.action, error))) from None
        # What is wrong is quoted, and it may be an environment or an argument with a token in it.
        return scrub_options(result)[0] if result.get("failed") else result

    def answer(self, arguments, task_vars):
        """Return the result's keys; ``arguments`` are checked and converted."""
        raise NotImplementedError
