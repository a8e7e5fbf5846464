"""A model to three nodes along a chain, on shaped links: kills, damage, a slow relay, two runs at once, IPv6."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import ROOT

pytestmark = pytest.mark.lab

PATH = "/var/lib/plumbline/models/chain"
MIB = 24  # at 50 Mbit/s four seconds
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


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, new_lab):
    """A lab of four nodes of which the first has a model."""
    folder = tmp_path_factory.mktemp("chain")
    options = {"name": "labm", "subnet": "10.92.0.0/16", "nodes": 4, "lab_docker": False, "lab_vllm": False, "lab_link_rate": "50mbit"}
    with new_lab(folder, **options) as lab:
        (folder / "model.yml").write_text(PLAY % ROOT)
        lab.sync = lambda run_id, *words, **more: lab.play(
            str(folder / "model.yml"), *words, run_id=run_id, model_sync_source="directory", model_sync_path=PATH, **more
        )
        yield lab


@pytest.fixture(autouse=True)
def model(fleet):
    """Every test begins with a new model on the first node and none on the others."""
    make = "rm -rf {0}; mkdir -p {0}; cd {0}; for i in 1 2; do head -c {1} /dev/urandom > model-$i; done; echo '{{}}' > config.json"
    fleet.shell("labm1", make.format(PATH, MIB * 2**20 // 2))
    for name in fleet.names[1:]:
        fleet.shell(name, "rm -rf %s" % PATH)


def is_whole(fleet, name):
    """Tell whether a node has what the first has, and nothing left over."""
    what = "cd %s && sha256sum model-* config.json; ls -A | grep -v '^.plumbline-chunks$'; ls /run/plumbline-model-sync 2> /dev/null" % PATH
    assert "plumbline-model-sync@" not in fleet.shell(name, "cat /root/.ssh/authorized_keys")
    return fleet.shell(name, what) == fleet.shell("labm1", what)


def fact(run, node):
    return run.fact(node, "model", "chain")


def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def when_copying(fleet, name, command):
    """Run a command on a node two seconds after its copy began, without waiting for it."""
    wait = "for i in $(seq 600); do [ -e %s/.plumbline-sync/have ] && break; sleep 0.1; done; sleep 2; %s"
    fleet.shell(name, "(%s) > /dev/null 2>&1 < /dev/null &" % (wait % (PATH, command)))


def test_every_node_is_verified_and_each_took_from_the_one_before(fleet):
    run = fleet.sync("chain").ok("model sync")
    assert all(is_whole(fleet, name) for name in fleet.names)
    sources = fact(run, "labm4")["measured"]["sources"]
    assert sources["labm3"]["bytes"] > MIB * 2**20 / 2
    again = fleet.sync("again").ok("again")
    assert not {name for name, count in again.changed.items() if name != "localhost" and count > 2}  # the two group_by
    assert fact(again, "labm4")["measured"]["transferred_bytes"] == 0


def test_a_copy_that_was_killed_goes_on_where_it_was(fleet):
    # The module itself; what Ansible started it with notes its end.
    when_copying(fleet, "labm3", "pkill -9 -f '^[^ ]*python[^ ]* [^ ]*AnsiballZ_model_sync.py'")
    run = fleet.sync("killed")
    assert run.status != 0 and is_whole(fleet, "labm4"), "who pulled from it went on"
    assert not is_whole(fleet, "labm3")
    run = fleet.sync("resumed").ok("resumed")
    assert is_whole(fleet, "labm3")
    measured = fact(run, "labm3")["measured"]
    assert measured["resumed_bytes"] > 0 and measured["transferred_bytes"] == MIB * 2**20 + 3 - measured["resumed_bytes"]


def test_a_slow_relay_is_passed_by_and_named(fleet):
    slow = "tc qdisc change dev %s root tbf rate 5mbit burst 64kb latency 50ms"
    link = fleet.shell("labm2", "ip -o route get 10.92.0.11 | sed 's/.* dev \\([^ ]*\\).*/\\1/'").strip()
    fleet.shell("labm2", slow % link)
    try:
        run = fleet.sync("slow").ok("slow relay")
    finally:
        fleet.shell("labm2", slow.replace("rate 5mbit", "rate 50mbit") % link)
    assert all(is_whole(fleet, name) for name in fleet.names)
    third = fact(run, "labm3")
    assert "labm2: slow" in str(third["reasons"]) and third["status"] == "healthy"
    assert third["measured"]["transfer_s"] < 3 * MIB * 2**20 * 8 / 50e6


def test_a_damaged_shard_at_the_source_stops_the_copy_in_words(fleet):
    fleet.sync("whole").ok("whole")
    fleet.shell("labm1", "printf X | dd of=%s/model-2 bs=1 seek=4096 conv=notrunc 2> /dev/null" % PATH)
    fleet.shell("labm3", "rm -rf %s" % PATH)
    run = fleet.sync("bad-head")
    assert run.status != 0
    assert run.fact("labm1", "model", "chain")["status"] == "failed"
    assert fact(run, "labm2")["status"] == "healthy", "it has all of it"
    third = fact(run, "labm3")
    assert third["status"] == "incomplete" and third["measured"]["transferred_bytes"] == 0 and "head" in str(third["reasons"])


def test_a_damaged_shard_at_a_relay_and_a_target_is_not_handed_on(fleet):
    fleet.sync("whole-2").ok("whole")
    fleet.shell("labm2", "printf X | dd of=%s/model-2 bs=1 seek=4096 conv=notrunc 2> /dev/null" % PATH)
    fleet.shell("labm3", "rm -rf %s" % PATH)
    run = fleet.sync("bad-relay")
    assert run.status != 0 and fact(run, "labm2")["status"] == "failed" and is_whole(fleet, "labm3")
    run = fleet.sync("mended", model_sync_on_corruption="repair").ok("repair")
    assert fact(run, "labm2")["status"] == "degraded" and fact(run, "labm2")["measured"]["transferred_bytes"] < 2**20
    assert is_whole(fleet, "labm2")


def test_a_full_disk_is_named_and_the_others_are_served(fleet):
    fleet.shell("labm2", "mkdir -p /var/lib/plumbline; dd if=/dev/zero of=/var/lib/plumbline/ballast bs=1M 2> /dev/null; true")
    try:
        run = fleet.sync("full")
    finally:
        fleet.shell("labm2", "rm -f /var/lib/plumbline/ballast")
    assert run.status != 0 and "model.disk" in str(fact(run, "labm2")["reasons"])
    assert is_whole(fleet, "labm3") and is_whole(fleet, "labm4")


def test_two_runs_at_once_end_well(fleet):
    runs = {}
    first = in_background(lambda: runs.update(one=fleet.sync("one")))
    time.sleep(1.0)
    runs["two"] = fleet.sync("two")
    first.join()
    assert runs["one"].status == runs["two"].status == 0
    assert all(is_whole(fleet, name) for name in fleet.names)


def test_nodes_reach_each_other_by_ipv6(fleet):
    link = fleet.shell("labm2", "ip -o route get 10.92.0.11 | sed 's/.* dev \\([^ ]*\\).*/\\1/'").strip()
    hosts = fleet.inventory / "host_vars"
    hosts.mkdir(exist_ok=True)
    for number, name in enumerate(fleet.names, 1):
        fleet.shell(name, "ip -6 address replace fd92::%d/64 dev %s nodad" % (number, link))
        (hosts / (name + ".yml")).write_text("plumbline_address: fd92::%d\n" % number)
    try:
        run = fleet.sync("ipv6").ok("IPv6")
    finally:
        for name in fleet.names:
            (hosts / (name + ".yml")).unlink()
    assert all(is_whole(fleet, name) for name in fleet.names)
    assert "model.route" not in str(fact(run, "labm4")["reasons"])
