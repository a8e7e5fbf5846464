#!/usr/bin/python
"""Ansible module: download a model from a Hugging Face hub to this node, resumed, and checked against the hub's own checksums."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_hub
short_description: Download a model from a Hugging Face hub and verify it
description:
  - Resolves O(revision) to a commit, lists its files with their checksums, and has C(hf download) of huggingface_hub bring those that are
    not there. What an earlier, interrupted download left is finished by HTTP range.
  - Checks every file against the hub's checksum (SHA-256, or git's SHA-1 for small files) and then writes C(manifest.json).
  - Never writes over files that came from elsewhere.
options:
  path:
    description: The model directory on this node.
    type: path
    required: true
  repository:
    description: The model's repository, C(owner/name).
    type: str
    required: true
  revision:
    description: A commit, a tag or a branch. With a commit that is there already, the hub is not asked.
    type: str
    default: main
  endpoint:
    description: The hub's address.
    type: str
    default: https://huggingface.co
  token:
    description: A token of the hub. C(hf) gets it by its environment.
    type: str
    default: ""
  program:
    description: The hub's client.
    type: path
    default: hf
  include:
    description: Only files that match one of these patterns; all without any.
    type: list
    elements: str
    default: []
  exclude:
    description: No files that match one of these patterns.
    type: list
    elements: str
    default: []
  on_corruption:
    description: With V(repair), files that were damaged after a completed download are downloaded again.
    type: str
    default: fail
    choices: [fail, repair]
  threads:
    description: Files hashed at once; 0 takes one per CPU, at most 8.
    type: int
    default: 0
  timeout_s:
    description: Seconds for the download.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    description: Asks the hub, and says what would be downloaded.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Download the model
  model_hub:
    path: /var/lib/plumbline/models/qwen2.5-72b
    repository: Qwen/Qwen2.5-72B
    revision: main
"""

RETURN = r"""
fact:
  description:
    - The fact, named after the directory with C(.download); also in C(ansible_facts.plumbline.model).
    - "measured: files, size_bytes, transferred_bytes, resumed_bytes, transfer_s, verify_s, corrupt_files."
  type: dict
  returned: always
complete:
  description: Whether the whole model is there, so that its manifest can be verified.
  type: bool
  returned: always
commit:
  description: The commit; empty when the hub did not say.
  type: str
  returned: always
"""

import os

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.model import download as downloads
from ansible.module_utils.plumbline.model import hub_download


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "repository": {"type": "str", "required": True},
            "revision": {"type": "str", "default": "main"},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "default": "", "no_log": True},
            "program": {"type": "path", "default": "hf"},
            "include": {"type": "list", "elements": "str", "default": []},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "on_corruption": {"type": "str", "default": "fail", "choices": ["fail", "repair"]},
            "threads": {"type": "int", "default": 0},
            "timeout_s": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    args = module.params
    measurement = Measurement("model", os.path.basename(args["path"].rstrip("/")) + ".download")
    measurement.context = {"source": "%s/%s" % (args["endpoint"].rstrip("/"), args["repository"]), "path": args["path"]}
    download = hub_download.HubDownload(args, measurement, module.check_mode)
    downloads.carry_out(download)
    module.exit_json(changed=download.changed, complete=download.complete, commit=download.commit, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
