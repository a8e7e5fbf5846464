#!/usr/bin/python
"""Ansible module: bring a model from Azure's blob storage to this node with azcopy and the machine's managed identity."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_blob
short_description: Bring a model from Azure blob storage and verify it
description:
  - Lists the container with C(azcopy list), has C(azcopy sync) bring what is missing, compares sizes and Content-MD5, and writes
    C(manifest.json). A file without Content-MD5 is named, as C(skipped).
  - azcopy logs in with the machine's managed identity. A shared access signature is refused, because azcopy takes one only in its
    arguments, where every user of the machine sees it.
options:
  path:
    description: The model directory on this node.
    type: path
    required: true
  url:
    description: C(https://<account>.blob.core.windows.net/<container>[/<folder>]), without a query.
    type: str
    required: true
  client_id:
    description: The client id of the managed identity, for a machine that has several.
    type: str
    default: ""
  program:
    description: azcopy, version 10.
    type: path
    default: azcopy
  on_corruption:
    description: With V(repair), files that were damaged after a completed download are brought again.
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
    description: Lists the container, and says what would be brought.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Bring the model from blob storage
  model_blob:
    path: /var/lib/plumbline/models/qwen2.5-72b
    url: https://models.blob.core.windows.net/qwen/qwen2.5-72b
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
"""

import os

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.model import blob
from ansible.module_utils.plumbline.model import download as downloads


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "url": {"type": "str", "required": True},
            "client_id": {"type": "str", "default": ""},
            "program": {"type": "path", "default": "azcopy"},
            "on_corruption": {"type": "str", "default": "fail", "choices": ["fail", "repair"]},
            "threads": {"type": "int", "default": 0},
            "timeout_s": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    args = dict(module.params, state=module.tmpdir)
    measurement = Measurement("model", os.path.basename(args["path"].rstrip("/")) + ".download")
    measurement.context = {"source": args["url"].partition("?")[0], "path": args["path"]}
    download = blob.BlobDownload(args, measurement, module.check_mode)
    downloads.carry_out(download)
    module.exit_json(changed=download.changed, complete=download.complete, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
