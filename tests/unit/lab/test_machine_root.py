"""What a node on the machine's root gets: file systems, an environment, an sshd. tests/integration/test_lab_machine.py starts some."""

import shlex
import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.lab import machine

CAPTURES = Path(__file__).parent.parent.parent / "captures" / "lab"
LABS = ["/var/lib/plumbline-lab"]


def mounts(name):
    return machine.mounts((CAPTURES / f"mountinfo.{name}.txt").read_text(), LABS)


def test_a_machine_of_one_file_system_has_next_to_nothing_to_bring():
    assert mounts("vm") == [("bind", "/mnt/tools")]  # a tmpfs


def test_file_systems_below_the_root_come_along_parents_first():
    assert mounts("gpu") == [
        ("overlay", "/var"),
        ("bind", "/data/my models"),
        ("bind", "/opt/tools"),
        ("bind", "/opt/other"),
        ("bind", "/net/share"),
        ("bind", "/usr/local/nvidia"),
        ("bind", "/usr/local/nvidia/lib64"),
    ]


def test_lines_that_are_no_mount_are_left_out():
    assert machine.parse_mounts("nonsense\n\n1 2 3\n") == []


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/usr/sbin/nothing", None), ("/tmp/sbin/sshd", "/tmp"), ("/var/lib/plumbline-lab/x", LABS[0]), ("/dev/null", "/dev"),
        ("/tmpfoo/x", None),
    ],
)  # fmt: skip
def test_what_a_node_has_of_its_own_hides_the_machines(path, own):
    assert machine.visible(path, LABS) == own


GIVEN = {
    "PATH": "/opt/torch/.venv/bin:/usr/local/nvidia/bin:relative:/usr/bin", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    "NCCL_NVLS_ENABLE": "0", "NVSHMEM_DISABLE_NVLS": "1", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "CUDA_HOME": "/usr/local/cuda",
    "CUDA_VISIBLE_DEVICES": "1", "NCCL_HOSTID": "other", "PYTHONPATH": "/x", "HF_TOKEN": "secret", "NCCL_LINES": "a\nb",
    "NCCL_ODD": 'a "b" c\\d #e $f',
}  # fmt: skip


def test_environment_carries_libraries_and_what_nccl_was_told():
    found = machine.environment(GIVEN, "lab2")
    assert found == {
        "PATH": "/opt/torch/.venv/bin:/usr/local/nvidia/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin",
        "LANG": "C.UTF-8", "NCCL_HOSTID": "lab2", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64", "NCCL_NVLS_ENABLE": "0",
        "NVSHMEM_DISABLE_NVLS": "1", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "CUDA_HOME": "/usr/local/cuda",
        "NCCL_ODD": GIVEN["NCCL_ODD"],
    }  # fmt: skip
    assert machine.environment({}, "lab1")["PATH"] == machine.SYSTEM_PATH


def test_sshd_has_all_of_it_on_its_one_line():
    text = machine.sshd_config(machine.environment(GIVEN, "lab2"))
    [line] = [line for line in text.splitlines() if line.startswith("SetEnv ")]
    assert dict(word.split("=", 1) for word in shlex.split(line)[1:]) == machine.environment(GIVEN, "lab2")
    assert "UsePAM no\n" in text
    assert "HostKey /etc/ssh/lab_hostkey\n" in text


def test_a_shell_reads_the_same():
    script = machine.exports(machine.environment(GIVEN, "lab2")) + 'printf %s "$NCCL_ODD,$NCCL_HOSTID"'
    done = subprocess.run(["/bin/sh", "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout == GIVEN["NCCL_ODD"] + ",lab2"
