"""The lab itself: up, up again, changed, broken and down. A lab of its own (labu), beside any other.

Read through ansible-runner's events and the kernel's own tables. The tests of :class:`TestLife` tell one story, in order.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import ansible_runner
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
NAME, SUBNET = "labu", "10.97.0.0/16"
DIR = Path("/var/lib/plumbline-lab/labu")
IMAGE = "plumbline/vllm-cpu:lab"
NODES = {"labu1": "10.97.0.11", "labu2": "10.97.0.12"}

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
]


class Play:
    """One run of a lab playbook: status, changed count and the results of its tasks by module."""

    def __init__(self, folder, playbook, *arguments, **variables):
        self.runner = ansible_runner.run(
            private_data_dir=str(folder),
            project_dir=str(ROOT),
            playbook="playbooks/" + playbook,
            inventory="localhost ansible_connection=local\n",
            cmdline=" ".join(arguments) or None,
            extravars={"lab_name": NAME, "lab_subnet": SUBNET, "lab_nodes": 2, "lab_gpus": "none", **variables},
            envvars={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            quiet=True,
        )
        self.status = self.runner.rc
        self.events = list(self.runner.events)
        self.changed = sum((self.runner.stats or {}).get("changed", {}).values())

    def results(self, module):
        """Return the results of a module's tasks, the items of loops one by one."""
        kinds = ("runner_on_ok", "runner_on_failed", "runner_item_on_ok", "runner_item_on_failed")
        found = []
        for event in self.events:
            data = event.get("event_data", {})
            if event["event"] in kinds and data.get("task_action") == module and "results" not in data["res"]:
                found.append(data["res"])
        return found

    def good(self):
        """Assert success, with the task's own words if not."""
        failed = ("runner_on_failed", "runner_item_on_failed")
        failures = [e["event_data"]["res"].get("msg") for e in self.events if e["event"] in failed]
        assert self.status == 0, failures
        return self


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Return a way to run lab playbooks; leave no lab behind whatever happens."""
    folder = tmp_path_factory.mktemp("labu")

    def run(playbook, *arguments, **variables):
        variables.setdefault("lab_inventory_file", str(folder / "hosts.yml"))
        return Play(tmp_path_factory.mktemp("runner"), playbook, *arguments, **variables)

    run.inventory = folder / "hosts.yml"
    run("lab_down.yml").good()
    try:
        yield run
    finally:
        run("lab_down.yml").good()


def ssh(node, command):
    """Run a command on a node the way its inventory says, and return its output."""
    argv = ["ssh", "-i", str(DIR / "id_ed25519"), "-o", f"UserKnownHostsFile={DIR}/known_hosts", "-o", "StrictHostKeyChecking=yes"]
    argv += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ControlPath=none", f"root@{NODES[node]}", command]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def traces():
    """Return all that a lab called labu has left on this machine, whatever kind it is."""
    marker = f"PLUMBLINE_LAB_NODE={DIR}/".encode()
    processes = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                processes.append(entry.name)
        except OSError:
            continue  # gone meanwhile
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if NAME in line]
    links = [entry.name for entry in Path("/sys/class/net").iterdir() if entry.name.startswith(NAME)]
    loops = [str(path) for path in Path("/sys/block").glob("loop*/loop/backing_file") if NAME in path.read_text()]
    files = [str(DIR)] if DIR.exists() else []
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").rglob("plumbline-*") if path.name.startswith(f"plumbline-{NAME}h")]
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
    routes = [line for line in routes.splitlines() if line.startswith("10.97.")]
    return {"processes": processes, "mounts": mounts, "links": links, "loops": loops, "files": files, "routes": routes, "cgroups": cgroups}


def nothing(found):
    """Say whether there is no trace of any kind."""
    return not any(found.values())


def rate(*tc):
    """Return the rate in bit/s of an interface's tbf."""
    out = subprocess.run([*tc], capture_output=True, text=True, check=True).stdout
    return [item["options"]["rate"] * 8 for item in json.loads(out) if item["kind"] == "tbf"]


