"""The nodes' Docker engines: the shared store, cgroups, the engine's answers and the runtime for machines that lack a privilege."""

from __future__ import annotations

import http.server
import json
import os
import resource
import socketserver
import threading
import types
from pathlib import Path

import lab_node
import pytest
from ansible.module_utils.plumbline.lab import cgroups as lab_cgroups
from ansible.module_utils.plumbline.lab import engine as lab_engine
from ansible.module_utils.plumbline.lab import store as lab_store
from project import ROOT

ENGINE = ROOT / "roles/lab/files/engine"


def write(path, text="x", mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def imported(tmp_path):
    """A store as an engine leaves it after importing a system and an environment, and those two."""
    for base in (tmp_path / "rootfs", tmp_path / "folder/store/overlay2/f2a7/diff"):
        write(base / "etc/same", "same")
        write(base / "usr/bin/tool", "tool", 0o755)
        (base / "bin").symlink_to("usr/bin")
    for base in (tmp_path / "env", tmp_path / "folder/store/overlay2/f2a7/diff/opt/plumbline/vllm"):
        write(base / "bin/vllm", "vllm", 0o755)
    write(tmp_path / "folder/store/overlay2/f2a7/link", "SHORT")
    (tmp_path / "folder/store/overlay2/l").mkdir()
    (tmp_path / "folder/store/overlay2/l/SHORT").symlink_to("../f2a7/diff")
    write(tmp_path / "folder/store/image/overlay2/repositories.json", "{}")
    write(tmp_path / "folder/store/containerd/daemon/state")
    write(tmp_path / "folder/store/engine-id")
    return tmp_path


def share(base):
    where = [str(base / name) for name in ("folder", "mounted", "rootfs", "env")]
    return lab_store.share_layers(where[0], where[1], where[2], "/opt/plumbline/vllm", where[3])


def test_a_shared_store_keeps_the_records_and_links_the_files(imported):
    saved = share(imported)
    folder = imported / "folder"
    assert sorted(os.listdir(folder / "store")) == ["image", "overlay2"]
    assert os.readlink(folder / "store/overlay2/f2a7/diff") == str(imported / "mounted/layers/f2a7")
    assert saved == len("same" + "tool" + "vllm")
    assert os.path.samefile(folder / "layers/f2a7/opt/plumbline/vllm/bin/vllm", imported / "env/bin/vllm")
    assert os.path.samefile(folder / "layers/f2a7/usr/bin/tool", imported / "rootfs/usr/bin/tool")
    assert os.readlink(folder / "layers/f2a7/bin") == "usr/bin"
    # What a node sees once the folder is mounted where the link points.
    (imported / "mounted").symlink_to(folder)
    assert (folder / "store/overlay2/l/SHORT/etc/same").read_text() == "same"


def test_a_file_that_an_import_changed_stays_its_own(imported):
    changed = write(imported / "rootfs/etc/same", "same", 0o600)
    longer = write(imported / "env/bin/vllm", "another", 0o755)
    share(imported)
    layer = imported / "folder/layers/f2a7"
    assert not os.path.samefile(layer / "etc/same", changed)
    assert not os.path.samefile(layer / "opt/plumbline/vllm/bin/vllm", longer)
    assert (layer / "opt/plumbline/vllm/bin/vllm").read_text() == "vllm"


def test_a_store_with_more_than_one_layer_is_refused(imported):
    (imported / "folder/store/overlay2/0123/diff").mkdir(parents=True)
    with pytest.raises(lab_store.StoreError, match=r"2 layers, expected 1: 0123, f2a7"):
        share(imported)


def test_the_record_is_the_entry_of_repositories_json(tmp_path):
    lab_store.write_record(str(tmp_path), "plumbline/vllm-cpu:lab", "sha256:4aa5")
    text = (tmp_path / "record").read_text()
    # Go writes JSON without spaces; start-engine looks for this very text.
    assert text in json.dumps({"Repositories": {"plumbline/vllm-cpu": {"plumbline/vllm-cpu:lab": "sha256:4aa5"}}}, separators=(",", ":"))
    assert lab_store.recorded(str(tmp_path)) == ("plumbline/vllm-cpu:lab", "sha256:4aa5")
    assert lab_store.recorded(str(tmp_path / "none")) == (None, None)


def cgroups(root, version, names=("devices", "memory")):
    for folder in [root] if version == 2 else [root / name for name in names]:
        write(folder / "cgroup.procs", "")
        if version == 2:
            write(folder / "cgroup.controllers", "memory")
    return str(root)


@pytest.mark.parametrize("version", [1, 2])
def test_a_machine_with_cgroups_carries_engines(tmp_path, version):
    root = cgroups(tmp_path / "cgroup", version)
    before = sorted(path for path in Path(root).rglob("*"))
    assert lab_cgroups.lacks(root) is None
    assert sorted(path for path in Path(root).rglob("*")) == before
    assert len(lab_cgroups.hierarchies(root)) == (1 if version == 2 else 2)


def test_two_names_of_one_hierarchy_count_once(tmp_path):
    root = cgroups(tmp_path, 1, ("cpu,cpuacct", "devices"))
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    assert [os.path.basename(path) for path in lab_cgroups.hierarchies(root)] == ["cpu,cpuacct", "devices"]


def test_a_machine_without_cgroups_is_told_so(tmp_path, monkeypatch):
    assert lab_cgroups.lacks(str(tmp_path / "none")) == f"no cgroups are mounted at {tmp_path}/none"
    assert "devices cgroup is not mounted" in lab_cgroups.lacks(cgroups(tmp_path / "some", 1, ("memory",)))
    root = cgroups(tmp_path / "readonly", 2)

    def refuse(path, *_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    assert lab_cgroups.lacks(root) == f"cannot make a cgroup in {root}: Read-only file system"


def test_only_the_named_nodes_cgroups_are_removed(tmp_path):
    root = cgroups(tmp_path, 1)
    for name in ("plumbline-labh1/c0ffee", "plumbline-labh12", "plumbline-lab1h1", "docker"):
        for hierarchy in ("devices", "memory"):
            (tmp_path / hierarchy / name).mkdir(parents=True)
    lab_cgroups.remove("labh1", 0, root)
    assert lab_cgroups.left("labh1", root) == []
    assert [os.path.basename(path) for path in lab_cgroups.left("labh[0-9]+", root)] == ["plumbline-labh12"] * 2
    lab_cgroups.remove("labh[0-9]+", 0, root)
    assert sorted(os.listdir(tmp_path / "memory")) == ["cgroup.procs", "docker", "plumbline-lab1h1"]


def test_a_cgroup_still_in_use_is_an_error(tmp_path):
    root = cgroups(tmp_path, 2)
    write(tmp_path / "plumbline-labh1/held")  # rmdir fails, as with a process in it
    with pytest.raises(lab_cgroups.lab_host.HostError, match="plumbline-labh1 are still in use"):
        lab_cgroups.remove("labh1", 0, root)


class Answers(http.server.BaseHTTPRequestHandler):
    """An engine that knows one image."""

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        found = self.path in ("/_ping", "/images/plumbline/vllm-cpu%3Alab/json")
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"Id": "sha256:4aa5"}).encode())

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"


