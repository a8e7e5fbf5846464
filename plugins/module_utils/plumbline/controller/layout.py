"""One layout on its nodes: what the tasks of ``roles/vllm_serve`` are told before its turn, and what is known after each step.

``result`` below is what Ansible registers of a task: a dictionary, of a loop with ``results``, one for each node with ``item``, its name.
A module of ours puts its own into it; one that failed, or whose node was gone, has a ``msg``.
"""

from __future__ import annotations

from ..core.fact import PASSING
from ..machine import gpu_choice
from ..serving.command import checked_layout, native, ranks_on
from . import unreachable

# vLLM's all-reduce through torch's symmetric memory takes a group of 2 to 8 ranks for one machine (its symm_mem.py asks for the number of
# ranks, not for where they are). The ranks then wait for each other on local sockets, without end and without a word: seen with vLLM
# 0.25.0, TP4 over two nodes of two H200s. Where NVLink spans nodes, set it to 1.
ONE_MACHINE_OFF = {"VLLM_ALLREDUCE_USE_SYMM_MEM": "0"}
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
    infos = given["image_infos"][: len(containers)]
    ids = [image_id(info) for info in infos]
    image = next(filter(None, ids), "")
    seen = image_reasons(containers, infos)
    choices, problems = chosen(hosts, given.get("node_gpus") or {}, ranks_on(layout))
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
        "env": environment(cache, given["topology_file"], layout),
        "volumes": ["%s:%s" % (path, path) for path in (given["work_dir"], given["cache_dir"])] + list(given["volumes"]),
        "mounts": mounts(given["model"], given["topology_file"]),
        "device_requests": ALL_GPUS if given["gpus"] else [],
        "chosen_device_requests": {host: device_requests(choices[host]) for host in containers if choices[host] and given["gpus"]},
        "gpus": choices,
        "gpu_problems": problems,
        "context": {"image": given["image"], "image_id": image} if docker else {},
        "image_problems": image_problems(given["image"], containers, comparable(infos)),
        "image_ids": dict(zip(containers, ids)),
        "image_reasons": [reason for _host, reason in seen],
        "image_failed": sorted({host for host, reason in seen if reason["status"] == "failed"}),
        "layout_dir": "%s/%s" % (given["work_dir"], layout["name"]),
    }


def chosen(hosts, node_gpus, ranks):
    """Return ``({host: plumbline_gpus as a list}, [problem])``; a choice of fewer GPUs than a node has ``ranks`` is a problem."""
    found, problems = {}, []
    for host in hosts:
        try:
            found[host] = gpu_choice.read(node_gpus.get(host))
        except gpu_choice.WrongChoice as error:
            found[host] = []
            problems.append("%s: %s" % (host, error))
        if found[host] and len(found[host]) < ranks:
            problems.append(
                "%s: %s has %d GPU(s) (%s), and the layout has %d ranks on each node: give it more, or choose a smaller layout"
                % (host, gpu_choice.VARIABLE, len(found[host]), ", ".join(found[host]), ranks)
            )
    return found, problems


def gpu_environment(value):
    """Return what makes a program see only the GPUs of a node's ``plumbline_gpus``; ``{}`` for all, and for a choice that is none.

    Such a one is named by preflight. CUDA takes indexes and UUIDs.
    """
    try:
        choice = gpu_choice.read(value)
    except gpu_choice.WrongChoice:
        choice = []
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(choice)} if choice else {}


def device_requests(choice):
    """Return what gives a container the GPUs of a ``choice`` (``gpu_choice.read``)."""
    return [{"device_ids": choice, "capabilities": ALL_GPUS[0]["capabilities"]}]


def image_id(info):
    """Return the id in what ``container_image`` registered; a node without the image has none, ``""``, and a reason that says why."""
    images = (info or {}).get("images") or [{}]
    return images[0].get("Id") or ""


def image_reasons(hosts, infos):
    """Return ``[(host, reason)]`` of what ``container_image`` saw on each; the text names the host."""
    found = [(host, dict(reason)) for host, info in zip(hosts, infos) for reason in (info or {}).get("reasons") or ()]
    return [(host, dict(reason, seen="%s: %s" % (host, reason["seen"]))) for host, reason in found]


