"""nvidia-smi --query-gpu=... --format=csv."""

from ansible.module_utils.plumbline.clocks import lock, query
from case import Found


def run(case, folder):
    """Read the GPUs and judge what holds them down."""
    gpus = query.parse_gpus(case.parts["csv"])
    values = {"%s.%s" % (gpu["bus_id"], key): value for gpu in gpus for key, value in gpu.items()}
    return Found([lock.judge_throttle(gpus)], values)
