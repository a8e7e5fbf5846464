"""What Azure's HPC image says of itself, and the topology file that it brings for NCCL.

``component_versions.txt`` is one JSON object of names and versions, written while the image is built; ``ImageVersion`` is added last,
in images of 2026 (Azure/azhpc-images, ``components/`` and ``packer/``). The topology files lie in ``/opt/microsoft``.
"""

from __future__ import annotations

import json
import os
from xml.etree import ElementTree

from .nhc_places import below

VERSIONS = "/opt/azurehpc/component_versions.txt"
IMAGE_KEY = "ImageVersion"
MOST, LONGEST = 200, 120  # entries and characters that are kept: the file is data of the node's


def image(root="/", topology_file=None):
    """Return ``{"versions", "topology"}``; ``topology_file`` is the path that the SKU's NCCL reads, None for no such file."""
    return {"versions": versions(root), "topology": topology(below(root, topology_file)) if topology_file else None}


def versions(root="/"):
    """Return ``{"path", "error", "image", "components"}``; both of the last are None where there is no file or it cannot be read."""
    seen = {"path": VERSIONS, "error": None, "image": None, "components": None}
    path = below(root, VERSIONS)
    if not os.path.lexists(path):
        return seen
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            listed = json.load(stream)
        if not isinstance(listed, dict):
            raise ValueError("a JSON %s, no object" % type(listed).__name__)
    except (OSError, ValueError) as error:
        return dict(seen, error=str(error))
    plain = {str(key): str(value)[:LONGEST] for key, value in listed.items() if isinstance(value, (str, int, float))}
    told = plain.pop(IMAGE_KEY, None)
    return dict(seen, image=told, components={key: plain[key] for key in sorted(plain)[:MOST]})


def topology(path):
    """Return ``{"path", "there", "error"}`` of a topology file for NCCL: one XML document whose root is ``system``."""
    seen = {"path": path, "there": os.path.isfile(path), "error": None}
    if not seen["there"]:
        return seen
    try:
        found = ElementTree.parse(path).getroot().tag
    except (OSError, ElementTree.ParseError) as error:
        return dict(seen, error=str(error))
    return dict(seen, error=None if found == "system" else "its root is <%s>, not <system>" % found)
