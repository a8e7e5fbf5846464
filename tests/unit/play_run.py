"""Runs a playbook on this machine through ansible-runner, as a user's inventory of local nodes would."""

from __future__ import annotations

import shutil

import ansible_runner
from project import ROOT


def run_playbook(folder, playbook, inventory, cmdline="", run_id=None, **extravars):
    """Run ``playbook`` (a path, absolute or in the project); its results go to ``folder``/results. Return ansible-runner's runner."""
    (folder / "runner").mkdir(exist_ok=True)
    if run_id:  # which a run would refuse that another one used
        shutil.rmtree(folder / "results" / run_id, ignore_errors=True)
    envvars = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        # ansible-runner puts its own folder in the place of ansible.cfg's callback_plugins.
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins" / "callback"),
        "PLUMBLINE_RESULTS_DIR": str(folder / "results"),
    }
    return ansible_runner.run(
        private_data_dir=str(folder / "runner"),
        project_dir=str(ROOT),
        playbook=str(ROOT / playbook),
        inventory=inventory,
        cmdline=cmdline,
        extravars=extravars,
        envvars={**envvars, **({"PLUMBLINE_RUN_ID": run_id} if run_id else {})},
        quiet=True,
    )


def results(run, task):
    """Return the results of a task by its name, one for each event."""
    return [event["event_data"]["res"] for event in run.events if event["event_data"].get("task") == task and "res" in event["event_data"]]
