"""The clocks of a node without a GPU: its health fact of this run already says it, so the node is not asked again."""

from __future__ import annotations

from ..core.fact import Measurement
from .report.records.reading import get, rows


def says_no_gpu(health):
    """Tell whether a health fact saw no GPU and expected none: nothing on the PCI bus, no driver, no nvidia-smi.

    A GPU that is expected and not there, or does not answer, is none of this: then the node is asked.
    """
    return any(item.get("check") == "gpu" and item.get("status") == "skipped" for item in rows(get(health, "reasons")))


def fact(arguments, health):
    """Return the ``skipped`` fact of kind clocks that the module ``gpu_clocks`` returns on such a node; nothing is run for it."""
    found = Measurement("clocks", "node")
    found.context = {
        "state": arguments.get("state") or "locked",
        "boot_id": get(health, "context", "boot_id"),
        "driver": None,
        "missing_fields": [],
        "doubts": [],
    }
    if found.context["state"] == "locked":
        found.context.update(requested_mhz=int(arguments["mhz"]), mode=int(arguments.get("mode", 1)))
    found.add("gpu", "skipped", "no GPU", None)
    return found