def test_check_mode_on_a_machine_with_nothing_changes_nothing(play, tmp_path):
    run = play("lab_up.yml", "--check", lab_cache_dir=str(tmp_path / "cache")).good()
    assert [item["changed"] for item in run.results("lab_rootfs")] == [True]
    assert [item["changed"] for item in run.results("lab_env")] == [True]
    assert [item["changed"] for item in run.results("lab_image")] == [True]
    assert [item["done"] for item in run.results("lab_node")] == [["start"], ["start"]]
    assert nothing(traces())
    assert list(tmp_path.iterdir()) == []
    assert not play.inventory.exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"lab_subnet": "10.97.0.1/16"}, "expected a network such as"),
        ({"lab_link_rate": "quick"}, "link rate is 'quick'"),
        ({"lab_node_link_rates": {"labu9": "1gbit"}}, "labu9"),
        ({"lab_subnet": "127.0.0.0/16"}, "in use on this machine: lo has 127.0.0.1/8"),
        ({"lab_cache_dir": "/nonexistent,comma"}, "path without"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(play, variables, words):
    run = play("lab_up.yml", **variables)
    assert run.status != 0
    [result] = run.results("lab_plan")
    assert words in result["msg"]
    assert nothing(traces())


class TestLife:
    """A lab from its start to its end."""

    def test_up(self, play):
        run = play("lab_up.yml", lab_link_rate="200mbit").good()
        nodes = run.results("lab_node")
        assert len(nodes) == 2
        assert nodes[0]["hostkey"] != nodes[1]["hostkey"]
        for name, address in NODES.items():
            assert ssh(name, "cat /proc/sys/kernel/hostname") == name
            assert f"{address}/16" in ssh(name, "ip -4 -br addr show dev eth0")
        namespaces = [ssh(name, "readlink /proc/1/ns/net /proc/1/ns/mnt /proc/1/ns/pid /proc/1/ns/uts /proc/1/ns/ipc") for name in NODES]
        own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "pid", "uts", "ipc")]
        assert len({*namespaces[0].split(), *namespaces[1].split(), *own}) == 15

    def test_the_inventory_reaches_them(self, play):
        listing = yaml.safe_load(play.inventory.read_text())
        assert {name: item["ansible_host"] for name, item in listing["nodes"]["hosts"].items()} == NODES
        argv = ["ansible", "-i", str(play.inventory), "nodes", "-m", "ansible.builtin.ping"]
        subprocess.run(argv, check=True, capture_output=True, cwd=ROOT, timeout=120)

    def test_nodes_have_their_own_files_and_a_limited_disk(self):
        ssh("labu1", "echo one > /var/tmp/mine")
        assert ssh("labu2", "test -e /var/tmp/mine || echo none") == "none"
        blocks, size = (int(word) for word in ssh("labu1", "stat -f -c '%b %S' /").split())
        assert 5.5 * 2**30 < blocks * size < 6.1 * 2**30

    def test_vllm_ray_and_torchrun_run_in_a_node(self):
        binaries = "/opt/plumbline/vllm/bin"
        assert ssh("labu1", f"{binaries}/ray --version").startswith("ray, version ")
        assert ssh("labu1", f"VLLM_NO_USAGE_STATS=1 {binaries}/vllm --version 2>/dev/null").split()[-1].endswith("+cpu")
        assert "--nproc-per-node" in ssh("labu1", f"{binaries}/torchrun --help")
        plugin = "import importlib.metadata as m; print([p.load()() for p in m.entry_points(group='vllm.platform_plugins')])"
        assert ssh("labu1", f'{binaries}/python -c "{plugin}"') == "['vllm_cpu_cluster.platform.CpuClusterPlatform']"
        assert ssh("labu1", "touch /opt/plumbline/vllm/x 2>/dev/null || echo refused") == "refused"
        assert "torch-2.13.0" in ssh("labu1", "cat /opt/plumbline/vllm/torch-source.txt")

    def test_each_node_has_an_engine_with_the_same_image(self):
        ids = {ssh(name, f"docker image inspect --format '{{{{.Id}}}}' {IMAGE}") for name in NODES}
        assert len(ids) == 1
        assert ids.pop().startswith("sha256:")
        # The image takes none of the node's disk: only its records are there.
        assert int(ssh("labu1", "du -sm /var/lib/docker").split()[0]) < 50
        assert ssh("labu1", "docker network ls --format '{{.Driver}}'").split() == ["host", "null"]

    def test_a_container_runs_vllm_on_the_nodes_network(self):
        argv = "docker run --rm --network host --ipc host --privileged --ulimit memlock=-1 --ulimit stack=67108864 --gpus all"
        code = "import os, socket, ray, vllm, torch, vllm._C; print(ray.__version__, torch.__version__, socket.gethostname())"
        out = ssh("labu1", f"{argv} --entrypoint python {IMAGE} -c '{code}' 2> /dev/null").splitlines()[-1].split()
        assert out[1].startswith("2.13.0")
        assert out[2] == "labu1"
        assert ssh("labu1", "tail -n 1 /var/log/nvidia-hook-stand-in.log").endswith("prestart NVIDIA_VISIBLE_DEVICES=all")
        assert ssh("labu1", f"docker image inspect --format '{{{{json .Config.Entrypoint}}}}' {IMAGE}") == '["vllm","serve"]'
        assert ssh("labu1", f"docker run --rm --network host --entrypoint touch {IMAGE} /opt/plumbline/vllm/mine && echo own") == "own"
        assert ssh("labu1", "test -e /opt/plumbline/vllm/mine || echo clean") == "clean"

    def test_ansible_manages_a_container_and_killing_it_leaves_nothing(self, play):
        words = "name=serve image=%s pull=never entrypoint=sleep command=1000 network_mode=host ipc_mode=host" % IMAGE

        def container(state):
            argv = ["ansible", "-i", str(play.inventory), "labu2", "-m", "community.docker.docker_container", "-a"]
            done = subprocess.run([*argv, f"{words} state={state}"], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
            return done.stdout.splitlines()[0].split(" ")[2]

        assert [container("started"), container("started")] == ["CHANGED", "SUCCESS"]
        ssh("labu2", "docker exec -d serve sh -c 'sleep 2000 & sleep 2000'; docker kill serve")
        assert ssh("labu2", "pgrep -cx sleep || true") == "0"
        assert ssh("labu2", "grep -c /merged /proc/mounts || true") == "0"
        assert container("absent") == "CHANGED"
        assert ssh("labu2", "docker ps -aq") == ""

    def test_an_engine_that_died_is_started_again_with_its_containers(self, play):
        ssh("labu1", f"docker run -d --name kept --network host --entrypoint sleep {IMAGE} 1000; kill -9 $(cat /run/docker.pid)")
        ssh("labu2", f"docker rmi --force {IMAGE}")
        run = play("lab_up.yml", lab_link_rate="200mbit").good()
        done = [item["done"][0] for item in run.results("lab_node")]
        assert done == ["restart: its Docker engine did not answer", f"restart: its Docker engine lacks the image {IMAGE}"]
        assert ssh("labu1", "docker ps -a --format '{{.Names}} {{.State}}'") == "kept exited"
        assert ssh("labu2", f"docker image inspect --format '{{{{.Id}}}}' {IMAGE}").startswith("sha256:")

    def test_a_second_up_changes_nothing(self, play):
        started = time.monotonic()
        run = play("lab_up.yml", lab_link_rate="200mbit").good()
        assert run.changed == 0, [result for result in run.results("lab_node") if result["changed"]]
        assert time.monotonic() - started < 30

    def test_the_link_rate_changes_on_a_running_lab(self, play):
        first = ssh("labu1", "stat -c %Y /proc/1")
        assert rate("tc", "-j", "qdisc", "show", "dev", "labuh1") == [200 * 10**6]
        run = play("lab_up.yml", lab_link_rate="500mbit", lab_node_link_rates={"labu2": "50mbit"}).good()
        assert all(not any("start" in what for what in item["done"]) for item in run.results("lab_node"))
        assert rate("tc", "-j", "qdisc", "show", "dev", "labuh1") == [500 * 10**6]
        assert rate("tc", "-j", "qdisc", "show", "dev", "labuh2") == [50 * 10**6]
        pid = run.results("lab_node")[1]["pid"]
        assert rate("nsenter", "--net", "--target", str(pid), "tc", "-j", "qdisc", "show", "dev", "eth0") == [50 * 10**6]
        assert ssh("labu1", "stat -c %Y /proc/1") == first

    def test_the_rate_holds_for_real_traffic(self):
        code = "import socket;s=socket.create_server(('',5001));c=s.accept()[0]\nwhile c.recv(65536):pass\nc.send(b'.')"
        argv = ["ssh", "-i", str(DIR / "id_ed25519"), "-o", f"UserKnownHostsFile={DIR}/known_hosts", "-o", "ControlPath=none"]
        with subprocess.Popen([*argv, "root@10.97.0.12", f'python3 -c "{code}"'], stdin=subprocess.DEVNULL) as server:
            send = (
                "import socket,time\n"
                "for _ in range(100):\n"
                "  try: s=socket.create_connection(('labu2',5001)); break\n"
                "  except OSError: time.sleep(0.1)\n"
                "t=time.time(); s.sendall(bytes(12500000)); s.shutdown(1); s.recv(1); print(time.time()-t)"
            )
            seconds = float(ssh("labu1", f'python3 -c "{send}"'))
            server.wait(timeout=10)
        # 12.5 MB at 50 Mbit/s take 2.0 s. Not less than 90 % of it; more when the machine is busy.
        assert seconds > 1.8

    def test_a_node_whose_sshd_died_is_started_again_with_its_files(self, play):
        ssh("labu1", "kill $(cat /run/sshd.pid)")
        run = play("lab_up.yml", lab_link_rate="500mbit").good()
        done = [item["done"] for item in run.results("lab_node")]
        assert any("sshd did not answer" in what for what in done[0])
        assert not any("start" in what for what in done[1])
        assert ssh("labu1", "cat /var/tmp/mine") == "one"

    def test_a_killed_node_is_started_again(self, play):
        pid = play("lab_up.yml", lab_link_rate="500mbit").good().results("lab_node")[1]["pid"]
        os.kill(pid, signal.SIGKILL)
        run = play("lab_up.yml", lab_link_rate="500mbit").good()
        assert run.results("lab_node")[1]["done"][0] == "start"
        assert ssh("labu2", "cat /proc/sys/kernel/hostname") == "labu2"

    def test_check_mode_on_a_running_lab(self, play):
        run = play("lab_up.yml", "--check", lab_link_rate="1mbit").good()
        assert all(item["changed"] for item in run.results("lab_node"))
        assert rate("tc", "-j", "qdisc", "show", "dev", "labuh1") == [500 * 10**6]
        play("lab_down.yml", "--check").good()
        assert ssh("labu1", "cat /proc/sys/kernel/hostname") == "labu1"

    def test_fewer_nodes(self, play):
        run = play("lab_up.yml", lab_nodes=1, lab_link_rate="500mbit").good()
        assert run.changed > 0
        assert not Path("/sys/class/net/labuh2").exists()
        assert not (DIR / "nodes/labu2").exists()
        assert "labu2" not in ssh("labu1", "cat /etc/hosts")
        assert list(yaml.safe_load(play.inventory.read_text())["nodes"]["hosts"]) == ["labu1"]

    def test_down_leaves_nothing(self, play):
        ssh("labu1", "setsid sleep 1000 > /dev/null 2>&1 < /dev/null &")
        ssh("labu1", f"docker run -d --network none --pid host --entrypoint sleep {IMAGE} 1000")
        assert len(traces()["cgroups"]) > 0
        assert not nothing(traces())
        run = play("lab_down.yml").good()
        assert run.changed > 0
        assert nothing(traces()), traces()
        assert not play.inventory.exists()

    def test_a_second_down_changes_nothing(self, play):
        assert play("lab_down.yml").good().changed == 0