@pytest.fixture
def socket_path(tmp_path, monkeypatch):
    """A Unix socket below this process's own root, where the engine's would be."""
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(lab_engine, "SOCKET", str(path))
    return path


def test_an_engine_is_asked_through_its_socket(socket_path):
    with socketserver.UnixStreamServer(str(socket_path), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ask = lambda *expected: lab_engine.lacks(os.getpid(), *expected)  # noqa: E731
        assert ask() is None
        assert ask("plumbline/vllm-cpu:lab", "sha256:4aa5") is None
        assert "with another id, sha256:4aa5" in ask("plumbline/vllm-cpu:lab", "sha256:0000")
        assert ask("other:lab", "sha256:4aa5") == "its Docker engine lacks the image other:lab"
        server.shutdown()


def test_a_dead_engine_does_not_answer(socket_path):
    assert lab_engine.lacks(os.getpid()) == "its Docker engine did not answer"
    with socketserver.UnixStreamServer(str(socket_path), Answers):
        pass  # bound once, closed now: the file stays, as a killed engine's does
    assert socket_path.exists()
    assert lab_engine.lacks(os.getpid(), "a", "b") == "its Docker engine did not answer"


def test_a_changed_engine_script_restarts_nodes(tmp_path):
    write(tmp_path / "start-engine", "one")
    before = lab_node.digest(str(tmp_path))
    write(tmp_path / "start-engine", "two")
    assert lab_node.digest(str(tmp_path)) != before
    assert lab_node.digest("") is None


@pytest.fixture(scope="module")
def runtime():
    """The runtime wrapper as a module."""
    path = ENGINE / "runc-without-sys-resource"
    module = types.ModuleType("runc_wrapper")
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)  # an import would leave bytecode beside it
    return module


