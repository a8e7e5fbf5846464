"""A model to three nodes along a chain, on shaped links and IPv6: kills, damage, a slow relay, a full disk, two runs at once."""

from __future__ import annotations

import json
import threading
import time

import pytest
from conftest import ROOT

pytestmark = pytest.mark.lab

PATH = "/var/lib/plumbline/models/chain"
RATE = 50e6  # of each link, bits a second
BALLAST = "/var/lib/plumbline/ballast"
# The groups as playbooks/select.yml makes them: in the inventory's order, the head first. The report judges the run, as in site.yml.
PLAY = """
- hosts: nodes
  gather_facts: false
  tasks:
    - ansible.builtin.add_host: {name: "{{ item }}", groups: [serving, usable]}
      loop: "{{ ansible_play_hosts_all }}"
      run_once: true
      changed_when: false
- import_playbook: %s/playbooks/model.yml
"""
REPORT = "- import_playbook: %s/playbooks/report.yml\n"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, new_lab):
    """A lab of four nodes that reach each other by IPv6."""
    folder = tmp_path_factory.mktemp("chain")
    options = {"name": "labm", "subnet": "10.92.0.0/16", "nodes": 4, "lab_docker": False, "lab_vllm": False, "lab_link_rate": "50mbit"}
    with new_lab(folder, **options) as lab:
        (folder / "model.yml").write_text(PLAY % ROOT)
        (folder / "judged.yml").write_text((PLAY + REPORT) % (ROOT, ROOT))
        (lab.inventory / "host_vars").mkdir()
        lab.link = lab.shell("labm2", "ip -o route get 10.92.0.11 | sed 's/.* dev \\([^ ]*\\).*/\\1/'").strip()
        for number, name in enumerate(lab.names, 1):
            lab.shell(name, "ip -6 address replace fd92::%d/64 dev %s nodad" % (number, lab.link))
            (lab.inventory / "host_vars" / (name + ".yml")).write_text("plumbline_address: fd92::%d\n" % number)
        yield lab


def sync(fleet, run_id, *words, judged=False, **more):
    """Run the model phase; where it is ``judged``, with the report at its end as in ``site.yml``."""
    playbook = str(fleet.folder / ("judged.yml" if judged else "model.yml"))
    return fleet.play(playbook, *words, run_id=run_id, model_sync_source="directory", model_sync_path=PATH, **more)


def new_model(fleet, mib):
    """Make a new model of two shards on the first node, and remove what the others have; return its bytes."""
    size = mib * 2**20 // 2
    make = "rm -rf {0}; mkdir -p {0}; cd {0}; for i in 1 2; do head -c {1} /dev/urandom > model-$i; done; echo '{{}}' > config.json"
    fleet.shell("labm1", make.format(PATH, size))
    for name in fleet.names[1:]:
        fleet.shell(name, "rm -rf " + PATH)
    return 2 * size + len("{}\n")


def spoil(fleet, name):
    fleet.shell(name, "printf X | dd of=%s/model-2 bs=1 seek=4096 conv=notrunc 2> /dev/null" % PATH)


def content(fleet, name):
    """Return what a node has: hashes, names, private keys of the copy, and keys let in for it."""
    look = "cd %s && sha256sum model-* config.json; ls -A | grep -v '^.plumbline-chunks$'; ls /run/plumbline-model-sync 2> /dev/null;"
    return fleet.shell(name, look % PATH + " grep -h plumbline-model-sync@ /root/.ssh/authorized_keys; true")


def left_over(fleet):
    """Return ``{node: lines}`` in which nodes differ from the first: no model, another one, or something left beside it."""
    want = content(fleet, "labm1").splitlines()
    assert sum("  model-" in line for line in want) == 2 and not any("ssh-" in line or "run-" in line for line in want)
    found = {name: sorted(set(content(fleet, name).splitlines()) ^ set(want)) for name in fleet.names}
    return {name: lines for name, lines in found.items() if lines}


def fact(run, node):
    return run.fact(node, "model", "chain")


def when_copying(fleet, name, after_s, command):
    """Run a command on a node some seconds after its copy began, without waiting for it."""
    wait = "for i in $(seq 600); do [ -e %s/.plumbline-sync/have ] && break; sleep 0.1; done; sleep %s; %s"
    fleet.shell(name, "(%s) > /dev/null 2>&1 < /dev/null &" % (wait % (PATH, after_s, command)))


