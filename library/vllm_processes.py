#!/usr/bin/python
"""Ansible module: nothing of a serving run is left on the node, and its GPUs are free."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_processes
short_description: end every vLLM and Ray process and container of a serving run on this node, and see the GPUs free
description:
  - Finds the processes by two marks that they inherit (C(core/marks.py)), so that children that were re-parented, renamed or wrote their
    title over their environment are found and nobody else's vLLM or Ray is touched. With the last process the run's placement
    groups and Ray cluster are gone too.
  - Removes the containers that carry the label C(plumbline.serve), and fails when a process outlived SIGKILL, with its pid and title.
  - Then waits until no GPU uses more than O(gpu_idle_mib), since a driver frees memory some time after a process ended, and fails when
    one still does after O(gpu_timeout_s).
options:
  serve_id: {description: End this run only; without it all of Plumbline's., type: str}
  measurements:
    description: End modules that measure too, with what they started; they go on when the run on the controller was interrupted.
    type: bool
    default: false
  grace_s: {description: Seconds between SIGTERM and SIGKILL., type: int, default: 10}
  docker: {description: The C(docker) command; where it is not installed there is no container to remove., type: str, default: docker}
  gpu_idle_mib: {description: MiB that may be in use on a GPU that counts as free., type: int, default: 1024}
  gpu_timeout_s:
    description: Seconds to wait for the GPUs; 0 does not look. They are only waited for when something was ended.
    type: int
    default: 60
  gpus: {description: "GPUs that are looked at, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  nvidia_smi: {description: "Path of nvidia-smi; without it, wherever PATH has it.", type: path}
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
summary:
  description: Both as one sentence; empty when there was nothing.
  type: str
  returned: always
survivors:
  description: Processes that outlived SIGKILL, as pid and title.
  type: list
  elements: str
  returned: when there are
containers:
  description: Names of the containers that were removed (in check mode, would be).
  type: list
  elements: str
  returned: always
gpus: {description: "GPUs with their memory in MiB, after the end.", type: list, elements: dict, returned: always}
"""

import os
import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.core.scrub import scrub_text
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
        raise EngineProblem("docker %s: %s" % (arguments[0], scrub_text(done.stderr or done.stdout).strip()[-300:]))
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


def end(args, check_mode):
    """End the processes, or only look; return them as ``(pid, command)``, and the pids of those that outlived it."""
    if check_mode:
        return [(pid, processes.command_of(pid)) for pid in processes.marked(args["serve_id"], args["measurements"])], []
    try:
        return processes.stop(args["serve_id"], args["grace_s"], args["measurements"]), []
    except processes.Survivors as error:
        return error.ended, error.left


def short(command):
    """Return the first words of a command line without their folders."""
    return " ".join(os.path.basename(word) for word in command.split()[:3])


def summary(ended, removed, check_mode):
    """Return what was ended as one sentence, ``""`` for nothing."""
    parts = []
    if ended:
        parts.append(
            "%d process%s (%s)"
            % (len(ended), "es" if len(ended) > 1 else "", "; ".join("%d %s" % (pid, short(command)) for pid, command in ended))
        )
    if removed:
        parts.append("%d container%s (%s)" % (len(removed), "s" if len(removed) > 1 else "", ", ".join(removed)))
    return "%s %s" % ("would end" if check_mode else "ended", " and ".join(parts)) if parts else ""


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "serve_id": {"type": "str"},
            "measurements": {"type": "bool", "default": False},
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
        ended, left = end(args, module.check_mode)
        removed = containers(args["docker"], serve_id)
        if removed and not module.check_mode:
            docker(args["docker"], "rm", "--force", "--volumes", *removed)
    except EngineProblem as error:
        module.fail_json(msg="%s: look at the engine (`docker ps`, its log) and remove the container by hand" % error)
    left = [pid for pid in left if processes.is_running(pid)]  # those of a container went with it
    ended = [(pid, scrub_text(command)) for pid, command in ended if pid not in left]
    result = {
        "changed": bool(ended or removed),
        "ended": [{"pid": pid, "command": command} for pid, command in ended],
        "containers": removed,
        "summary": summary(ended, removed, module.check_mode),
    }
    if left:
        survivors = [scrub_text(processes.described(pid)) for pid in left]
        module.fail_json(
            msg="%d s after SIGKILL there are still: %s; expected none. One in state D needs its device or disk back first, or the "
            "node a reboot; then run this again." % (processes.KILL_S, ", ".join(survivors)), survivors=survivors, **result,
        )  # fmt: skip
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
