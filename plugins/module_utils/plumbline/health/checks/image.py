"""What the node's image says of itself, and the topology file that NCCL is pointed to."""

from __future__ import annotations

from ...core.fact import reason


def check_image(evidence, expect):
    """The image's list of versions, where it has one, and the topology file of the SKU's ``NCCL_TOPO_FILE``."""
    seen = evidence["image"]
    return [_versions(seen["versions"])] + ([_topology(seen["topology"])] if seen["topology"] else [])


def _versions(seen):
    """Say which image it is. No list is no fault of a node: only Azure's HPC images have one."""
    threshold = "told by Azure's HPC images"
    if seen["error"]:
        return reason("image.versions", "skipped", "%s cannot be read: %s" % (seen["path"], seen["error"]), threshold)
    if seen["components"] is None:
        return reason("image.versions", "skipped", "there is no %s" % seen["path"], threshold)
    said = "image version %s" % seen["image"] if seen["image"] else "no image version"
    return reason("image.versions", "healthy", "%s, %d components in %s" % (said, len(seen["components"]), seen["path"]), threshold)


def _topology(seen):
    """Judge the topology file: without it NCCL guesses how GPUs and ports hang together, with a broken one it does not start."""
    threshold = "%s, an XML document of a <system>, as NCCL_TOPO_FILE says" % seen["path"]
    remedy = "put it back (Azure/azhpc-images, topology/), or correct NCCL_TOPO_FILE below nccl.env in sku_overrides"
    if not seen["there"]:
        text = "there is no %s: NCCL warns, and guesses the topology" % seen["path"]
        return reason("image.topology", "degraded", text, threshold, remedy)
    if seen["error"]:
        text = "%s cannot be read, and NCCL does not start with it: %s" % (seen["path"], seen["error"])
        return reason("image.topology", "failed", text, threshold, remedy)
    return reason("image.topology", "healthy", "%s can be read" % seen["path"], threshold)
