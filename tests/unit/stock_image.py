"""The folder tree of a stock ND H100 v5 node: what its kernel shows, and what Azure's HPC image has where.

Paths and formats are those of Azure/azhpc-images (``components/``: install_health_checks, install_mpis, install_nccl,
setup_sku_customizations, customizations/ndv5, hpc-tuning) and of a clone's git files; versions are made up. NHC and systemctl are
stand-ins that answer as the real ones do; the log is tests/captures/composed.
"""

from __future__ import annotations

import json

from health_nodes import ADDRESSES, COMPOSED, H100, sysfs, write

NHC = "opt/azurehpc/test/azurehpc-health-checks"
STUDY = "opt/azurehpc/run-health-checks.sh"
VERSIONS = "opt/azurehpc/component_versions.txt"
TOPOLOGY = "opt/microsoft/ndv5-topo.xml"
COMPONENTS = {
    "KERNEL": "5.15.0-1104-azure", "NVIDIA": "580.126.16", "NCCL": "2.29.2-1", "HPCX": "v2.25.1", "AZ_HEALTH_CHECKS": "0.4.6",
    "ImageVersion": "22.04.2026051201",
}  # fmt: skip
RUNNER = """#!/bin/sh
[ "$1" = -a ] || exit 64
while [ $# -gt 0 ]; do [ "$1" = -o ] && log=$2; shift; done
cat "$(dirname "$0")/answer.log" > "$log"
"""
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            1048576              1048576              files
Max locked memory         %s            %s            bytes
"""


def program(root, path, text="#!/bin/sh\nexit 0\n"):
    """Write one executable file below ``root``."""
    write(root, path, text)
    (root / path).chmod(0o755)


def make(root):
    """Write the whole tree below ``root``; return ``root``."""
    sysfs(root)
    kernel(root)
    nhc(root, NHC)
    write(root, VERSIONS, json.dumps(COMPONENTS, indent=2))
    pci = "".join('<pci busid="%s" class="0x030200" link_speed="32 GT/s" link_width="16"/>' % address for address in ADDRESSES)
    write(root, TOPOLOGY, '<system version="1"><cpu numaid="0" affinity="0000ffff" arch="x86_64">%s</cpu></system>' % pci)
    (root / "opt/microsoft/ndv5").mkdir()
    (root / "opt/microsoft/ndv5/topo.xml").symlink_to("/opt/microsoft/ndv5-topo.xml")
    write(root, "etc/nccl.conf", "NCCL_IB_PCI_RELAXED_ORDERING=1\nNCCL_TOPO_FILE=/opt/microsoft/ndv5/topo.xml")
    for name in ("all_reduce_perf", "sendrecv_perf"):
        program(root, "opt/nccl-tests/build/" + name)
    program(root, "opt/hpcx-v2.25.1-gcc-doca_ofed-ubuntu22.04-cuda13-x86_64/ompi/bin/mpirun")
    program(root, "opt/openmpi-5.0.8/bin/mpirun")
    systemd(root)
    return root


def nhc(root, folder, log=None):
    """Write an NHC that unpacks to ``folder``: its runner, the conf of the size, and what the stand-in will log."""
    program(root, folder + "/run-health-checks.sh", RUNNER)
    write(root, folder + "/conf/nd96isr_h100_v5.conf", "".join(" * || %s\n" % command for command in H100["nhc_checks"]))
    write(root, folder + "/answer.log", log or (COMPOSED / "nhc.nd96isr_h100_v5.log").read_text())


def kernel(root):
    """Write what ``/proc`` and ``/sys`` say of processors, memory, GPUs and limits."""
    write(root, "sys/class/dmi/id/product_name", "Virtual Machine")
    write(root, "sys/devices/system/cpu/online", "0-95")
    write(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    write(root, "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm")
    write(root, "proc/loadavg", "1.00 1.00 1.00 1/2000 4242")
    write(root, "proc/meminfo", "MemTotal: 1976500000 kB\nMemAvailable: 1940000000 kB\nSwapTotal: 0 kB")
    write(root, "proc/self/mountinfo", "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard,errors=remount-ro")
    memory_lock(root, "unlimited")
    for address in ADDRESSES:
        write(root, "sys/bus/pci/devices/%s/vendor" % address, "0x10de")
        write(root, "sys/bus/pci/devices/%s/class" % address, "0x030200")


def memory_lock(root, limit, capabilities="000001ffffffffff", users="0          0 4294967295"):
    """Write what a process may lock, and what it may do beside."""
    write(root, "proc/self/limits", LIMITS % (limit, limit))
    write(root, "proc/self/status", "Name:\tpython3\nCapEff:\t%s" % capabilities)
    write(root, "proc/self/uid_map", users)


def systemd(root, **states):
    """Write a systemctl that knows the image's units; ``states`` changes one's lines, its dashes as underscores."""
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    lines = ["#!/bin/sh", 'while [ "$1" != -- ]; do shift; done; shift', 'for unit; do case "$unit" in']
    good = "LoadState=loaded\\nActiveState=active\\nSubState=running\\nResult=success"
    for name in H100["services_active"]:
        lines.append("%s) printf '%s\\n\\n';;" % (name, states.get(name.replace("-", "_"), good)))
    program(root, "usr/bin/systemctl", "\n".join([*lines, "*) printf 'LoadState=not-found\\nActiveState=inactive\\n\\n';; esac; done"]))
