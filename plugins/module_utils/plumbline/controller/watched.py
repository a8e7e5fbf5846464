"""An action plugin around a module that works for long: it asks how far the module is, and shows the module's own line of progress.

Ansible's own polling says only that a job is not finished. So a task with ``async`` and ``poll: 0`` is polled here instead.
"""

from __future__ import annotations

import shlex
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from . import unreachable

POLL_S = 5  # at most: what is done at once is seen at once
FIRST_S = 0.3
# A node that says nothing for so long is lost. A restart of its sshd, a short break of the network and a slow answer are over before.
SILENT_S = 150
STATUS = "ansible.legacy.async_status"
# So often the job's process is looked for: its file says "not finished" for ever once it was killed, or the node has restarted.
PROCESS_S = 60
# Prints who runs the job, by its wrapper's argument, and then that it could look; grep's own argument does not match itself.
_RUNS = "grep -qzx grep /proc/self/cmdline && { grep -slzx %s /proc/[0-9]*/cmdline; echo looked; }"


def runs(action, job):
    """Tell whether the process of an action's ``job`` is there; a node where that cannot be seen is believed to have it."""
    name = job.split(".")[0]
    said = action._low_level_execute_command(_RUNS % shlex.quote("[%s]%s" % (name[:1], name[1:])), sudoable=True)
    return (said.get("stdout") or "").split() != ["looked"]


class WatchedAction(ActionBase):
    """A subclass says with ``progress_path`` where its module writes a line of progress on the node."""

    _supports_async = True
    _supports_check_mode = True
    _line = ""  # the last one that was shown

    def progress_path(self, arguments):
        """Return the path of the file on the node."""
        raise NotImplementedError

    def run(self, tmp=None, task_vars=None):
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        wrap = bool(self._task.async_val) and not self._connection.has_native_async
        result.update(self._execute_module(module_args=dict(self._task.args), task_vars=task_vars, wrap_async=wrap))
        if not wrap or self._task.poll or result.get("failed") or "ansible_job_id" not in result:
            return result
        return self._watch(result["ansible_job_id"], task_vars)

    def _watch(self, job, task_vars):
        """Poll until the job is finished, as long as the task's ``async`` allows. A connection that breaks meanwhile is made again.

        A job whose process is gone has failed: it was killed, or its node has restarted. Raises AnsibleConnectionFailure where the node
        has not answered for :data:`SILENT_S` seconds: all others wait for this one.
        """
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        began = heard = looked = time.monotonic()
        given_up, answer, lost = began + self._task.async_val, {}, None
        while time.monotonic() < given_up:
            try:
                answer = self._status(job, folder, task_vars)
                lost = None if answer.get("_ansible_parsed") else AnsibleError(_last_words(answer))
                if lost is None:
                    heard = time.monotonic()
                    if answer.get("finished") or answer.get("failed"):
                        return self._done(answer, job, folder, task_vars)
                    self._show(task_vars)
                    if time.monotonic() - looked >= PROCESS_S:
                        looked = time.monotonic()
                        gone = None if runs(self, job) else self._gone(job, folder, task_vars)
                        if gone:
                            return self._done(gone, job, folder, task_vars)
            except AnsibleError as error:
                lost = error
                if hasattr(self._connection, "reset"):
                    self._connection.reset()
            if lost is not None and time.monotonic() - heard >= SILENT_S:
                break
            time.sleep(min(POLL_S, max(FIRST_S, (time.monotonic() - began) / 2)))
        if lost is not None:
            raise self._silence(lost, time.monotonic() - heard, heard - began)
        return dict(failed=True, msg="not done within %d s" % self._task.async_val, async_result=answer)

    def _gone(self, job, folder, task_vars):
        """Return the result of a job whose process is gone, which is the one that it left where it ended between the two looks.

        None where the node's answer is none: it is asked again.
        """
        answer = self._status(job, folder, task_vars)
        if not answer.get("_ansible_parsed"):
            return None
        if answer.get("finished") or answer.get("failed"):
            return answer
        why = "its process on the node is gone: it was killed, or the node has restarted (see dmesg and `uptime` there)"
        return dict(answer, failed=True, msg="; ".join([why, "its last word was: %s" % self._line] if self._line else [why]))

    def _done(self, answer, job, folder, task_vars):
        """Return the module's result, and remove the job's file; a connection that breaks now takes nothing of it away."""
        try:
            self._status(job, folder, task_vars, mode="cleanup")
        except AnsibleError:
            pass
        return self._without_job(answer)

    def _silence(self, lost, silent_s, at_s):
        """Return the error of a node that fell silent: for how long, how far its job was, and the connection's own words."""
        kind = AnsibleConnectionFailure if isinstance(lost, AnsibleConnectionFailure) else AnsibleError
        return kind("%s\n%s" % (unreachable.silence(silent_s, at_s, self._line), lost))

    def _status(self, job, folder, task_vars, mode="status"):
        arguments = {"jid": job, "mode": mode, "_async_dir": folder}
        return self._execute_module(module_name=STATUS, module_args=arguments, task_vars=task_vars, wrap_async=False)

    def _show(self, task_vars):
        """Show the line; a module that has not written one yet, or no longer, says nothing."""
        path = self.progress_path(self._task.args)
        read = self._low_level_execute_command("cat %s 2>/dev/null || true" % shlex.quote(path))
        line = (read.get("stdout_lines") or [""])[-1].strip()
        if line:
            self._line = line
            # Data that others parse may go to stdout.
            self._display.display("    %-12s %s" % (task_vars.get("inventory_hostname"), line), stderr=True)

    @staticmethod
    def _without_job(answer):
        for key in ("ansible_job_id", "started", "finished", "results_file"):
            answer.pop(key, None)
        return answer


def _last_words(answer):
    """Return what a node said that answered, but not as a module does: its Python is gone, or its disk."""
    text = " ".join(str(answer.get(key) or "").strip() for key in ("module_stderr", "module_stdout", "msg")).strip()
    return "the node answers, and not as a module: %s" % (text[-300:] or "no words")
