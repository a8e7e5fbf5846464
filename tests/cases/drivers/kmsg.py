"""Lines of the kernel's log, as the journal has them, or as the ring buffer has them."""

from ansible.module_utils.plumbline.health.checks.kernel_log import check_kernel_log
from ansible.module_utils.plumbline.health.evidence import kernel_log
from case import Found


def run(case, folder):
    """Judge the lines as those of a whole log."""
    if "ring" in case.parts:
        lines = kernel_log.parse_ring(case.parts["ring"])
    elif "journal" in case.parts:
        lines = kernel_log.parse_journal(case.parts["journal"])
    else:
        lines = [{"text": line, "at_s": 0.0} for line in case.parts["lines"].splitlines() if line.strip()]
    seen = kernel_log.as_evidence(lines, "journal", True)
    return Found(check_kernel_log({"kernel_log": seen}, case.params.get("sku", {})), {})
