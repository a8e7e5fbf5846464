#!/usr/bin/python
"""Ansible module: what one node knows of a layout that failed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_postmortem
short_description: ask a node of a failed layout for its part of the story
description:
  - Reads the root cause out of the layout's logs on this node, and what the Docker engine knows of the layout's container (ended, by which
    signal, out of memory). Changes nothing, and is asked before the layout is torn down.
options:
  work_dir: {description: Folder with the layout's logs on the node., type: path, required: true}
  container: {description: Name of the layout's container; empty for none., type: str, default: ""}
  node_ip: {description: "This node's address, to say who speaks.", type: str, required: true}
  within_s:
    description:
      - Only logs that were written to in the last so many seconds are read, since the folder has those of earlier runs as well.
        V(0) reads all.
    type: int
    default: 0
  docker: {description: The C(docker) command., type: str, default: docker}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Ask the second node
  serve_postmortem:
    work_dir: /var/lib/plumbline/serve/pp2_across
    container: plumbline-pp2_across
    node_ip: 10.98.0.12
"""

RETURN = r"""
causes:
  description: Sentences, each with the node's address; empty when the node knows nothing.
  type: list
  elements: str
  returned: always
findings:
  description:
    - Of each sentence that a log gave, its C(cause), C(kind), C(remedy) (empty where its kind is not known), C(line) and C(process), and
      C(weight), which says how much it explains; what another process's end brings about has 20 or less.
  type: list
  elements: dict
  returned: always
"""

import glob
import json
import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.files import read_text
from ansible.module_utils.plumbline.core.scrub import scrub_text
from ansible.module_utils.plumbline.serving import cause as failure

LOGS = ("server.log", "worker-*.log", "ray-*.log")


def container_causes(docker, name):
    """Return what the engine knows of a container that does not run; [] when it runs, or when there is none to ask for."""
    if not name:
        return []
    try:
        done = subprocess.run(
            [docker, "inspect", "--format", "{{json .State}}", name], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return ["the Docker engine does not answer: %s" % error]
    if done.returncode:
        return ["the container %s is not there: %s" % (name, scrub_text(done.stderr).strip()[-200:])]
    state = json.loads(done.stdout)
    if state.get("Running"):
        return []
    status = state.get("ExitCode", 0)
    how = "ended with %d" % status
    if state.get("OOMKilled"):
        how += ", out of memory"
    elif 128 < status <= 128 + 64:  # Linux has 64 signals; 255 is no signal's
        how += ", killed by signal %d from outside" % (status - 128)
    return ["the container %s %s at %s" % (name, how, state.get("FinishedAt", "an unknown time"))]


def log_findings(folder, within_s=0):
    """Return what each log of the folder knows, as ``(sentence, Cause)``, the one that explains most first.

    With ``within_s``, only of the logs that were written to in the last so many seconds.
    """
    found, since = [], time.time() - within_s if within_s else 0
    for pattern in LOGS:
        for path in sorted(glob.glob(os.path.join(folder, pattern))):
            best = failure.causes(read_text(path) or "", 1) if os.path.getmtime(path) >= since else []
            found += [("%s: %s" % (os.path.basename(path), cause.text), cause) for cause in best]
    return sorted(found, key=lambda item: -item[1].weight)


def log_causes(folder, within_s=0):
    """Return the sentences of :func:`log_findings`."""
    return [sentence for sentence, _cause in log_findings(folder, within_s)]


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "work_dir": {"type": "path", "required": True},
            "container": {"type": "str", "default": ""},
            "node_ip": {"type": "str", "required": True},
            "within_s": {"type": "int", "default": 0},
            "docker": {"type": "str", "default": "docker"},
        },
        supports_check_mode=True,
    )
    args = module.params
    findings = log_findings(args["work_dir"], args["within_s"])
    sentences = container_causes(args["docker"], args["container"]) + [sentence for sentence, _cause in findings]
    module.exit_json(
        changed=False,
        causes=["%s: %s" % (args["node_ip"], sentence) for sentence in sentences],
        findings=[
            {"cause": "%s: %s" % (args["node_ip"], sentence), "kind": cause.kind, "remedy": cause.remedy, "weight": cause.weight,
             "line": cause.line, "process": cause.process}
            for sentence, cause in findings
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
