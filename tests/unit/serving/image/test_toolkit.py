"""Whether an engine can give a container GPUs: what ``docker info`` says of real machines, and what lies in the engine's PATH.

The fields are those of real machines, from the API's ``/info`` or from ``docker info``, which shows the same:

- TOOLKIT_28: nvidia-container-toolkit 1.17.8 with Docker 28.2.0 (github.com/ssst0n3/docker_archive, ``docker info``)
- TOOLKIT_29: Docker 29.3.0 with default runtime nvidia (``docker info`` in the documentation of an MLOps platform)
- PLAIN_20: Docker 20.10.8 on Ubuntu 21.04 without GPUs (``/info``)
- LAB: Docker 20.10.24 of Debian 12 (``/info`` of a node of the lab)
- TOOLKIT_27: a machine on which ``--gpus`` failed: NVIDIA/nvidia-container-toolkit issue 854 has the toolkit, and runtime nvidia
"""

from __future__ import annotations

import os
import stat

import pytest
from ansible.module_utils.plumbline.serving.image import toolkit

CDI = [{"Source": "cdi", "ID": "nvidia.com/gpu=%s" % name} for name in ("0", "1", "GPU-0-FAKE-UUID", "all")]
RUNC = {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}}
NVIDIA = dict(RUNC, nvidia={"path": "nvidia-container-runtime"})
DIRS = ["/etc/cdi", "/var/run/cdi"]
TOOLKIT_28 = {"ServerVersion": "28.2.0", "Runtimes": NVIDIA, "DefaultRuntime": "runc", "CDISpecDirs": DIRS, "DiscoveredDevices": CDI}
TOOLKIT_29 = {"ServerVersion": "29.3.0", "Runtimes": NVIDIA, "DefaultRuntime": "nvidia", "DiscoveredDevices": CDI}
TOOLKIT_27 = {"ServerVersion": "27.4.1", "Runtimes": NVIDIA, "DefaultRuntime": "runc"}
PLAIN_20 = {
    "ServerVersion": "20.10.8",
    "Runtimes": dict(RUNC, **{"io.containerd.runtime.v1.linux": {"path": "runc"}}),
    "DefaultRuntime": "runc",
}
LAB = {"ServerVersion": "20.10.24+dfsg1", "Runtimes": RUNC, "DefaultRuntime": "without-sys-resource"}


def found(**given):
    return {"engine": True, "hook": "", "cdi_hook": "", "newer": False, "version": "1.17.8", **given}


HOOK = "/usr/bin/nvidia-container-runtime-hook"


@pytest.mark.parametrize("info", [TOOLKIT_28, TOOLKIT_29, TOOLKIT_27, LAB])
def test_an_engine_with_the_hook_gives_gpus_whatever_its_runtimes(info):
    reason = toolkit.judge(info, found(hook=HOOK))
    assert reason["status"] == "healthy" and HOOK in reason["seen"] and "toolkit 1.17.8" in reason["seen"]


@pytest.mark.parametrize("info", [PLAIN_20, TOOLKIT_27, {}])
def test_an_engine_without_the_hook_is_named_with_what_to_install(info):
    reason = toolkit.judge(info, found(version=""))
    assert reason["status"] == "failed" and "no nvidia-container-runtime-hook" in reason["seen"]
    assert "nvidia-ctk runtime configure --runtime=docker" in reason["remedy"] and "restart docker" in reason["remedy"]


def test_a_runtime_alone_gives_no_gpus():
    # nvidia-container-toolkit-base: the runtime is there and configured, the hook is not.
    reason = toolkit.judge(TOOLKIT_27, found(cdi_hook="/usr/bin/nvidia-cdi-hook"))
    assert reason["status"] == "failed" and "runtimes io.containerd.runc.v2, nvidia, runc" in reason["seen"]


def test_cdi_alone_does_since_29_where_its_devices_are_known():
    assert toolkit.judge(TOOLKIT_29, found(cdi_hook="/usr/bin/nvidia-cdi-hook"))["status"] == "healthy"
    reason = toolkit.judge(dict(TOOLKIT_29, DiscoveredDevices=[{"Source": "cdi", "ID": "docker.com/gpu=webgpu"}], CDISpecDirs=DIRS),
                           found(cdi_hook="/usr/bin/nvidia-cdi-hook"))  # fmt: skip
    assert reason["status"] == "failed" and "nvidia-ctk cdi generate" in reason["remedy"] and "/etc/cdi" in reason["seen"]
    assert toolkit.judge(TOOLKIT_28, found(cdi_hook="/usr/bin/nvidia-cdi-hook"))["status"] == "failed", (
        "28 has devices, but --gpus needs the hook"
    )


