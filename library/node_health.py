#!/usr/bin/python
"""Ansible module: the health of one node, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_health
short_description: Judge the health of a node against what its SKU should show
description:
  - Reads processors, memory, disks, network and InfiniBand ports, clocks, the kernel and its log, services, the GPUs and their
    NVLinks in one call, runs Azure NHC where the node has it, and returns one fact of kind C(health). A bad verdict is a result,
    not a failure of the module.
  - Changes nothing but one small probe file below each path, which it removes, and a folder for each run of NHC; neither
    in check mode. NHC itself raises the GPU clocks and then B(unlocks) them - lock them afterwards.
options:
  sku:
    description:
      - Name in O(skus), whatever its case, or V(auto). With V(auto) the Azure instance metadata is asked for the size, but only on a
        machine whose DMI chassis asset tag is Azure's; elsewhere V(generic) is used.
      - An SKU that is not in O(skus) is judged by V(generic) and the fact is C(incomplete).
    type: str
    default: auto
  skus:
    description:
      - What is known of each SKU, by section and key. The node may have to say which SKU it is, so all of them are given.
      - Read are the sections C(health), C(gpu), C(ib) and C(nhc), whose keys are in C(module_utils/plumbline/health/expect.py), and
        the file that C(nccl.env.NCCL_TOPO_FILE) names.
    type: dict
    required: true
  paths:
    description: Where space, inodes and a real write are checked; a path that is not there yet is judged at its parent.
    type: list
    elements: path
    default: [/]
  address:
    description: What the inventory calls the node; the interface that holds it is checked.
    type: str
  clock_samples:
    description:
      - Exchanges of the clock between controller and node, in seconds. The action plugin of the role fills it in.
    type: list
    elements: dict
    default: []
    suboptions:
      sent: {description: The controller's clock before the question., type: float, required: true}
      node: {description: The node's clock., type: float, required: true}
      received: {description: The controller's clock after the answer., type: float, required: true}
  gpus:
    description:
      - GPUs that are judged, as the variable C(plumbline_gpus) has them; empty for all.
      - The number that the SKU has is then that of the chosen, and what the kernel log says of the others does not count.
    type: raw
    default: []
  nvidia_smi:
    description: Path of C(nvidia-smi); found in E(PATH) where it is not given.
    type: path
  timeout_s:
    description: Seconds that one command on the node (C(nvidia-smi), C(journalctl)) may take.
    type: int
    default: 60
  nhc:
    description:
      - V(auto) runs Azure NHC where it is installed, unless the SKU's C(nhc_checks) is an empty list. Without it the fact
        says C(skipped), with what was not measured.
      - V(require) makes its absence C(incomplete). V(never) does not run it.
    type: str
    choices: [auto, never, require]
    default: auto
  nhc_script:
    description:
      - Path of C(run-health-checks.sh). Where it is not given, it is looked for at C(/opt/azurehpc) and where Azure's HPC image
        has it, C(/opt/azurehpc/test/azurehpc-health-checks). Which one was taken, and its version, is in C(context.nhc).
    type: path
  nhc_conf:
    description: NHC conf to run with, in a copy; C(conf/<size>.conf) of the NHC that was found where it is not given.
    type: path
  nhc_log_dir:
    description: Where each run of NHC gets a new folder with its log and its copy of the conf; the last five stay.
    type: path
    default: /var/log/plumbline/nhc
  nhc_timeout_s:
    description: Seconds for the whole of NHC (its C(-t)); five minutes more are given to start and end it.
    type: int
    default: 1200
  root:
    description: Below which folder C(/proc), C(/sys), C(/etc) and C(/opt) are read, to replay a recorded node.
    type: path
    default: /
attributes:
  check_mode:
    support: full
    description: Everything is read; the write probe and NHC are left out and a reason with the check C(check_mode) says so.
  async:
    support: full
author: Plumbline
"""

EXAMPLES = r"""
- name: Judge this node
  node_health:
    sku: Standard_ND96isr_H100_v5
    skus: "{{ __sku_table }}"
    paths: [/, /var/lib/plumbline]
    address: "{{ ansible_host }}"
"""

