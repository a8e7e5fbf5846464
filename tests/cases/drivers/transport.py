"""NCCL's log, for the way that the data took."""

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import transport
from case import Found


def run(case, folder):
    """Judge the log against the expected transport."""
    parsed = transport.parse(case.parts["log"])
    measurement = Measurement("collective", "case")
    transport.judge(measurement, parsed, case.params.get("expected", {}), case.params["nodes"], case.params["ranks"])
    values = {**parsed, **transport.verdict(parsed), **transport.summary(parsed)}
    values.update(version=parsed["nccl_version"], warnings=len(parsed["warnings"]))
    return Found(measurement.reasons, values)
