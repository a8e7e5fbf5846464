"""NCCL's log, for the way that the data took."""

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import transport
from case import Found


def run(case, folder):
    """Judge the log against the expected transport."""
    parsed = transport.parse(case.parts["log"])
    measurement = Measurement("collective", "case")
    transport.judge(measurement, parsed, case.params.get("expected", {}), case.params["nodes"], case.params["ranks"])
    said = transport.verdict(parsed)
    return Found(measurement.reasons, {**parsed, **(said if isinstance(said, dict) else {}), **transport.summary(parsed)})
