#!/usr/bin/python
"""Ansible module: what Azure calls this machine, the one below it, and its GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: azure_identity
short_description: Read what Azure calls this machine, the one below it, and its GPUs
description:
  - Reads the physical host's name from Hyper-V's KVP pool, the resource id and the VM id from the metadata service, and the GPUs from
    C(nvidia-smi). Changes nothing.
  - What cannot be read is null, and a sentence in RV(problems). It never fails for that, since a node to report is a broken one.
  - Serial numbers come only with O(serials), and then the task needs C(no_log). M(azure_report) does it so.
options:
  serials:
    description: Whether the GPUs' serial numbers are returned.
    type: bool
    default: false
  nvidia_smi:
    description: Path of C(nvidia-smi); found by itself where it is not given.
    type: path
  timeout_s:
    description: Seconds that C(nvidia-smi) may take.
    type: int
    default: 60
  root:
    description: Below which folder C(/sys) and C(/var) are read, to replay a recorded node.
    type: path
    default: /
  metadata:
    description: Address of the metadata service's answer, to replay a recorded one; Azure's own where it is not given.
    type: str
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Say what Azure calls this machine
  azure_identity:
  register: azure_identity_found
"""

RETURN = r"""
physical_host: {description: Name of the machine below this one., type: str, returned: always}
resource_id: {description: This machine's id in Azure., type: str, returned: always}
vm_id: {description: This machine's unique id., type: str, returned: always}
gpus:
  description: For each GPU its C(location) as nvidia-smi prints it, the C(address) of sysfs, C(product), and with O(serials) its C(serial).
  type: list
  elements: dict
  returned: always
problems: {description: "What could not be read, as sentences.", type: list, elements: str, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.health.evidence import azure
from ansible.module_utils.plumbline.machine import nvidia

# Columns of nvidia-smi --query-gpu, and what they are called here.
COLUMNS = {"pci.bus_id": "location", "name": "product", "serial": "serial"}


def gpus(tool, timeout_s, serials, root):
    """Return ``(gpus, problem)``: what ``nvidia-smi`` says of each GPU; a problem of None where it answered, or where there is no GPU."""
    found = nvidia.presence(tool, root)
    if not nvidia.is_present(found):
        return [], None
    try:
        code, stdout, _stderr = nvidia.run(found["tool"], ["--query-gpu=%s" % ",".join(COLUMNS), "--format=csv"], timeout_s)
    except nvidia.NvidiaError as error:
        return [], "the GPUs' serial numbers are not known: %s" % error
    told = rows(stdout)
    if not told:
        # What was printed is not quoted: a serial number may be in it.
        return [], "the GPUs' serial numbers are not known: nvidia-smi ended with %d and named no GPU" % code
    return [gpu if serials else dict(gpu, serial=None) for gpu in told], None


def rows(text):
    """Return ``{"location", "address", "product", "serial"}`` of each GPU in nvidia-smi's table; a lost GPU has no row."""
    lines = [line for line in text.splitlines() if line.count(",") == len(COLUMNS) - 1]
    try:
        told = nvidia.parse_csv("\n".join(lines), required=COLUMNS)
        return [
            dict(
                {name: nvidia.value_or_none(row[column]) for column, name in COLUMNS.items()},
                address=nvidia.normal_bus_id(row["pci.bus_id"]),
            )
            for row in told
        ]
    except nvidia.NvidiaError:
        return []


def identity(given):
    """Return the module's result."""
    root = given["root"]
    told = azure.azure_instance(root, address=given["metadata"] or azure.AZURE_INSTANCE)
    host = azure.host_values(root).get("PhysicalHostName") or None
    problems = [] if told["error"] is None else ["the metadata service told nothing: %s" % told["error"]]
    if host is None:
        problems.append("the physical host is not known: /%s has no PhysicalHostName" % azure.POOL)
    found, problem = gpus(given["nvidia_smi"], given["timeout_s"], given["serials"], root)
    return {
        "physical_host": host,
        "resource_id": told["resource_id"],
        "vm_id": told["vm_id"],
        "gpus": found,
        "problems": problems + ([problem] if problem else []),
    }


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "serials": {"type": "bool", "default": False},
            "nvidia_smi": {"type": "path"},
            "timeout_s": {"type": "int", "default": 60},
            "root": {"type": "path", "default": "/"},
            "metadata": {"type": "str"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **identity(module.params))


if __name__ == "__main__":
    marks.belong(marks.measuring())  # nvidia-smi may hang; reset finds it when its connection is lost
    main()
