"""The output of ib_write_bw."""

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric.perftest import output
from ansible.module_utils.plumbline.fabric.perftest import run as perftest_run
from case import Found


def run(case, folder):
    """Judge the client's run on one port; ``min`` is its threshold, where there is one."""
    done = {"status": case.params["exit"], "text": case.parts["output"], "timed_out": False}
    found = perftest_run.outcome(done, case.params.get("size", 8388608), 20)
    measurement = Measurement("link", "case")
    output.judge_port(measurement, "mlx5_0/1", found, case.params.get("min"), "peer")
    return Found(measurement.reasons, found)
