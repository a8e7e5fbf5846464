#!/usr/bin/python
"""Ansible module: nothing of a serving run is left on the node, and its GPUs are free."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_processes
short_description: end every vLLM and Ray process and container of a serving run on this node, and see the GPUs free
description:
  - Finds the processes by the mark in their environment, so that children that were re-parented or renamed are found and nobody
    else's vLLM or Ray is touched. With the last process the run's placement groups and Ray cluster are gone too.
  - Removes the containers that carry the label C(plumbline.serve).
  - Then waits until no GPU uses more than O(gpu_idle_mib), since a driver frees memory some time after a process ended, and fails when
    one still does after O(gpu_timeout_s).
options:
  serve_id: {description: End this run only; without it all of Plumbline's., type: str}
  grace_s: {description: Seconds between SIGTERM and SIGKILL., type: int, default: 10}
  docker: {description: The C(docker) command; where it is not installed there is no container to remove., type: str, default: docker}
  gpu_idle_mib: {description: MiB that may be in use on a GPU that counts as free., type: int, default: 1024}
  gpu_timeout_s:
    description: Seconds to wait for the GPUs; 0 does not look. They are only waited for when something was ended.
    type: int
    default: 60
  gpus: {description: "GPUs that are looked at, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  nvidia_smi: {description: Path of nvidia-smi; without it\, wherever PATH has it., type: path}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Leave no serving process behind
  vllm_processes:
"""

RETURN = r"""
ended:
  description: What was ended (in check mode, what would be).
  type: list
  elements: dict
  returned: always
  contains:
    pid: {description: Process id., type: int}
    command: {description: Start of its command line., type: str}
containers:
  description: Names of the containers that were removed (in check mode, would be).
  type: list
  elements: str
  returned: always
gpus: {description: GPUs with their memory in MiB\, after the end., type: list, elements: dict, returned: always}
"""

import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.machine import gpu_choice, gpu_memory, nvidia
from ansible.module_utils.plumbline.serving.runtime import LABEL

# What the client says when no engine listens: older releases, newer ones.
NO_ENGINE = ("Is the docker daemon running", "if the daemon is running")


class EngineProblem(Exception):
    """The Docker engine refused; the text is its own words."""


def docker(command, *arguments):
    """Run the docker command and return its output's lines."""
    try:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineProblem("docker %s: %s" % (arguments[0], error)) from error
    if done.returncode:
        raise EngineProblem("docker %s: %s" % (arguments[0], (done.stderr or done.stdout).strip()[-300:]))
    return done.stdout.splitlines()


def containers(command, serve_id):
    """Return the names of the serving run's containers; [] where Docker is not installed or its engine does not run."""
    if not shutil.which(command):
        return []
    wanted = "label=%s%s" % (LABEL, "=" + serve_id if serve_id else "")
    try:
        return docker(command, "ps", "--all", "--filter", wanted, "--format", "{{.Names}}")
    except EngineProblem as error:
        if any(words in str(error) for words in NO_ENGINE):
            return []  # no engine, no container
        raise


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "serve_id": {"type": "str"},
            "grace_s": {"type": "int", "default": 10},
            "docker": {"type": "str", "default": "docker"},
            "gpu_idle_mib": {"type": "int", "default": 1024},
            "gpu_timeout_s": {"type": "int", "default": 60},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
        },
        supports_check_mode=True,
    )
    args = module.params
    serve_id, gpus = args["serve_id"], []
    try:
        # First, since an engine that refuses must not keep a server of the node itself alive.
        if module.check_mode:
            ended = [(pid, processes.command_of(pid)) for pid in processes.marked(serve_id)]
        else:
            ended = processes.stop(serve_id, args["grace_s"])
        removed = containers(args["docker"], serve_id)
        if removed and not module.check_mode:
            docker(args["docker"], "rm", "--force", "--volumes", *removed)
    except RuntimeError as error:
        module.fail_json(msg="%s. A process in an uninterruptible wait needs its device or disk back first." % error)
    except EngineProblem as error:
        module.fail_json(msg="%s: look at the engine (`docker ps`, its log) and remove the container by hand" % error)
    result = {
        "changed": bool(ended or removed),
        "ended": [{"pid": pid, "command": command} for pid, command in ended],
        "containers": removed,
    }
    if args["gpu_timeout_s"] and result["changed"] and not module.check_mode:
        try:
            gpu_choice.look_only_at(args["gpus"], args["nvidia_smi"])
            gpus, left = gpu_memory.wait_until_free(args["nvidia_smi"], args["gpu_idle_mib"], args["gpu_timeout_s"])
            owners = gpu_memory.users(args["nvidia_smi"]) if left else []
        except (nvidia.NvidiaError, gpu_choice.WrongChoice) as error:
            gpus, left, owners = [], [str(error)], []
        if left:
            module.fail_json(
                msg="%d s after everything was ended: %s; expected at most %d MiB in use. Processes on GPUs: %s. "
                "End them, or reset the GPU."
                % (args["gpu_timeout_s"], "; ".join(left), args["gpu_idle_mib"],
                   ", ".join(map(str, owners)) or "none that the driver lists"),
                gpus=gpus, **result,
            )  # fmt: skip
    module.exit_json(gpus=gpus, **result)


if __name__ == "__main__":
    main()
