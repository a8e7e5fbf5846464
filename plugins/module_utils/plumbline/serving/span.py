"""Over which nodes a layout really spans: what Ray says of its workers, or the connections of a native layout."""

from __future__ import annotations

from . import peers
from .ray import RayProbeError


def name_ray_nodes(measurement, layout, probe):
    """Put the Ray nodes that run this layout's workers into the context; too few of them is a failure.

    ``probe`` is a function without arguments that returns what ``ray.probe`` does.
    """
    try:
        cluster = probe()
    except RayProbeError as error:
        measurement.add("serve.span", "incomplete", str(error), "Ray's list of workers", "start the layout again")
        return
    workers = [item for item in cluster["workers"] if "Worker" in item[0]]
    measurement.context["ray_nodes"] = cluster["nodes"]
    measurement.context["ray_workers"] = [{"address": item[1], "pid": item[2]} for item in workers]
    measurement.context["placement_groups"] = cluster["placement_groups"]
    addresses = sorted({item[1] for item in workers})
    ranks = layout["tp"] * layout["pp"]
    measurement.add(
        "serve.span",
        "healthy" if len(addresses) == layout["nodes"] and len(workers) == ranks else "failed",
        "%d Ray workers on %d node(s): %s" % (len(workers), len(addresses), ", ".join(addresses) or "none"),
        "%d workers on %d node(s)" % (ranks, layout["nodes"]),
        "check Ray's placement group and the slots of each node",
    )  # fmt: skip


def name_native_nodes(measurement, addresses, work_dir, read=peers.read_tables):
    """Name the nodes that have connections to the head's serving processes; a node without one takes no part.

    ``addresses`` has the head's first. ``read`` returns the kernel's connection tables.
    """
    found = peers.live(addresses[1:], read())
    measurement.context["node_workers"] = [
        {"address": address, "rank": rank, "connections": found.get(address)} for rank, address in enumerate(addresses)
    ]
    missing = sorted(address for address, count in found.items() if not count)
    measurement.add(
        "serve.span",
        "failed" if missing else "healthy",
        "connections to the head: %s" % ", ".join("%s has %d" % item for item in sorted(found.items())),
        "connections from each of the %d other node(s)" % len(found),
        "read worker-*.log in %s on %s" % (work_dir, ", ".join(missing)) if missing else None,
    )  # fmt: skip
