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

import json
import shlex
import time

from ansible.module_utils.plumbline.core.fact import reason
from ansible.module_utils.plumbline.model.chunk_server import PROGRESS, WORK
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LOOK_S = 0.5, 2.0  # between looks at the note, which is one file: at first, and when it takes longer
ASK_S = 10.0  # after so long the job itself is asked, though its note is there: it may have been killed
SILENT_S = 3.0  # a note that has not changed for so long has it asked as well
SAY_S = 10.0
DEAD_S = 60.0  # a living module writes its note every second, at worst when it has waited for a node that is down


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
        job, path, timeout_s = given["job"], given["path"], given["timeout_s"]
        started = asked = said = fresh = time.monotonic()
        before, look_s = None, LOOK_S[0]
        while True:
            text = self.note(path)
            note, now = words(text), time.monotonic()
            if text != before or text is None:
                before, fresh = text, now
            if not note or now - asked >= (ASK_S if now - fresh < SILENT_S else SILENT_S):
                asked = now
                status = self.status(job, task_vars)
                if status.get("finished") or status.get("failed"):
                    result.update(status)
                    return self.told(result, given["fact"], path, "the copy ended without a result: it was killed")
            if note and now - said >= SAY_S:
                said = now
                Display().display("    %-12s %s" % ((task_vars or {}).get("inventory_hostname", ""), note))
            if now - fresh >= DEAD_S:
                result.update(failed=True, msg="the copy says nothing for %d s: it was killed; the next run goes on from there" % DEAD_S)
                return self.told(result, given["fact"], path, "the copy says nothing for %d s: it was killed" % DEAD_S)
            if now - started >= timeout_s:
                result.update(failed=True, msg="the copy still runs on the node after %d s: see its processes there" % timeout_s)
                return self.told(result, given["fact"], path, result["msg"])
            time.sleep(look_s)
            look_s = min(LOOK_S[1], look_s * 1.5)

    def told(self, result, fact, path, why):
        """Return the result; where the module did not come to its fact, with one of how far the copy was."""
        if "fact" not in result:
            amended = interrupted(fact, self.note(path), why)
            if amended:
                result.update(fact=amended, ansible_facts={"plumbline": {"model": amended}})
        return result

    def note(self, path):
        """Return the module's note, None while there is none."""
        done = self._low_level_execute_command("cat %s" % shlex.quote("/".join((path, WORK, PROGRESS))), sudoable=True)
        try:
            return json.loads(done.get("stdout") or "null") if done.get("rc") == 0 else None
        except ValueError:
            return None

    def status(self, job, task_vars):
        """Return what the job says."""
        folder = self.get_shell_option("async_dir", default="~/.ansible_async")
        arguments = {"jid": job, "mode": "status", "_async_dir": folder}
        return self._execute_module(module_name="ansible.legacy.async_status", module_args=arguments, task_vars=task_vars)
