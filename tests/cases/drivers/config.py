"""A model's folder: what is known of its bytes, and whether a layout of it fits the GPUs."""

import json

from ansible.module_utils.plumbline.model import config
from ansible.module_utils.plumbline.serving import checks
from case import Found


def run(asked, texts, folder):
    """Write the folder of ``texts`` (name: text), read it as the project does; ``asked`` is an entry of ``configs``."""
    for name, text in texts.items():
        (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
    dtype = asked.get("dtype", "auto")
    gpus = [{"index": index, "total_mib": asked.get("gpu_mib", 81559.0)} for index in range(8)]
    layout = {"name": "case", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp", **asked.get("layout", {})}
    reasons, _numbers = checks.check_memory(
        gpus,
        config.config_of(str(folder)),
        layout,
        dtype,
        asked.get("max_model_len", 2048),
        asked.get("arguments", []),
        asked.get("version"),
    )
    return Found(reasons, config.context(str(folder), dtype))
