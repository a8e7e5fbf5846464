"""``make bench SYNC=8``: a model from the first node of a lab to all others, by method, in one run.

Each method starts with empty folders and counts until the last node has verified every SHA-256. The ideal is the bytes at the rate of a
link (``--rate``, as the lab shapes it); ratios to it are what can be compared. Packaged methods run from the first node with a key
that this program makes and takes away. It needs a lab with root, and changes nothing but ``--path`` there.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ansible_runner
from faults import ssh
from one_script import ROOT
from validate import nodes_of

KEY = "/root/.ssh/plumbline-bench"
HOP = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i " + KEY
FILES = 4
PLAY = """
- hosts: nodes
  gather_facts: false
  tasks:
    - ansible.builtin.add_host: {name: "{{ item }}", groups: [serving, usable]}
      loop: "{{ ansible_play_hosts_all }}"
      run_once: true
      changed_when: false
- import_playbook: %s
"""


class Fleet:
    """Some nodes of a lab, the first of them the source."""

    def __init__(self, inventory, count, path, mib):
        found = nodes_of(inventory)
        self.names = list(found)[:count]
        if len(self.names) < count:
            raise SystemExit("%s has %d nodes, expected %d" % (inventory, len(found), count))
        self.nodes, self.inventory, self.path, self.mib = found, inventory, path, mib
        self.head, self.others = self.names[0], self.names[1:]

    def address(self, name):
        return self.nodes[name]["ansible_host"]

    def on(self, name, command, check=True):
        """Run a shell command on a node and return what it printed."""
        done = subprocess.run(ssh(self.nodes[name], command), capture_output=True, text=True, timeout=900)
        if check and done.returncode:
            raise SystemExit("%s: %s\n%s" % (name, command, done.stderr[-2000:]))
        return done.stdout

    def everywhere(self, command, names=None, check=True):
        """Run a command on several nodes at once."""
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda name: self.on(name, command, check), names or self.others))

    def make(self):
        """Make the files on the source, with their SHA-256, and let it in on the others."""
        path = shlex.quote(self.path)
        size = self.mib * 2**20 // FILES
        self.on(self.head, "rm -rf %s; mkdir -p %s; cd %s; for i in $(seq %d); do head -c %d /dev/urandom > model-$i.safetensors; done; "
                "sha256sum model-* > /tmp/plumbline-bench.sums" % (path, path, path, FILES, size))  # fmt: skip
        sums = self.on(self.head, "cat /tmp/plumbline-bench.sums")
        key = self.on(self.head, "rm -f %s*; ssh-keygen -q -t ed25519 -N '' -C plumbline-bench -f %s; cat %s.pub"
                      % (KEY, KEY, KEY)).strip()  # fmt: skip
        private = self.on(self.head, "cat %s" % KEY)
        put = "umask 077; echo %s >> /root/.ssh/authorized_keys; printf %%s %s > %s; printf %%s %s > /tmp/plumbline-bench.sums"
        self.everywhere(put % (shlex.quote(key), shlex.quote(private), KEY, shlex.quote(sums)), self.names)

    def tidy(self):
        """Take files and keys away."""
        command = "rm -rf %s %s* /tmp/plumbline-bench.*; sed -i '/ plumbline-bench$/d' /root/.ssh/authorized_keys"
        self.everywhere(command % (shlex.quote(self.path), KEY), self.names, check=False)

    def empty(self):
        self.everywhere("rm -rf %s; mkdir -p %s" % (shlex.quote(self.path), shlex.quote(self.path)))

    def verify(self):
        self.everywhere("cd %s && sha256sum --check --quiet /tmp/plumbline-bench.sums" % shlex.quote(self.path))


def push(fleet, source, target):
    fleet.on(source, "rsync -a -e %s %s/ root@%s:%s/" % (shlex.quote(HOP), fleet.path, fleet.address(target), fleet.path))


def sequential(fleet):
    for name in fleet.others:
        push(fleet, fleet.head, name)


def star(fleet):
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda name: push(fleet, fleet.head, name), fleet.others))


def tree(fleet):
    """In each round, everyone who has the model copies it to one who has not."""
    have, left = [fleet.head], list(fleet.others)
    while left:
        pairs = list(zip(have, left))
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda pair: push(fleet, *pair), pairs))
        have += [target for _source, target in pairs]
        left = left[len(pairs) :]


def pipeline(fleet):
    """tar through ssh and tee from node to node: nothing is verified on the way, and it survives no dead node."""
    step = "/tmp/plumbline-bench.step"
    for name, after in zip(fleet.others, [*fleet.others[1:], None]):
        onward = "%s root@%s bash %s" % (HOP, fleet.address(after), step) if after else "cat > /dev/null"
        fleet.on(name, "echo %s > %s" % (shlex.quote("tee >(tar x -C %s) | %s; wait" % (fleet.path, onward)), step))
    first = "%s root@%s bash %s" % (HOP, fleet.address(fleet.others[0]), step)
    fleet.on(fleet.head, "cd %s && tar c model-* | %s; sleep 0.2" % (fleet.path, first))


def packaged(fleet, method):
    """Return the seconds of one method, verified."""
    fleet.empty()
    started = time.monotonic()
    method(fleet)
    fleet.verify()
    return time.monotonic() - started


def moment(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").timestamp()


def ours(fleet, folder, run_id, **variables):
    """Run the model phase; return ``(seconds of the phase, seconds from the first node's pull to the last verified, facts by node)``."""
    private = folder / ("runner-" + run_id)
    private.mkdir()
    playbook = folder / "model.yml"
    playbook.write_text(PLAY % (ROOT / "playbooks/model.yml"))
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        # ansible-runner puts its own folder in the place of ansible.cfg's callback_plugins.
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins/callback"),
        "PLUMBLINE_RESULTS_DIR": str(folder / "results"),
        "PLUMBLINE_RUN_ID": run_id,
    }
    words = ["-i", os.path.abspath(fleet.inventory), "--limit", ",".join(fleet.names), "-f", "64"]
    run = ansible_runner.run(
        private_data_dir=str(private), project_dir=str(ROOT), playbook=str(playbook), cmdline=shlex.join(words), envvars=env, quiet=True,
        extravars=dict(variables, model_sync_source="directory", model_sync_path=fleet.path),
    )  # fmt: skip
    events = list(run.events)
    when = [datetime.datetime.fromisoformat(event["created"]).timestamp() for event in events
            if event["event"] == "playbook_on_stats" or (event["event_data"].get("play") == "Model sync")]  # fmt: skip
    facts = {}
    for name in fleet.others:
        found = list((folder / "results" / run_id / "facts" / name).glob("model.*.json"))
        if found:
            facts[name] = json.loads(found[0].read_text())
    if not facts:
        raise SystemExit("no facts:\n" + "\n".join(event.get("stdout", "") for event in events)[-4000:])
    begun = min(moment(fact["started_at"]) for fact in facts.values())
    ended = max((moment(fact["started_at"]) + fact["duration_s"] for fact in facts.values() if fact["status"] == "healthy"), default=begun)
    return max(when) - min(when), ended - begun, facts