def comparable(infos):
    """Return the ids as they can be compared, ``""`` for none.

    An engine that keeps images in containerd calls an image by its manifest's digest, others by its configuration's: one image has two
    ids. An id of the first kind is taken for that of a node of the second kind that has the image by this very digest.
    """
    found = [((info or {}).get("images") or [{}])[0] for info in infos]
    digests = [{item.rpartition("@")[2] for item in image.get("RepoDigests") or ()} for image in found]
    ids = [image.get("Id") or "" for image in found]
    by_digest = {digest: one for one, names in zip(ids, digests) if one not in names for digest in names}
    return [by_digest.get(one, one) if one in names else one for one, names in zip(ids, digests)]


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


def environment(cache, topology_file, layout):
    """Return what every program of a layout gets under the variables of the role and the layout, which win.

    ``cache`` is one folder for each image, since a compiled graph belongs to the code that made it.
    """
    topology = {"NCCL_TOPO_FILE": topology_file} if topology_file else {}
    return {"VLLM_CACHE_ROOT": cache, **topology, **(ONE_MACHINE_OFF if layout["tp"] > ranks_on(layout) else {})}


def mounts(*paths):
    """Return the mounts of what must be there already: a volume of a missing folder would be made, empty."""
    return [{"type": "bind", "source": path, "target": path, "read_only": True} for path in paths if path]


def prepared(results, layout_plan):
    """Say what came of making the nodes ready: ``{"ready": bool, "problems": [sentence], "reasons": [fact.reason],
    "ranks": [{"rank", "node", "index", "uuid"}]}``, without ranks where no GPU was seen.

    ``results`` are those of the loops that may fail, in their order, ``layout_plan`` is what :func:`plan` returned. Problems are what
    went wrong, reasons what ``serve_node`` saw, ranks which GPU each rank would take. Ready is a layout in which
    neither keeps a server from being started.
    """
    items = [item for result in results for item in (result or {}).get("results") or ()]
    problems = list(layout_plan["image_problems"]) + list(layout_plan.get("gpu_problems") or ())
    ranks = ranks_of(items, layout_plan.get("hosts") or ())
    problems += shared_gpus(ranks)
    # Without its image a node has no container either; the reasons say why.
    lost = layout_plan.get("image_failed") or ()
    problems += [
        "%s: %s" % (item.get("item", "a node"), unreachable.said(item)) for item in items if "msg" in item and item.get("item") not in lost
    ]
    reasons = list(layout_plan.get("image_reasons") or ()) + [reason for item in items for reason in item.get("reasons") or ()]
    bad = [reason for reason in reasons if reason["status"] in ("failed", "incomplete")]
    return {"ready": not problems and not bad, "problems": problems, "reasons": reasons, **({"ranks": ranks} if ranks else {})}


def ranks_of(items, hosts):
    """Return ``[{"rank", "node", "index", "uuid"}]`` from what ``serve_node`` saw: ranks count through the ``hosts``, the head first."""
    seen = {item.get("item"): (item.get("node") or {}).get("ranks") or [] for item in items if "node" in item}
    gpus = [dict(gpu, node=host) for host in hosts for gpu in seen.get(host, [])]
    return [dict(gpu, rank=rank) for rank, gpu in enumerate(gpus)]


def shared_gpus(ranks):
    """Return a sentence for each GPU that ranks of two nodes would take: they are one machine, or see each other's GPUs."""
    takers = {}
    for rank in ranks:
        # A UUID of zeros is that of a record made anonymous.
        if rank["uuid"] and rank["uuid"].strip("GPU-0"):
            takers.setdefault(rank["uuid"], {}).setdefault(rank["node"], rank)
    return [
        "%s would both take %s (%s): it is one GPU, set %s on each of them so that no GPU is of two nodes"
        % (" and ".join(nodes), uuid, ", ".join("rank %d, GPU %d of %s" % (one["rank"], one["index"], node) for node, one in nodes.items()),
           gpu_choice.VARIABLE)
        for uuid, nodes in takers.items()
        if len(nodes) > 1
    ]  # fmt: skip


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
