"""``make bench FAULTS=1``: one dead, one hung and one slow node of a lab, and what each costs ``site.yml --tags validate``.

The last three nodes of the inventory are made so, and are restored afterwards, also when this program is ended. Dead: nothing listens there
for ssh. Hung: its Python never answers. Slow: its Python first waits for :data:`SLOW_S` seconds. Which Python a node has is told to Ansible
by a second inventory alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import statistics
import subprocess
import tempfile
from pathlib import Path

import ansible_runner
from one_script import ROOT

# Below the 20 s after which a Python that does not answer counts as hung, and above what a machine under load adds.
SLOW_S = 9
# Fewer nodes that answer are not compared with each other (controller/fleet.py), so the slow one is not named.
LEAST_COMPARED = 5
FOLDER = "/run/plumbline-bench"
WRAPPERS = {"hung": "exec sleep 3600", "slow": 'sleep %d\nexec %%s "$@"' % SLOW_S}
# Ends the listener and starts it again when the standard input ends: also when the one who asked is gone. Open sessions stay.
DEAD = """
pid=$(cat /run/sshd.pid) && sshd=$(readlink "/proc/$pid/exe") && kill "$pid" || exit 1
while [ -e "/proc/$pid" ]; do sleep 0.1; done
echo down
read -r line
"$sshd" -f /etc/ssh/lab_sshd_config -E /var/log/sshd.log < /dev/null > /dev/null 2>&1
"""


def ssh(node, command):
    """Return the argv that runs a shell command on a node, by a connection of its own."""
    argv = ["ssh", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ConnectTimeout=15"]
    argv += shlex.split(node.get("ansible_ssh_common_args", ""))
    if node.get("ansible_ssh_private_key_file"):
        argv += ["-i", node["ansible_ssh_private_key_file"]]
    return [*argv, "%s@%s" % (node.get("ansible_user", "root"), node["ansible_host"]), command]


@contextlib.contextmanager
def dead(node):
    """Let nothing listen for ssh on a node."""
    held = subprocess.Popen(ssh(node, DEAD), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if held.stdout.readline().strip() != "down":
            raise SystemExit("the sshd of %s could not be ended: is it a node of a lab?" % node["ansible_host"])
        yield
    finally:
        held.stdin.close()
        held.wait(timeout=30)


@contextlib.contextmanager
def wrapped(node, kind):
    """Put a Python that is hung or slow on a node."""
    text = "#!/bin/sh\n" + WRAPPERS[kind].replace("%s", shlex.quote(node.get("ansible_python_interpreter", "/usr/bin/python3"))) + "\n"
    path = "%s/%s" % (FOLDER, kind)
    make = "mkdir -p %s && printf %%s %s > %s && chmod 755 %s" % (FOLDER, shlex.quote(text), path, path)
    subprocess.run(ssh(node, make), check=True, timeout=60)
    try:
        yield path
    finally:
        subprocess.run(ssh(node, "rm -rf %s" % FOLDER), check=True, timeout=60)


def validate(inventories, folder, forks):
    """Run validate; return ``(seconds by node, each [(seconds, task)], the report's verdicts by node)``."""
    results = folder / "results"
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        # ansible-runner puts its own folder in the place of ansible.cfg's callback_plugins.
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins/callback"),
        # A connection that is still open to the dead node would be used.
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "PLUMBLINE_RESULTS_DIR": str(results),
        "PLUMBLINE_RUN_ID": "faults",
    }
    words = [word for path in inventories for word in ("-i", str(path))] + ["-f", str(forks), "--tags", "validate"]
    private = folder / "runner"
    private.mkdir()
    run = ansible_runner.run(
        private_data_dir=str(private), project_dir=str(ROOT), playbook="site.yml", cmdline=shlex.join(words), envvars=env, quiet=True
    )
    document = results / "faults/facts.json"
    if not document.exists():
        raise SystemExit("no report:\n" + "\n".join(event.get("stdout", "") for event in run.events)[-4000:])
    return costs(run.events), verdicts(document)


def costs(events):
    """Return ``{node: [(seconds, task)]}`` of what ansible-runner kept of a run, the longest first."""
    found = {}
    for event in events:
        data = event.get("event_data") or {}
        if event["event"] in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable"):
            found.setdefault(data["host"], []).append((float(data.get("duration") or 0), data["task"]))
    return {name: sorted(tasks, reverse=True) for name, tasks in found.items()}


def verdicts(document):
    """Return ``{node: (status, what was seen)}`` of a report."""
    found = {}
    for name, verdict in json.loads(document.read_text())["verdicts"]["nodes"].items():
        worst = next((item for item in verdict["reasons"] if item["status"] == verdict["status"]), {"check": "", "seen": ""})
        found[name] = (verdict["status"], "%s: %s" % (worst["check"], worst["seen"]))
    return found


def lines(broken, spent, said):
    """Return the table's lines and whether all was named rightly; ``broken`` is ``{node: kind}``."""
    others = [sum(took for took, _task in spent.get(name, ())) for name in said if name not in broken]
    compared = len(others) + 1 >= LEAST_COMPARED
    right = {"dead": ("failed",), "hung": ("failed",), "slow": ("degraded",) if compared else ("healthy", "degraded")}
    made = ["| node | what | its tasks | of them the longest | verdict |", "|---|---|---|---|---|"]
    sound = True
    for name, kind in broken.items():
        tasks = spent.get(name) or [(0.0, "none")]
        status, seen = said.get(name, ("missing", ""))
        sound &= status in right[kind]
        row = (name, kind, sum(took for took, _task in tasks), *tasks[0], status, seen)
        made.append("| %s | %s | %.1f s | %.1f s: %s | %s: %s |" % row)
    made.append("the %d others: median %.1f s, at most %.1f s" % (len(others), statistics.median(others), max(others)))
    accused = sorted("%s: %s: %s" % (name, *said[name]) for name in said if name not in broken and said[name][0] != "healthy")
    if not compared:
        made.append("a slow node is named from %d nodes on that answer; here are %d" % (LEAST_COMPARED, len(others) + 1))
    return made + accused, sound and not accused


def measure(inventory, nodes, forks, timed):
    """Break three nodes, run once, restore them and print; return 0 where each was named rightly and no other was."""
    if len(nodes) < 4:
        raise SystemExit("it takes four nodes, three to break and one to compare them with; %s has %d" % (inventory, len(nodes)))
    broken = dict(zip(list(nodes)[-3:], ("dead", "hung", "slow"), strict=True))
    by_kind = {kind: name for name, kind in broken.items()}
    with tempfile.TemporaryDirectory(prefix="pb-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        hosts = "".join(
            "%s ansible_python_interpreter=%s\n" % (by_kind[kind], stack.enter_context(wrapped(nodes[by_kind[kind]], kind)))
            for kind in WRAPPERS
        )
        (folder / "broken").write_text("[nodes]\n" + hosts)
        stack.enter_context(dead(nodes[by_kind["dead"]]))
        took, (spent, said) = timed(lambda: validate([os.path.abspath(inventory), folder / "broken"], folder, forks))
    made, sound = lines(broken, spent, said)
    print("\n".join(["site.yml --tags validate over %d nodes: %.1f s" % (len(nodes), took), "", *made]))
    return int(not sound)
