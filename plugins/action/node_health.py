"""Compares the node's clock with the controller's, then runs the ``node_health`` module with what it saw.

It has to happen here: only the controller can read its own clock on both sides of the question. The exchange runs
over the connection that is already open, so a round trip takes tens of milliseconds, where a module call takes
seconds and could tell no smaller skew.
"""

from __future__ import annotations

import re
import time

from ansible.plugins.action import ActionBase

EXCHANGES = 4  # the first may open the connection; the shortest round trip is used
# A round trip this short, in seconds, tells a skew to a fortieth of a second, far below any limit: no need to ask again.
SHORT_S = 0.05


class ActionModule(ActionBase):
    """The action behind ``node_health:``."""

    # The clocks are compared first; then the module goes to the background and Ansible polls it, as with any module.
    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return the result of the module."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if "clock_samples" not in arguments:
            arguments["clock_samples"] = self._exchange()
        wrap = bool(self._task.async_val) and not self._connection.has_native_async
        start = time.monotonic()
        result.update(self._execute_module(module_name="node_health", module_args=arguments, task_vars=task_vars, wrap_async=wrap))
        fact = (result.get("ansible_facts") or {}).get("plumbline", {}).get("health")
        # Of a job in the background only its start was waited for.
        if fact and not self._task.async_val:
            for told in (fact, result.get("fact")):
                told["measured"]["answer_s"] = round(time.monotonic() - start, 3)
        return result

    def _exchange(self):
        """Return samples ``{"sent", "node", "received"}`` in seconds; none where ``date`` has no nanoseconds."""
        samples = []
        for _attempt in range(EXCHANGES):
            # Wall clocks are compared, but the round trip is taken from the steady one.
            sent, start = time.time(), time.monotonic()
            answer = self._low_level_execute_command("date -u +%s.%N", sudoable=False)
            received = sent + (time.monotonic() - start)
            said = (answer.get("stdout") or "").strip()
            if answer.get("rc") == 0 and re.fullmatch(r"\d+\.\d{9}", said):
                samples.append({"sent": sent, "node": float(said), "received": received})
                if received - sent <= SHORT_S:
                    break
        return samples
