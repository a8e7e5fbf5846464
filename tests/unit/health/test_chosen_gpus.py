"""A node that may use some of its GPUs is judged by these: what the others lack or did is not its verdict."""

from __future__ import annotations

import health_nodes as nodes
from ansible.module_utils.plumbline.health.collect import leave_out_other_gpus

XID = "NVRM: Xid (PCI:%s): 79, pid=1, name=python3, GPU has fallen off the bus."


def of_two(tmp_path, *kernel):
    """Return ``(evidence, expect)`` of an ND H100 v5 whose first two GPUs were chosen, as the module puts it."""
    chosen = nodes.ADDRESSES[:2]
    nodes.sysfs(tmp_path)
    evidence = nodes.node(tmp_path, xml=nodes.smi_xml(chosen), kernel=kernel)
    evidence["gpu"]["smi"]["attached"] = None
    leave_out_other_gpus(evidence, chosen)
    return evidence, dict(nodes.H100, gpu_count=2, gpu_pci_domains=[])


def test_the_other_gpus_are_not_missed_and_their_xids_do_not_count(tmp_path):
    evidence, expect = of_two(tmp_path, XID % nodes.ADDRESSES[5][:-2])
    found = nodes.reasons(evidence, expect)
    assert not {"gpu.count", "kernel_log.xid", "kernel_log.gpu_lost"} & set(found), found


def test_a_chosen_gpu_that_fell_off_the_bus_fails_the_node(tmp_path):
    evidence, expect = of_two(tmp_path, XID % nodes.ADDRESSES[1][:-2])
    assert nodes.reasons(evidence, expect)["kernel_log.xid"][0]["status"] == "failed"


def test_a_chosen_gpu_that_does_not_answer_is_missed(tmp_path):
    evidence, expect = of_two(tmp_path)
    del evidence["gpu"]["smi"]["gpus"][1]
    assert nodes.reasons(evidence, expect)["gpu.count"][0]["status"] == "failed"
