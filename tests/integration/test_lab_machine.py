"""A lab on the machine's own root, with stand-ins for GPUs: real nodes, real SSH; device files and nvidia-smi are stand-ins.

What they cannot show (the driver, CUDA, NCCL) is for a machine with GPUs.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
NAME, SUBNET, MINORS = "labm", "10.95.0.0/16", (90, 91, 92)
DIR = Path("/var/lib/plumbline-lab/labm")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plumbline"

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
    pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has a real driver: stand-ins would mislead it"),
]

# Lists the device files /dev/nvidia9<n> as GPUs, as nvidia-smi -L and -q -x do.
SMI = r"""#!/bin/sh
index=0
for file in /dev/nvidia9*; do
    [ -e "$file" ] || continue
    minor=${file#/dev/nvidia}
    if [ "$1" = -L ]; then
        echo "GPU $index: NVIDIA Stand-in (UUID: GPU-stand-in-$minor)"
    else
        echo "<gpu id=\"00000000:$minor:00.0\"><uuid>GPU-stand-in-$minor</uuid><minor_number>$minor</minor_number></gpu>"
    fi
    index=$((index + 1))
done
[ "$index" -gt 0 ]
"""


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def bring_sshd(folder):
    """Bring an sshd as to a machine without packages: the machine's, else that of the lab's cached root; skip without one."""
    (folder / "lib").mkdir()
    if shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin"):
        return
    roots = sorted(CACHE.glob("rootfs-*/usr/sbin/sshd"))
    if not roots:
        pytest.skip(f"no sshd on this machine, and no root filesystem in {CACHE}: bring up a lab once")
    shutil.copy(roots[0], folder / "bin/sshd")
    listed = subprocess.run(["ldd", folder / "bin/sshd"], capture_output=True, text=True, check=False).stdout
    for name in [line.split()[0] for line in listed.splitlines() if "not found" in line]:
        for library in roots[0].parents[2].glob("usr/lib/*/" + name):
            shutil.copy(library, folder / "lib")


@pytest.fixture(scope="module")
def machine():
    """Return ``(folder, environment)`` of a machine with three stand-in GPUs; take all of it away at the end."""
    folder = Path(tempfile.mkdtemp(prefix="plumbline-", dir="/var/tmp"))  # /tmp is a node's own
    folder.chmod(0o755)
    devices = [Path(f"/dev/nvidia{minor}") for minor in MINORS] + [Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm")]
    try:
        program(folder / "bin/nvidia-smi", SMI)
        program(folder / "env/bin/vllm", "#!/bin/sh\n")
        bring_sshd(folder)
        env = dict(os.environ, PATH=f"{folder}/bin:{os.environ['PATH']}", LD_LIBRARY_PATH=str(folder / "lib"), NCCL_NVLS_ENABLE="0")
        env.update(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), CUDA_VISIBLE_DEVICES="7")
        said = subprocess.run(["sshd", "-V"], env=dict(env, PATH=env["PATH"] + ":/usr/sbin"), capture_output=True, text=True, check=False)
        if "OpenSSH" not in said.stdout + said.stderr:
            pytest.skip(f"no sshd that runs here: {said.stderr}")
        for device in devices:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # /dev/null by another name
        yield folder, env
    finally:
        playbook("lab_down.yml", dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")))
        for device in devices:
            device.unlink(missing_ok=True)
        shutil.rmtree(folder)


def playbook(name, env, **variables):
    words = [f"-e{key}={value}" for key, value in dict(lab_name=NAME, lab_subnet=SUBNET, **variables).items()]
    return subprocess.run(["ansible-playbook", f"playbooks/{name}", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def ssh(address, command):
    argv = ["ssh", "-i", str(DIR / "id_ed25519"), "-o", f"UserKnownHostsFile={DIR}/known_hosts", "-o", "ControlPath=none"]
    done = subprocess.run(
        [*argv, "-o", "BatchMode=yes", f"root@{address}", command], capture_output=True, text=True, check=False, timeout=60
    )
    return (done.stdout + done.stderr).strip()


ONE, TWO = "10.95.0.11", "10.95.0.12"


def test_what_is_missing_is_said_at_once(machine):
    folder, env = machine
    done = playbook("lab_up.yml", env, lab_nodes=2, lab_gpu_env="/nowhere", lab_sshd=folder / "bin/none")
    assert done.returncode != 0
    assert "there is no program /nowhere/bin/vllm" in done.stdout
    assert "bin/none, which is no program" in done.stdout
    done = playbook("lab_up.yml", env, lab_nodes=4, lab_gpu_env=folder / "env")
    assert "lab_nodes is 4, but there are only 3 GPUs" in done.stdout
    assert not DIR.exists()


def test_up(machine):
    folder, env = machine
    done = playbook("lab_up.yml", env, lab_nodes=2, lab_gpu_env=folder / "env")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "labm1 has NVIDIA Stand-in: 0, 1 of this machine, 0 to 1 in the node" in done.stdout


def test_each_node_sees_its_own_gpus_and_can_make_no_device():
    assert ssh(ONE, "nvidia-smi -L") == ("GPU 0: NVIDIA Stand-in (UUID: GPU-stand-in-90)\nGPU 1: NVIDIA Stand-in (UUID: GPU-stand-in-91)")
    assert ssh(TWO, "nvidia-smi -L") == "GPU 0: NVIDIA Stand-in (UUID: GPU-stand-in-92)"
    assert "Operation not permitted" in ssh(TWO, "mknod /tmp/device c 1 3")
    assert int(ssh(TWO, "grep CapBnd /proc/self/status").split()[1], 16) & 1 << 27 == 0


def test_nodes_have_folders_of_their_own_and_do_not_see_the_labs():
    assert ssh(ONE, "touch /usr/bin/labm-was-here && ls /usr/bin/labm-was-here") == "/usr/bin/labm-was-here"
    assert not Path("/usr/bin/labm-was-here").exists()
    assert "No such file" in ssh(TWO, "ls /usr/bin/labm-was-here")
    assert ssh(ONE, "ls -A /var/lib/plumbline-lab /tmp /var/lib/plumbline /dev/shm") == (
        "/dev/shm:\n\n/tmp:\n\n/var/lib/plumbline:\n\n/var/lib/plumbline-lab:"
    )
    assert ssh(ONE, "stat -f -c %S:%b /dev/shm; ls /sys/class/net; cat /etc/hostname").split() == ["4096:4194304", "eth0", "lo", "labm1"]
    assert len({ssh(ONE, "cat /etc/machine-id"), ssh(TWO, "cat /etc/machine-id")}) == 2


def test_the_environment_reaches_programs(machine):
    seen = dict(line.split("=", 1) for line in ssh(TWO, "env").splitlines() if "=" in line)
    assert (seen["NCCL_HOSTID"], seen["NCCL_NVLS_ENABLE"], seen["LD_LIBRARY_PATH"]) == ("labm2", "0", str(machine[0] / "lib"))
    assert "CUDA_VISIBLE_DEVICES" not in seen


def test_the_inventory_says_how_many_and_reaches_them(machine):
    nodes = yaml.safe_load((DIR / "hosts.yml").read_text())["nodes"]
    assert [host["gpu_share"] for host in nodes["hosts"].values()] == [2, 1]
    assert (nodes["vars"]["preflight_expected_nodes"], nodes["vars"]["gpu_share_least"]) == (2, 1)
    argv = ["ansible", "-i", str(DIR / "hosts.yml"), "nodes", "-m", "ansible.builtin.ping"]
    subprocess.run(argv, check=True, capture_output=True, cwd=ROOT, timeout=120, env=machine[1])


def test_a_second_up_changes_nothing(machine):
    folder, env = machine
    done = playbook("lab_up.yml", env, lab_nodes=2, lab_gpu_env=folder / "env")
    assert "changed=0 " in done.stdout, done.stdout[-3000:]


def test_down_leaves_nothing(machine):
    assert playbook("lab_down.yml", machine[1]).returncode == 0
    assert not DIR.exists()
    assert not [name for name in os.listdir("/sys/class/net") if name.startswith(NAME)]
    assert not [path for path in Path("/sys/block").glob("loop*/loop/backing_file") if f"/{NAME}/" in path.read_text()]