def test_a_hook_that_came_after_the_engine_started_is_said_unless_the_engine_was_configured_for_it():
    reason = toolkit.judge(PLAIN_20, found(hook=HOOK, newer=True))
    assert reason["status"] == "degraded" and "newer than the running engine" in reason["seen"] and "restart" in reason["remedy"]
    assert toolkit.judge(TOOLKIT_28, found(hook=HOOK, newer=True))["status"] == "healthy", "an update of the toolkit"


def test_an_engine_whose_process_is_not_here_is_not_judged():
    reason = toolkit.judge(TOOLKIT_27, found(engine=False))
    assert reason["status"] == "skipped" and "cannot be seen" in reason["seen"]


def program(path, text="#!/bin/sh\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """A /proc with an engine of pid 77 that started ten minutes after boot, and its PATH."""
    monkeypatch.setattr(toolkit.processes, "environment_of", lambda pid: {"PATH": str(tmp_path / "bin")} if pid == 77 else {})
    ticks = 600 * os.sysconf("SC_CLK_TCK")
    program(tmp_path / "proc/77/comm", "dockerd\n")
    program(tmp_path / "proc/77/stat", "77 (docker d) S " + " ".join(["0"] * 18) + " %d 0 0" % ticks)
    program(tmp_path / "proc/78/comm", "sshd\n")
    (tmp_path / "proc/77/root").symlink_to("/")
    return tmp_path


def look(proc):
    return toolkit.look(str(proc / "run/docker.sock"), str(proc / "proc"))


def boot(proc, seconds):
    program(proc / "proc/stat", "cpu 1 2\nbtime %d\n" % seconds)


def test_the_toolkit_is_looked_for_where_the_engine_looks(proc):
    hook = program(proc / "bin/nvidia-container-runtime-hook")
    program(
        proc / "bin/nvidia-ctk",
        "#!/bin/sh\necho 'NVIDIA Container Toolkit CLI version 1.17.8'\necho 'commit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d'\n",
    )
    born = os.stat(hook).st_ctime
    boot(proc, born + 3600)
    assert look(proc) == {"engine": True, "hook": str(hook), "cdi_hook": "", "version": "1.17.8", "newer": False}
    boot(proc, born - 3600)
    assert look(proc)["newer"] is True


def test_an_engine_with_a_root_of_its_own_does_not_see_the_machines_hook(proc):
    # As from a snap; NVIDIA/nvidia-container-toolkit issue 854 has the toolkit, the runtime, and an engine that cannot select a driver.
    program(proc / "bin/nvidia-container-runtime-hook")
    boot(proc, 0)
    (proc / "proc/77/root").unlink()
    (proc / "proc/77/root").mkdir()
    assert look(proc)["hook"] == ""


@pytest.fixture
def nested(proc):
    """An engine in a container, docker-in-docker, with a pid lower than that of the node's own engine."""
    program(proc / "proc/12/comm", "dockerd\n")
    program(proc / "proc/12/stat", "12 (dockerd) S " + " ".join(["0"] * 18) + " 5 0 0")
    (proc / "proc/12/root").mkdir()
    program(proc / "run/docker.pid", "77")
    hook = program(proc / "bin/nvidia-container-runtime-hook")
    boot(proc, os.stat(hook).st_ctime + 3600)
    return proc


def test_the_engine_is_the_one_whose_pid_lies_beside_its_socket(nested):
    assert look(nested)["hook"].endswith("nvidia-container-runtime-hook"), "and not the one in a container, which sees no hook"


@pytest.mark.parametrize("stale", [None, "", "78", "4711", "x"])
def test_without_that_pid_an_engine_of_this_node_goes_before_one_in_a_container(nested, stale):
    (nested / "run/docker.pid").unlink()
    if stale is not None:
        program(nested / "run/docker.pid", stale)
    program(nested / "proc/12/status", "Name:\tdockerd\nNSpid:\t12\t1\n")
    program(nested / "proc/77/status", "Name:\tdockerd\nNSpid:\t77\n")
    assert look(nested)["hook"].endswith("nvidia-container-runtime-hook")


def test_without_engine_and_toolkit_nothing_is_found(proc):
    program(proc / "proc/77/comm", "podman\n")
    seen = look(proc)
    assert seen["engine"] is False and seen["newer"] is False


def test_a_toolkit_that_does_not_answer_has_no_version(proc):
    program(proc / "bin/nvidia-ctk", "#!/bin/sh\nexit 1\n").chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert look(proc)["version"] == ""
