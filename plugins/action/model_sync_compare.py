"""Action plugin: compares a node's copy of a model with the head's manifest, by one command where the copy is complete.

A module costs a node several times as much to start as a Python that hashes files, and nearly every comparison of a fleet ends well. So
the module of the copy runs only where the short question is not answered with yes, and says what is to be copied or wrong.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_sync_compare
short_description: Compare a node's copy of a model with the head's manifest
description:
  - Hashes each file on the node. Where the manifest beside them is the head's, every SHA-256 is as it says, and there are no other files,
    that is the result.
  - Everywhere else M(model_sync) compares, with its C(copy) off, and says what is to be copied or wrong. No file is copied or mended.
options:
  path: {description: "The model directory, the same on each node.", type: path, required: true}
  manifest: {description: "The head's manifest, from M(model_manifest); empty when it has none.", type: dict, required: true}
  chunk_hashes: {description: "The head's hashes of the chunks, from M(model_manifest).", type: str, default: ""}
  source_status: {description: "The status of the head's own fact.", type: str, default: ""}
  source: {description: The head's name., type: str, required: true}
  on_corruption: {description: "What is said of damaged files, as with M(model_sync).", type: str, default: fail, choices: [fail, repair]}
  threads: {description: "Files hashed at once; 0 takes one per CPU, at most 8.", type: int, default: 0}
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Compare the model with the head's manifest
  model_sync_compare:
    path: /var/lib/plumbline/models/tiny-qwen2
    manifest: "{{ hostvars[head].manifest_result.manifest }}"
    source: "{{ head }}"
"""

RETURN = r"""
fact:
  description: The fact of M(model_sync).
  type: dict
  returned: always
wanted:
  description: Names of the files that are to be copied, and may be.
  type: list
  elements: str
  returned: always
pending:
  description: Whether the fact is no verdict yet, since the copy of what is wanted is still to come.
  type: bool
  returned: where M(model_sync) compared
"""

import json
import os
import shlex

from ansible.module_utils.plumbline.controller import interpreter
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.model import look
from ansible.module_utils.plumbline.model import manifest as manifests
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``model_sync_compare:``."""

    _supports_check_mode = True
    ARGUMENTS = {
        "path": {"type": "path", "required": True},
        "manifest": {"type": "dict", "required": True},
        "chunk_hashes": {"type": "str", "default": ""},
        "source_status": {"type": "str", "default": ""},
        "source": {"type": "str", "required": True},
        "on_corruption": {"type": "str", "default": "fail", "choices": ["fail", "repair"]},
        "threads": {"type": "int", "default": 0},
    }

    def run(self, tmp=None, task_vars=None):
        """Return what the module returns."""
        result = super().run(tmp, task_vars)
        _checked, given = self.validate_argument_spec(argument_spec=self.ARGUMENTS)
        source = given.pop("source")
        measurement = Measurement("model", os.path.basename(given["path"].rstrip("/")))
        said, remembered = self.look(given, task_vars) if given["manifest"] else (None, {})
        if said is None:
            arguments = dict(given, copy=False, chain=[source])
            result.update(self._execute_module(module_name="model_sync", module_args=arguments, task_vars=task_vars))
            return result
        count = len(given["manifest"]["files"])
        measurement.measured = manifests.measured(given["manifest"], said["verify_s"])
        measurement.context = {
            "source": "%s:%s" % (source, given["path"]), "path": given["path"], "manifest_sha256": manifests.digest(given["manifest"]),
        }  # fmt: skip
        measurement.add("model.verified", "healthy", manifests.verified(count), "every SHA-256")
        result.update(changed=False, wanted=[], **measurement.result())
        result["ansible_facts"].update(remembered)
        return result

    def look(self, given, task_vars):
        """Return ``(the node's answer, facts to remember its Python by)``; None for an answer that is not yes."""
        python, remembered = interpreter.of(self, task_vars)
        asked = {"path": given["path"], "digest": manifests.digest(given["manifest"]), "threads": given["threads"],
                 "mark": marks.measuring()}  # fmt: skip
        command = "%s -c %s %s" % (python, shlex.quote(program()), shlex.quote(json.dumps(asked)))
        done = self._low_level_execute_command(command, sudoable=True, executable="/bin/sh")
        try:
            said = json.loads((done.get("stdout") or "").strip().rpartition("\n")[2])
            whole = done.get("rc") == 0 and said["whole"] is True and isinstance(said["verify_s"], (int, float))
        except (ValueError, LookupError, TypeError):
            whole = False
        return (said if whole else None), remembered


def program():
    """Return the text of the program."""
    with open(look.__file__, encoding="utf-8") as stream:
        return stream.read()
