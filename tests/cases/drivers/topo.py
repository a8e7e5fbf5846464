"""What ``nvidia-smi topo -m`` prints, of a node whose GPUs are at these addresses, in their order."""

from ansible.module_utils.plumbline.health import verdict
from ansible.module_utils.plumbline.health.checks.topology import check_topology
from ansible.module_utils.plumbline.health.evidence import topology
from case import Found


def run(case, folder):
    """Judge the matrix against the SKU; its adapters are those that ``adapters`` has, ``{device: address}``."""
    matrix = topology.parse(case.parts["topo"])
    gpus = [{"index": index, "bus_id": address} for index, address in enumerate(case.params["pci"])]
    adapters = {device: {"address": address, "numa_node": None} for device, address in case.params.get("adapters", {}).items()}
    seen = {"numa_nodes": [0, 1], "gpus": {}, "adapters": adapters, "matrix": matrix, "said": None if matrix else "no whole matrix"}
    evidence = {"gpu": {"presence": {"pci": case.params["pci"]}, "smi": {"gpus": gpus}}, "topology": seen}
    values = {"%s-%s" % (row, column): cell for row, cells in (matrix or {}).items() for column, cell in cells.items()}
    return Found(verdict.assess(evidence, case.params["sku"], (check_topology,)), values)