def test_each_node_takes_from_the_one_before_by_ipv6_and_damage_is_named_and_not_handed_on(fleet):
    size = new_model(fleet, 8)
    run = sync(fleet, "chain").ok("model sync")
    assert left_over(fleet) == {}
    last = fact(run, "labm4")
    assert last["measured"]["sources"]["labm3"]["bytes"] > size / 2, last["measured"]["sources"]
    assert last["measured"]["transferred_bytes"] >= size and last["command"] == "labm4 <- labm3 <- labm2 <- labm1"
    # A relay that was damaged meanwhile, and a node that lacks a file.
    spoil(fleet, "labm2")
    fleet.shell("labm3", "rm %s/model-2" % PATH)
    run = sync(fleet, "bad-relay")
    assert fact(run, "labm2")["status"] == "failed" and "model-2: SHA-256" in str(fact(run, "labm2")["reasons"])
    assert fact(run, "labm3")["measured"]["transferred_bytes"] == (size - 3) / 2, "only what was missing"
    assert fact(run, "labm4")["measured"]["transferred_bytes"] == 0 and list(left_over(fleet)) == ["labm2"]
    run = sync(fleet, "mended", model_sync_on_corruption="repair").ok("repair")
    assert fact(run, "labm2")["status"] == "degraded" and fact(run, "labm2")["measured"]["transferred_bytes"] < 2**20
    assert left_over(fleet) == {}
    spoil(fleet, "labm1")
    fleet.shell("labm3", "rm -rf " + PATH)
    run = sync(fleet, "bad-head")
    assert not set(run.changed) & set(fleet.names)
    assert fact(run, "labm1")["status"] == "failed"
    assert fact(run, "labm2")["status"] == "healthy", "it has all of it"
    third = fact(run, "labm3")
    assert third["status"] == "incomplete" and third["measured"]["transferred_bytes"] == 0 and "head" in str(third["reasons"])


def test_a_full_disk_is_named_and_a_killed_copy_goes_on_in_two_runs_at_once(fleet):
    size = new_model(fleet, 16)
    fleet.shell("labm2", "mkdir -p /var/lib/plumbline; dd if=/dev/zero of=%s bs=1M 2> /dev/null; true" % BALLAST)
    # The module itself; what Ansible started it with notes its end.
    when_copying(fleet, "labm3", 1, "pkill -9 -f '^[^ ]*python[^ ]* [^ ]*AnsiballZ_model_sync.py'")
    try:
        run = sync(fleet, "troubles", judged=True)
    finally:
        fleet.shell("labm2", "rm -f " + BALLAST)
    assert run.status != 0 and sorted(left_over(fleet)) == ["labm2", "labm3"], "who pulled from the killed one went on"
    full = fact(run, "labm2")
    assert full["status"] == "failed" and [item["check"] for item in full["reasons"]] == ["model.disk"]
    assert "%d bytes needed" % size in full["reasons"][0]["seen"] and PATH in full["reasons"][0]["seen"]
    killed = fact(run, "labm3")
    assert killed["status"] == "incomplete" and 0 < killed["measured"]["transferred_bytes"] < size, "bytes moved are told"
    assert "killed" in str(killed["reasons"])

    runs = {}
    first = threading.Thread(target=lambda: runs.update(one=sync(fleet, "one")))
    first.start()
    time.sleep(1.0)
    runs["two"] = sync(fleet, "two")
    first.join()
    for name, run in runs.items():
        run.ok(name)
        assert all(fact(run, node)["status"] == "healthy" for node in fleet.names)
    assert left_over(fleet) == {}
    seconds = [fact(run, "labm2")["measured"] for run in runs.values()]
    assert sum(measured["transferred_bytes"] for measured in seconds) == size, "one of them copied, the other found it there"
    moved, resumed = (sum(fact(run, "labm3")["measured"].get(key, 0) for run in runs.values())
                      for key in ("transferred_bytes", "resumed_bytes"))  # fmt: skip
    # config.json was whole before the kill, and so is neither resumed nor moved.
    assert resumed > 0 and size - moved - resumed in (0, 3)

    # What a run that was ended by force would leave.
    line = "restrict ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAtdG1Y4DSBEOVBh75wY51U0ed9ZAeb plumbline-model-sync@labm2"
    fleet.shell(
        "labm3", "echo '%s' >> /root/.ssh/authorized_keys; mkdir -p /run/plumbline-model-sync/run-x %s/.plumbline-sync" % (line, PATH)
    )
    assert list(left_over(fleet)) == ["labm3"]
    (fleet.folder / "reset.yml").write_text(json.dumps([{"hosts": "nodes", "gather_facts": False, "become": True, "tasks": [
        {"ansible.builtin.import_role": {"name": "model_sync", "tasks_from": "reset"}}]}]))  # fmt: skip
    fleet.play(str(fleet.folder / "reset.yml"), run_id="reset", model_sync_path=PATH).ok("reset")
    assert left_over(fleet) == {}


def test_a_relay_that_crawls_half_way_is_passed_by_and_named(fleet):
    size = new_model(fleet, 24)
    shape = "tc qdisc change dev %s root tbf rate %s burst 64kb latency 50ms"
    when_copying(fleet, "labm2", 1, shape % (fleet.link, "2mbit"))
    try:
        run = sync(fleet, "slow").ok("slow relay")
    finally:
        fleet.shell("labm2", shape % (fleet.link, "50mbit"))
    assert left_over(fleet) == {}
    third = fact(run, "labm3")
    assert "labm2: slow" in str(third["reasons"]) and third["status"] == "healthy", third["measured"]["sources"]
    # Through the slow one alone it would be 25 times the ideal. To see that takes seconds, more of them where two cores have other work.
    assert third["measured"]["transfer_s"] < 5 * size * 8 / RATE, third["measured"]["sources"]
    behind = fact(run, "labm4")["measured"]["sources"]
    assert not behind["labm3"]["left_because"] and behind["labm3"]["bytes"] > size / 2, "who is behind it stays where it is"
