"""Bandwidths of pairs of nodes."""

import json

from ansible.module_utils.plumbline.controller import pair_verdict, suspect
from case import Found


def run(case, folder):
    """Judge each node by its pairs."""
    nodes = case.params["nodes"]
    links = [{"nodes": [a, b], "bandwidth_gbps": value, "status": "healthy"} for a, b, value in json.loads(case.parts["links"])]
    reasons = []
    for node in nodes:
        reasons += pair_verdict.measurement(node, nodes, {None: links}, 0.7, 3.0, "failed").reasons
    return Found(reasons, {node: item["verdict"] for node, item in suspect.judge(links, nodes, 0.7, 3.0)["nodes"].items()})
