"""Action plugin: waits for the ``model_sync`` that a task started on the node, and says how far it is.

It has to happen here: while a module runs, only the controller can show anything.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_sync_wait
short_description: wait for a copy of the model and say how far it is
description:
  - Waits for the M(model_sync) that a task started in the background, and returns what it returns.
  - Every ten seconds it says how much has come, how fast, from whom, and how long it will take, as the module notes it on the node.
  - A copy that says nothing, as while it hashes, is waited for as long as its process is there. A connection that breaks meanwhile is
    made again, for two and a half minutes.
options:
  job: {description: "The job's number, C(ansible_job_id).", type: str, required: true}
  path: {description: "The model's folder on the node, in which the module notes its progress.", type: str, required: true}
  timeout_s: {description: Seconds after which the wait ends as failed., type: int, required: true}
  fact: {description: "The comparison's fact, to which is added how far a copy came that was killed.", type: dict, default: {}}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Wait until the model is there
  model_sync_wait:
    job: "{{ started.ansible_job_id }}"
    path: /var/lib/plumbline/models/tiny-qwen2
    timeout_s: 3600
"""

RETURN = r"""
fact:
  description: The fact of M(model_sync).
  type: dict
  returned: when it ended
"""

import contextlib
import json
import shlex
import time

from ansible.errors import AnsibleError
from ansible.module_utils.plumbline.controller import watched
from ansible.module_utils.plumbline.core.fact import reason
from ansible.module_utils.plumbline.model.chunk_server import PROGRESS, WORK
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LOOK_S = 0.5, 2.0  # between looks at the note, which is one file: at first, and when it takes longer
ASK_S = 10.0  # after so long the job itself is asked, though its note is there: it may have been killed
SILENT_S = 3.0  # a note that has not changed for so long has it asked as well
SAY_S = 10.0
DEAD_S = 60.0  # after so long without a new note its process is looked for: it may only be hashing
LOST_S = watched.SILENT_S  # without any answer of the node


def interrupted(fact, said, why):
    """Return the comparison's ``fact`` with what the last note of a copy that ended without a word says; None without a fact."""
    if not fact.get("measured"):
        return None
    said = said if isinstance(said, dict) else {}
    moved, kept = int(said.get("moved_bytes") or 0), int(said.get("kept_bytes") or 0)
    seen = "%s; %d bytes had come, %d of them are kept" % (why, moved, kept)
    remedy = "see what killed it (dmesg, if memory was short), and run it again: it goes on from there"
    return dict(
        fact, status="incomplete", measured=dict(fact["measured"], transferred_bytes=moved),
        reasons=[reason("model.copy", "incomplete", seen, "every file copied", remedy)],
    )  # fmt: skip


def words(said):
    """Return a note ``{"kept_bytes", "missing_bytes", "rate_bytes_s", "from"}`` as a sentence; "" for one that is none."""
    try:
        kept, missing, rate = int(said["kept_bytes"]), int(said["missing_bytes"]), float(said["rate_bytes_s"])
        source = str(said["from"])
    except (KeyError, TypeError, ValueError):
        return ""
    done = 100 * kept // (kept + missing) if kept + missing else 100
    left = "%d s left" % round(missing / rate) if rate > 0 else "nothing comes"
    return "%d %% of %.1f GB, %.1f MB/s from %s, %s" % (done, (kept + missing) / 1e9, rate / 1e6, source, left)


class Notes:
    """The notes of this copy. What lies there at the first look may be an earlier one's: there is none until it changes."""

    def __init__(self, now):
        self.looked, self.old = False, None
        self.last = None  # the last of this copy's
        self.fresh = now  # when it came

    def take(self, note, now):
        """Take what a look found, None where there is no note."""
        if not self.looked:
            self.looked, self.old = True, note
        if note is not None and note != self.old and note != self.last:
            self.last, self.fresh, self.old = note, now, None