def test_the_runtime_takes_only_what_runc_would_refuse(runtime, monkeypatch):
    hard = {resource.RLIMIT_MEMLOCK: 8388608, resource.RLIMIT_STACK: resource.RLIM_INFINITY, resource.RLIMIT_NOFILE: 65536}
    monkeypatch.setattr(resource, "getrlimit", lambda number: (1, hard[number]))
    process = {
        "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"], "effective": ["CAP_SYS_RESOURCE"], "ambient": None},
        "rlimits": [
            {"type": "RLIMIT_MEMLOCK", "hard": 2**64 - 1, "soft": 2**64 - 1},
            {"type": "RLIMIT_STACK", "hard": 67108864, "soft": 67108864},
            {"type": "RLIMIT_NOFILE", "hard": 1048576, "soft": 1024},
            {"type": "RLIMIT_UNHEARD_OF", "hard": 1, "soft": 1},
        ],
        "oomScoreAdj": -500,
    }
    runtime.adapt(process)
    assert process["capabilities"] == {"bounding": ["CAP_KILL"], "effective": [], "ambient": None}
    assert process["rlimits"] == [
        {"type": "RLIMIT_MEMLOCK", "hard": 8388608, "soft": 8388608},
        {"type": "RLIMIT_STACK", "hard": 67108864, "soft": 67108864},
        {"type": "RLIMIT_NOFILE", "hard": 65536, "soft": 1024},
    ]
    assert process["oomScoreAdj"] == 0


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["--root", "/r", "create", "--bundle", "{}", "id"], "config.json"),
        (["create", "--bundle={}", "id"], "config.json"),
        (["exec", "--process", "{}/process.json", "id"], "process.json"),
        (["state", "id"], None),
    ],
)
def test_the_runtime_becomes_runc_with_the_same_words(runtime, tmp_path, monkeypatch, arguments, changed):
    process = {"args": ["sleep"], "oomScoreAdj": -1}
    write(tmp_path / "config.json", json.dumps({"process": process, "root": {"path": "rootfs"}}))
    write(tmp_path / "process.json", json.dumps(process))
    words = [word.format(tmp_path) for word in arguments]
    became = []
    monkeypatch.setattr(os, "execv", lambda path, argv: became.append((path, argv)))
    runtime.main(words)
    assert became == [("/usr/sbin/runc", ["runc", *words])]
    seen = {
        "config.json": json.loads((tmp_path / "config.json").read_text())["process"]["oomScoreAdj"],
        "process.json": json.loads((tmp_path / "process.json").read_text())["oomScoreAdj"],
    }
    assert [name for name, score in seen.items() if score == 0] == ([changed] if changed else [])
    assert json.loads((tmp_path / "config.json").read_text())["root"] == {"path": "rootfs"}
