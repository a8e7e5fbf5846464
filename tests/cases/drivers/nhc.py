"""The log of Azure NHC."""

from ansible.module_utils.plumbline.health.checks import nhc
from ansible.module_utils.plumbline.health.evidence import nhc_log
from case import Found


def run(case, folder):
    """Judge the log against what the SKU expects."""
    parsed = nhc_log.parse(case.parts["log"])
    return Found(nhc.judge(parsed, case.params.get("sku", {})), dict(parsed))
