"""What nvidia-smi prints: -q -x, nvlink -s and nvlink -e."""

from ansible.module_utils.plumbline.health import verdict
from ansible.module_utils.plumbline.health.checks.gpu import check_gpu
from ansible.module_utils.plumbline.health.checks.nvlink import check_nvlink
from ansible.module_utils.plumbline.health.evidence import nvlink
from ansible.module_utils.plumbline.machine import nvidia
from case import Found


def run(case, folder):
    """Judge the GPUs of a node that has these PCI addresses."""
    smi, error = read(case, folder)
    values = {"gpu%d.%s" % (index, key): value for index, gpu in enumerate(smi["gpus"] if smi else []) for key, value in gpu.items()}
    seen = {
        "status": nvlink.parse_status(case.parts.get("status", "")),
        "errors": nvlink.parse_errors(case.parts.get("errors", "")),
        "said": [],
    }
    presence = {"pci": case.params["pci"], "driver": True, "tool": "/usr/bin/nvidia-smi"}
    evidence = {"gpu": {"presence": presence, "smi": smi, "error": error, "nvlink": seen}}
    checks = (check_gpu,) if case.params.get("nvlink") is False else (check_gpu, check_nvlink)
    return Found(verdict.assess(evidence, case.params["sku"], checks), values)


def read(case, folder):
    """Return the parsed XML and the error: of the part ``tool``, a program, as it prints it; ``@DIR@`` holds the other parts."""
    if "tool" not in case.parts:
        return nvidia.parse_xml(case.parts["xml"]), None
    for name in set(case.parts) - {"tool"}:
        (folder / name).write_text(case.parts[name])
    tool = folder / "nvidia-smi"
    tool.write_text(case.parts["tool"].replace("@DIR@", str(folder)))
    tool.chmod(0o755)
    try:
        return nvidia.query_xml(str(tool)), None
    except nvidia.NvidiaError as problem:
        return None, str(problem)
