"""The verdict on a node: every check, one after the other, and what becomes of one that lacks its evidence or breaks.

A check is a function ``(evidence, expect) -> [reason, ...]``; it measures nothing, so a test can replay any node. To add one:
read its subject in ``evidence/``, name it in ``collect``, judge it in ``checks/``, list it in :data:`CHECKS`, add its keys to
``expect`` and give each SKU its threshold.
"""

from __future__ import annotations

from ..core.fact import reason
from .checks.clock import check_clock
from .checks.cpu import check_cpu
from .checks.devices import check_devices
from .checks.disk import check_disk
from .checks.gpu import check_gpu
from .checks.gpu_direct import check_gpu_direct
from .checks.host import check_host
from .checks.hung import check_hung
from .checks.image import check_image
from .checks.infiniband import check_ib
from .checks.kernel_log import check_kernel_log
from .checks.memory import check_memory
from .checks.nhc import check_nhc
from .checks.nic import check_nic
from .checks.nvlink import check_nvlink
from .checks.services import check_services
from .checks.topology import check_topology

CHECKS = (
    check_gpu,
    check_nvlink,
    check_ib,
    check_gpu_direct,
    check_topology,
    check_devices,
    check_cpu,
    check_memory,
    check_host,
    check_hung,
    check_services,
    check_image,
    check_disk,
    check_nic,
    check_clock,
    check_kernel_log,
    check_nhc,
)


def assess(evidence, expect, checks=CHECKS):
    """Run every check; return the reasons.

    A check named under ``optional`` that lacks its evidence is skipped, and says why. A check that itself breaks on
    what it found is ``incomplete``: it must not take the other verdicts with it.
    """
    optional = expect.get("optional") or []
    found = []
    for check in checks:
        try:
            reasons = check(evidence, expect)
        except Exception as error:  # noqa: BLE001 -- see above; the text names it
            name = check.__name__.replace("check_", "")
            text = "the check itself failed: %s: %s" % (type(error).__name__, error)
            reasons = [reason(name, "incomplete", text, None, "report this as a bug of Plumbline")]
        for item in reasons:
            if item["status"] == "incomplete" and item["check"] in optional:
                item = dict(item, status="skipped", seen="%s (optional for this SKU)" % item["seen"])
            found.append(item)
    return found