class ActionModule(ActionBase):
    """The action behind ``model_sync_wait:``."""

    ARGUMENTS = {
        "job": {"type": "str", "required": True},
        "path": {"type": "str", "required": True},
        "timeout_s": {"type": "int", "required": True},
        "fact": {"type": "dict", "default": {}},
    }

    def run(self, tmp=None, task_vars=None):
        """Return what the module returns."""
        result = super().run(tmp, task_vars)
        _validated, given = self.validate_argument_spec(argument_spec=self.ARGUMENTS)
        self.job, self.path, self.task_vars = given["job"], given["path"], task_vars or {}
        result.update(self.wait(given["timeout_s"]))
        return self.told(result, given["fact"])

    def wait(self, timeout_s):
        """Return what the job returned, or how else the wait ended. Raises AnsibleError where the node answers no more."""
        started = heard = time.monotonic()
        self.asked = self.said = self.lives = started
        self.notes, self.trouble, look_s = Notes(started), "", LOOK_S[0]
        while True:
            try:
                ended, heard = self.look(), time.monotonic()
                if ended:
                    return ended
            except AnsibleError:
                if time.monotonic() - heard >= LOST_S:
                    raise
                with contextlib.suppress(AnsibleError):
                    getattr(self._connection, "reset", lambda: None)()
            if time.monotonic() - started >= timeout_s:
                return {"failed": True, "msg": "the copy still runs on the node after %d s: see its processes there" % timeout_s}
            time.sleep(look_s)
            look_s = min(LOOK_S[1], look_s * 1.5)

    def look(self):
        """Look once and say how far it is; return the result where it has ended, else None."""
        note, now = self.note(), time.monotonic()
        self.notes.take(note, now)
        silent_s = now - self.notes.fresh
        if note is None or now - self.asked >= (ASK_S if silent_s < SILENT_S else SILENT_S):
            self.asked = now
            ended = self.ended()
            if ended:
                return ended
        if self.notes.last and now - self.said >= SAY_S:
            self.said = now
            Display().display("    %-12s %s" % (self.task_vars.get("inventory_hostname", ""), words(self.notes.last)))
        if now - max(self.notes.fresh, self.lives) < DEAD_S:
            return None
        if self.runs():
            self.lives = now
            return None
        # It may have ended between the two looks.
        return self.ended() or self.dead(silent_s)

    def ended(self):
        """Return the job's result, None while it has none. An answer that is none says nothing about the job."""
        answer = self.status()
        if not answer.get("finished") and not (answer.get("failed") and answer.get("_ansible_parsed")):
            self.trouble = "; asked for it, the node said: %s" % answer.get("msg") if answer.get("failed") else ""
            return None
        self.clean_up()
        return answer

    def dead(self, silent_s):
        """Return the result of a job whose process is gone."""
        self.clean_up()
        why = "the copy says nothing for %d s and its process is gone: it was killed; the next run goes on from there%s"
        return {"failed": True, "msg": why % (silent_s, self.trouble)}

    def clean_up(self):
        """Remove the job's file; it holds nothing that is needed any more."""
        with contextlib.suppress(AnsibleError):
            self.status(mode="cleanup")

    def told(self, result, fact):
        """Return the result; where the module did not come to its fact, with one of how far the copy was."""
        if "fact" not in result:
            with contextlib.suppress(AnsibleError):
                self.notes.take(self.note(), time.monotonic())
            why = "the copy ended without a result: it was killed" if result.get("finished") else result["msg"]
            amended = interrupted(fact, self.notes.last, why)
            if amended:
                result.update(fact=amended, ansible_facts={"plumbline": {"model": amended}})
        return result

    def note(self):
        """Return the module's note, None while there is none that can be read."""
        path = "/".join((self.path, WORK, PROGRESS))
        done = self._low_level_execute_command("cat %s" % shlex.quote(path), sudoable=True)
        try:
            found = json.loads(done.get("stdout") or "null") if done.get("rc") == 0 else None
        except ValueError:
            return None
        return found if words(found) else None

    def runs(self):
        """Tell whether the job's process is there."""
        return watched.runs(self, self.job)

    def status(self, mode="status"):
        """Return what the job says."""
        folder = self.get_shell_option("async_dir", default="~/.ansible_async")
        arguments = {"jid": self.job, "mode": mode, "_async_dir": folder}
        return self._execute_module(module_name=watched.STATUS, module_args=arguments, task_vars=self.task_vars)