RETURN = r"""
ansible_facts:
  description: The fact under C(plumbline.health); shape in C(docs/schema/health.schema.json).
  returned: always
  type: dict
fact:
  description: The same fact.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.health import account, verdict
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.health import remedy as health_remedy
from ansible.module_utils.plumbline.health.collect import collect, leave_out_other_gpus
from ansible.module_utils.plumbline.health.evidence import azure as azure_evidence
from ansible.module_utils.plumbline.health.evidence import cpu, nhc_conf, nhc_places, nhc_run
from ansible.module_utils.plumbline.machine import gpu_choice, infiniband, nvidia, sku


def azure_nhc(given, chosen, expect, check_mode, components):
    """Run NHC, or say why it is not run; return the evidence that ``check_nhc`` judges, with which NHC was found."""
    found = nhc_places.find(given["nhc_script"], given["root"])
    version, told_by = nhc_places.version(found["script"], components, given["root"]) if found["script"] else (None, None)
    which = {"script": found["script"], "version": version, "version_from": told_by}
    return dict(_run_nhc(given, chosen, expect, check_mode, found), **which)


def _run_nhc(given, chosen, expect, check_mode, found):
    """Run the NHC that was ``found`` (``nhc_places``), or say why it is not run."""
    script = found["script"]
    if given["nhc"] == "never":
        return {"skipped": ("Azure NHC was not run", "nhc is never")}
    if given["nhc"] == "auto" and expect.get("nhc_checks") == []:
        return {"skipped": ("Azure NHC was not run", "not made for this SKU")}
    if not script and given["nhc"] == "require":
        return {"missing": "Azure NHC is not at %s" % found["looked"]}
    if not script:
        text = "Azure NHC is not at %s" % found["looked"]
        if expect.get("nhc_checks"):
            text += ": bandwidth of NVLink, PCIe and InfiniBand was not measured here"
        return {"skipped": (text, "run where it is installed")}
    if check_mode:
        return {"check_mode": True, "skipped": ("would run %s, which unlocks the GPU clocks" % script, None)}
    accelerated = infiniband.has_device(nhc_conf.ACCELERATED_DEVICE, given["root"])
    return nhc_run.run(script, given["nhc_log_dir"], chosen["sku"], given["nhc_timeout_s"], given["nhc_conf"], accelerated)


def choose_gpus(given, measurement):
    """Look only at the chosen GPUs from now on, and return them; a choice that this node cannot keep is a failed reason, and then all."""
    try:
        return gpu_choice.look_only_at(given["gpus"], given["nvidia_smi"])
    except (gpu_choice.WrongChoice, nvidia.NvidiaError) as error:
        measurement.add("gpu.choice", "failed", str(error), gpu_choice.EXPECTED, "mend %s of this node" % gpu_choice.VARIABLE)
        return []


def main():
    """Collect, judge, return."""
    sample = {
        "sent": {"type": "float", "required": True},
        "node": {"type": "float", "required": True},
        "received": {"type": "float", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "sku": {"type": "str", "default": "auto"},
            "skus": {"type": "dict", "required": True},
            "paths": {"type": "list", "elements": "path", "default": ["/"]},
            "address": {"type": "str"},
            "clock_samples": {"type": "list", "elements": "dict", "default": [], "options": sample},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
            "timeout_s": {"type": "int", "default": 60},
            "nhc": {"type": "str", "choices": ["auto", "never", "require"], "default": "auto"},
            "nhc_script": {"type": "path"},
            "nhc_conf": {"type": "path"},
            "nhc_log_dir": {"type": "path", "default": "/var/log/plumbline/nhc"},
            "nhc_timeout_s": {"type": "int", "default": 1200},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    given = module.params
    wrong = [text for name in sorted(given["skus"]) for text in health_expect.problems(name, given["skus"][name])]
    if health_expect.FALLBACK not in given["skus"]:
        wrong.append("skus has no %r, by which an unknown SKU is judged" % health_expect.FALLBACK)
    if not given["paths"]:
        wrong.append("paths is empty: name at least one directory whose disk is checked")
    if given["nhc_timeout_s"] <= 0:
        wrong.append("nhc_timeout_s is %d, expected a positive number of seconds such as 1200" % given["nhc_timeout_s"])
    if wrong:
        module.fail_json(msg="node_health: " + "; ".join(wrong))

    measurement = Measurement("health", "node", command="node_health")
    asked = sku.plain(given["sku"]) == sku.AUTO
    azure = azure_evidence.azure_vm_size(given["root"]) if asked else None
    picked = health_expect.choose(given["sku"], given["skus"], azure)
    expect = picked["expect"]
    measurement.add(
        "sku",
        "healthy" if picked["known"] else "incomplete",
        picked["seen"],
        "known" if picked["known"] else "one of %s" % ", ".join(sorted(given["skus"])),
        None if picked["known"] else "set sku_name, or add the SKU to sku_overrides",
    )
    chosen = choose_gpus(given, measurement)
    if chosen:
        expect = dict(expect, gpu_count=len(chosen), gpu_pci_domains=[])
        measurement.context["chosen_gpus"] = chosen
    evidence = collect(
        given["paths"],
        given["address"],
        given["clock_samples"],
        not module.check_mode,
        given["nvidia_smi"],
        given["timeout_s"],
        given["root"],
        expect,
    )
    if chosen:
        leave_out_other_gpus(evidence, [gpu["bus_id"] for gpu in chosen])
    evidence["cpu"]["others"] = cpu.others(evidence["cpu"], expect.get("load_per_cpu_max"), given["root"])
    # After our own reading: NHC loads the GPUs, and what it does to clocks and counters must not be taken for the node's.
    evidence["nhc"] = azure_nhc(given, picked, expect, module.check_mode, evidence["image"]["versions"]["components"])
    reasons, remediation = health_remedy.remediation(verdict.assess(evidence, expect), account.physical_host(evidence))
    measurement.reasons += reasons
    measurement.measured = account.measured(evidence)
    measurement.context.update(account.context(evidence, picked), remediation=remediation)
    if evidence["nhc"].get("command"):
        measurement.command = "node_health; " + evidence["nhc"]["command"]
    module.exit_json(changed=False, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
