"""The image from the head: roles/vllm_serve/tasks/image.yml in plays of nodes that are this machine, each with a stand-in of an engine.

Their folder is one and the same, so that the copy finds everything there; that it copies is shown in tests/integration/test_containers.py.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading

import pytest
import yaml
from engine_stand_in import ID, Server, StandInEngine
from play_run import results, run_playbook

TAG = "plumbline/small:lab"
IMAGE = {"Id": ID, "RepoDigests": [], "Size": 1000, "Config": {"Env": []}}
NODES = ["node1", "node2", "node3", "node4"]
BRING = "Bring " + TAG


class Nodes:
    """Engines by node, what they are told, and the run of plays over them."""

    def __init__(self, folder, stack):
        self.folder, self.told = folder, {}
        for name in NODES:
            told = {
                "info": {"DockerRootDir": str(folder)},
                "images": {},
                "lines": [{"stream": "Loaded\n"}],
                "asked": [],
                "archive": b"layers",
            }
            told.update(after={ID: IMAGE}, socket=str(folder / (name + ".sock")))
            server = stack.enter_context(Server(told["socket"], StandInEngine))
            server.told = self.told[name] = told
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)

    def play(self, *plays, cmdline="", groups=None, **more):
        """Run the tasks in one play for each list of nodes; ``groups`` are others of the inventory."""
        hosts = {
            name: {
                "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "socket": self.told[name]["socket"],
                "ansible_async_dir": str(self.folder / "async"),
            }
            for name in NODES
        }  # fmt: skip
        options = {"socket": "{{ socket }}", "progress": str(self.folder / "progress-{{ inventory_hostname }}")}
        role = {"name": "vllm_serve", "tasks_from": "image", "rolespec_validate": False}
        playbook = [
            {
                "name": "Bring the image to %s" % nodes, "hosts": nodes, "gather_facts": False, "ignore_errors": True,
                "module_defaults": {"container_image": options, "container_archive": options},
                "tasks": [{"name": "Bring", "ansible.builtin.include_role": role}],
            }
            for nodes in plays
        ]  # fmt: skip
        (self.folder / "playbook.yml").write_text(yaml.safe_dump(playbook))
        cmdline += " --forks 1"  # they share a folder, and remove it
        inventory = {"all": {"hosts": hosts, "children": {name: {"hosts": dict.fromkeys(own)} for name, own in (groups or {}).items()}}}
        variables = {
            "vllm_serve_image": TAG, "vllm_serve_image_pull": "never", "vllm_serve_image_source": "head", "vllm_serve_gpus": False,
            "vllm_serve_image_dir": str(self.folder / "images"),
        }  # fmt: skip
        return run_playbook(self.folder, str(self.folder / "playbook.yml"), inventory, cmdline, "spread", **{**variables, **more})

    def incidents(self):
        path = self.folder / "results/spread/incidents.json"
        return json.loads(path.read_text()) if path.exists() else []


@pytest.fixture
def nodes(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Nodes(tmp_path, stack)


def brought(run):
    """Return ``[(node, whether it failed, image's id)]`` of what the plays ended with, in order."""
    found = [event["event_data"] for event in run.events if event["event_data"].get("task") == BRING and "res" in event["event_data"]]
    return [
        (data["host"], any(item["status"] == "failed" for item in data["res"]["reasons"]), *(item["Id"] for item in data["res"]["images"]))
        for data in found
    ]


def said(run):
    return "\n".join(event.get("stdout", "") for event in run.events)[-6000:]


def test_the_first_that_serves_hands_it_to_those_that_lack_it_and_later_plays_find_it_by_its_id(nodes):
    """And the model's variables of the command line are the model's, not the image's."""
    nodes.told["node3"]["images"].update({TAG: IMAGE, ID: IMAGE})
    nodes.told["node2"]["images"][ID] = IMAGE
    nodes.told["node4"]["socket"] = str(nodes.folder / "no-engine")
    model = nodes.folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    other = nodes.folder / "images" / ("image-" + "d0" * 6)  # as both runs would call it, were it not the run's own
    other.mkdir(parents=True)
    run = nodes.play(
        "node1,node2,node3,node4", "node1,node2", "node2", groups={"serving": ["node3", "node4", "node1", "node2"]},
        model_sync_path=str(model), model_sync_source="random", model_sync_timeout_s=1,
    )  # fmt: skip
    taken = [("node1", False, ID), ("node2", False, ID), ("node3", False, ID), ("node4", True)]
    assert sorted(brought(run)[:4]) == taken and sorted(brought(run)[4:6]) == taken[:2] and brought(run)[6:] == taken[1:2], said(run)
    assert [len(nodes.told[name]["asked"]) for name in NODES] == [1, 0, 0, 0], "who lacks it takes it once"
    assert nodes.told["node1"]["loaded"] == b"layers" and list((nodes.folder / "images").iterdir()) == [other]
    assert str(nodes.folder / "images" / "run-spread") in str(results(run, "Remove the file"))
    facts = {path.parent.name: json.loads(path.read_text()) for path in (nodes.folder / "results/spread/facts").rglob("*.json")}
    assert {name: (fact["name"], fact["status"]) for name, fact in facts.items()} == dict.fromkeys(
        ("node1", "node3"), ("plumbline_image_" + "d0" * 6, "healthy")
    )
    assert [path.name for path in model.iterdir()] == ["config.json"]
    assert {item["host"] for item in nodes.incidents()} == {"node4"}


def test_where_the_head_cannot_write_it_each_node_asks_the_registry_and_none_is_called_failed(nodes):
    nodes.told["node1"]["images"].update({TAG: IMAGE, ID: IMAGE})
    (nodes.folder / "images").write_text("no folder")
    nodes.told["node2"].update(after={TAG: IMAGE}, lines=[{"status": "Status: Downloaded"}])
    run = nodes.play("node1,node2", vllm_serve_image_pull="missing")
    assert sorted(brought(run)) == [("node1", False, ID), ("node2", False, ID)], said(run)
    assert [item[0] for item in nodes.told["node2"]["asked"]] == [{"fromImage": ["plumbline/small"], "tag": ["lab"]}]
    assert nodes.incidents() == [] and not list((nodes.folder / "results/spread").rglob("model.*"))


def test_check_mode_fails_no_node_that_the_head_would_hand_it_to(nodes):
    nodes.told["node1"]["images"].update({TAG: IMAGE, ID: IMAGE})
    run = nodes.play("node1,node2", cmdline="--check")
    assert run.rc == 0 and sorted(brought(run)) == [("node1", False, ID), ("node2", False)], said(run)
    assert "would be handed on by node1" in str(results(run, BRING)) and nodes.told["node2"]["asked"] == []
    assert not (nodes.folder / "images").exists()
