"""The output of nccl-tests, as text or JSON."""

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric.nccl import judge, output
from case import Found


def run(case, folder):
    """Judge one run that was asked for ``sizes``."""
    params = case.params
    document = output.load_json(case.parts["json"]) if "json" in case.parts else None
    parsed = output.combined(case.parts["output"], document) if "output" in case.parts else output.parse_json(document)
    op, ranks, nodes = params.get("op", "all_reduce"), params.get("ranks", 2), params.get("nodes", 1)
    asked = {"what": "sweep", "sizes": params["sizes"], "options": {"-n": 20}}
    results = [(asked, parsed)]
    measurement = Measurement("collective", "case")
    judge.judge_completeness(measurement, results)
    judge.judge_values(measurement, op, results)
    judge.judge_devices(measurement, results, ranks, nodes)
    measurement.measured = judge.measured(op, ranks, nodes, results)
    values = {
        "rows": len(parsed["rows"]),
        "devices": len(parsed.get("devices") or []),
        **{k: v for k, v in parsed.items() if k != "rows" and k != "devices"},
    }
    for row in parsed["rows"]:
        for place in ("out_of_place", "in_place"):
            for key, value in (row.get(place) or {}).items():
                values[
                    "%d.%s.%s" % (row["size_bytes"], place, {"time_us": "time", "busbw_gbps": "busbw", "algbw_gbps": "algbw"}.get(key, key))
                ] = value
    return Found(measurement.reasons, values)
