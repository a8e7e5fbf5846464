"""One layout on its nodes: what the tasks of ``roles/vllm_serve`` are told before its turn, and what is known after each step.

``result`` below is what Ansible registers of a task: a dictionary, of a loop with ``results``, one for each node with ``item``, its name.
A module of ours puts its own into it; one that failed, or whose node was gone, has a ``msg``.
"""

from __future__ import annotations

from ..core.fact import PASSING
from ..serving.command import checked_layout, native, ranks_on
from . import unreachable

ALL_GPUS = [{"count": -1, "capabilities": [["gpu"]]}]


def plan(given):
    """Return what the tasks of one layout need, from the arguments of the action ``layout_plan``; its RETURN describes each.

    A layout for which nodes are missing gets none at all, so that nothing is started for a layout that cannot be.
    """
    layout, docker = checked_layout(given["layout"]), given["runtime"] == "docker"
    nodes, executor = layout["nodes"], layout.get("executor")
    if executor not in ("ray", "mp"):
        raise ValueError("layout %s: executor is %r, expected ray or mp" % (layout["name"], executor))
    hosts = list(given["hosts"][:nodes]) if len(given["hosts"]) >= nodes else []
    containers = hosts if docker else []
    ids = [image_id(info) for info in given["image_infos"][: len(containers)]]
    image = next(filter(None, ids), "")
    cache = "%s/%s" % (given["cache_dir"], image.split(":")[-1][:12] if image else "host")
    return {
        # Programs are a path on the node, or a name on the image's PATH. Containers are named after their layout.
        "program": "vllm" if docker else given["venv"] + "/bin/vllm",
        "ray_program": "ray" if docker else given["venv"] + "/bin/ray",
        "container": "plumbline-%s" % layout["name"] if docker else "",
        "hosts": hosts,
        "container_hosts": containers,
        "ray_hosts": hosts if executor == "ray" else [],
        "worker_hosts": hosts[1:] if executor == "mp" else [],
        "slots": ranks_on(layout),
        "ports": ports(layout, given),
        "env": environment(cache, given["topology_file"]),
        "volumes": ["%s:%s" % (path, path) for path in (given["work_dir"], given["cache_dir"])] + list(given["volumes"]),
        "mounts": mounts(given["model"], given["topology_file"]),
        "device_requests": ALL_GPUS if given["gpus"] else [],
        "context": {"image": given["image"], "image_id": image} if docker else {},
        "image_problems": image_problems(given["image"], containers, ids),
        "layout_dir": "%s/%s" % (given["work_dir"], layout["name"]),
    }


def image_id(info):
    """Return the id in what ``docker_image_info`` registered; a node without the image has none, ``""``, and its container says so."""
    images = (info or {}).get("images") or [{}]
    return images[0].get("Id") or ""


def image_problems(image, hosts, ids):
    """Return a sentence where the ``hosts`` have different images under one name; ``ids`` in the same order, ``""`` for none."""
    if len(set(filter(None, ids))) < 2:
        return []
    found = ", ".join("%s %s" % pair for pair in zip(hosts, ids))
    return ["the nodes have different images under the name %s: %s; give it by digest" % (image, found)]


def ports(layout, given):
    """Return the ports that the head must have free, by the end of their variables' names."""
    found = {"port": given["port"]}
    if layout["executor"] == "ray":
        found["ray_port"] = given["ray_port"]
    if native(layout):
        found["master_port"] = given["master_port"]
    return found


def environment(cache, topology_file):
    """Return what every program of a layout gets under the variables of the role and the layout, which win.

    ``cache`` is one folder for each image, since a compiled graph belongs to the code that made it.
    """
    return {"VLLM_CACHE_ROOT": cache, **({"NCCL_TOPO_FILE": topology_file} if topology_file else {})}


def mounts(*paths):
    """Return the mounts of what must be there already: a volume of a missing folder would be made, empty."""
    return [{"type": "bind", "source": path, "target": path, "read_only": True} for path in paths if path]


def prepared(results, layout_plan):
    """Say what came of making the nodes ready: ``{"ready": bool, "problems": [sentence], "reasons": [fact.reason]}``.

    ``results`` are those of the loops that may fail, in their order, ``layout_plan`` is what :func:`plan` returned. Problems are what
    went wrong, reasons what ``serve_node`` saw. Ready is a layout in which neither keeps a server from being started.
    """
    items = [item for result in results for item in (result or {}).get("results") or ()]
    problems = list(layout_plan["image_problems"])
    problems += ["%s: %s" % (item.get("item", "a node"), unreachable.said(item)) for item in items if "msg" in item]
    reasons = [reason for item in items for reason in item.get("reasons") or ()]
    bad = [reason for reason in reasons if reason["status"] in ("failed", "incomplete")]
    return {"ready": not problems and not bad, "problems": problems, "reasons": reasons}


def ended(layout, layouts, keep, startup, benchmark):
    """Say how a layout's turn ended: ``{"kept": bool, "last_fact": fact or {}}``.

    ``startup`` and ``benchmark`` are the results of its server and its benchmark. Kept is a layout that stays up: asked for
    (``keep``), the last of ``layouts``, and start and benchmark passed. Both must be this layout's: what the layout before registered
    is still there when this one stopped early. The last fact is the benchmark's, or the start's when that is all there is.
    """
    found = [(result or {}).get("fact") or {} for result in (startup, benchmark)]
    ready = bool((startup or {}).get("ready"))
    passed = [fact for fact in found if fact.get("status") in PASSING and fact.get("context", {}).get("layout") == layout["name"]]
    last = bool(layouts) and layout["name"] == layouts[-1]["name"]
    return {"kept": bool(keep) and last and ready and len(passed) == 2, "last_fact": found[1] if ready else found[0]}