@contextlib.contextmanager
def dying(fleet, victim, after_s):
    """Take a node's link down after a time, counted from when its copy begins, for a minute."""
    link = "$(ip -o route get %s | sed 's/.* dev \\([^ ]*\\).*/\\1/')" % fleet.address(fleet.head)
    script = "while [ ! -e %s/.plumbline-sync/have ]; do sleep 0.1; done; sleep %f; ip link set $link down; sleep 60; ip link set $link up"
    fleet.on(victim, "link=%s; (%s) > /dev/null 2>&1 < /dev/null &" % (link, script % (fleet.path, after_s)))
    try:
        yield
    finally:
        until = time.monotonic() + 120
        while time.monotonic() < until and subprocess.run(ssh(fleet.nodes[victim], "true"), capture_output=True).returncode:
            time.sleep(2)


def measure_ours(fleet, folder, ideal_s, say):
    """Copy, copy nothing, copy with a node that dies; tell ``say`` of each."""
    fleet.empty()
    phase_s, took_s, facts = ours(fleet, folder, "whole")
    bad = {name: fact["reasons"] for name, fact in facts.items() if fact["status"] != "healthy"}
    if bad or len(facts) != len(fleet.others):
        raise SystemExit("not healthy: %s" % bad)
    say("model_sync's chain", took_s, "the whole phase %.1f s" % phase_s)
    phases = sorted(ours(fleet, folder, "unchanged-%d" % number)[0] for number in range(3))
    say("unchanged, the whole phase", phases[1], "of %s s" % ", ".join("%.2f" % item for item in phases))
    fleet.empty()
    victim = fleet.others[len(fleet.others) // 2]
    with dying(fleet, victim, ideal_s / 2):
        _phase, _took, facts = ours(fleet, folder, "dying")
    facts.pop(victim, None)
    begun = min(moment(fact["started_at"]) for fact in facts.values())
    if any(fact["status"] != "healthy" for fact in facts.values()) or len(facts) != len(fleet.others) - 1:
        raise SystemExit("not healthy: %s" % {name: fact["reasons"] for name, fact in facts.items()})
    say("the chain, one node dead half-way", max(moment(fact["started_at"]) + fact["duration_s"] for fact in facts.values()) - begun,
        "all others verified")  # fmt: skip


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inventory")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--mib", type=int, default=128, help="size of the model")
    parser.add_argument("--rate", type=float, default=100.0, help="rate of a link as the lab shapes it, Mbit/s")
    parser.add_argument("--path", default="/var/lib/plumbline/models/bench")
    parser.add_argument("--methods", default="sequential,star,tree,pipeline", help="packaged methods; empty for none")
    given = parser.parse_args()
    fleet = Fleet(given.inventory, given.nodes, given.path, given.mib)
    ideal_s = given.mib * 2**20 * 8 / (given.rate * 1e6)
    print("%d nodes, %d MiB, links of %g Mbit/s: ideal %.1f s" % (given.nodes, given.mib, given.rate, ideal_s))
    print("| method | time | x ideal | |\n|---|---|---|---|", flush=True)

    def say(method, seconds, note=""):
        print("| %s | %.1f s | %.2f | %s |" % (method, seconds, seconds / ideal_s, note), flush=True)

    methods = {"sequential": sequential, "star": star, "tree": tree, "pipeline": pipeline}
    with tempfile.TemporaryDirectory(prefix="pb-") as name, contextlib.ExitStack() as stack:
        stack.callback(fleet.tidy)
        fleet.make()
        for method in filter(None, given.methods.split(",")):
            say({"pipeline": "tar, ssh and tee as a chain"}.get(method, "rsync, " + method), packaged(fleet, methods[method]))
        measure_ours(fleet, Path(name), ideal_s, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
