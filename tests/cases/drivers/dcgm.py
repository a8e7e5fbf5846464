"""What ``dcgmi diag -j`` printed, at a level, of the GPUs that were asked for."""

from ansible.module_utils.plumbline.core.fact import reason
from ansible.module_utils.plumbline.health.checks import dcgm
from ansible.module_utils.plumbline.health.evidence import dcgm_output
from case import Found


def run(case, folder):
    """Judge the answer; one that cannot be read is what the module makes of it."""
    try:
        answer = dcgm_output.parse(case.parts["json"])
    except dcgm_output.UnreadableOutput as error:
        return Found([reason("dcgm", "incomplete", str(error), None, "run again")], {})
    level, gpus = case.params.get("level", 1), case.params.get("gpus", [0])
    reasons = dcgm.judge(answer, level, gpus, case.params.get("exit_code", 0))
    return Found(reasons, {"version": answer["version"], "generation": answer["generation"], "false_alarm": dcgm.false_alarm(answer)})
