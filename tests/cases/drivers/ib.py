"""InfiniBand ports in sysfs."""

from ansible.module_utils.plumbline.health.checks.infiniband import check_ib
from ansible.module_utils.plumbline.health.evidence import infiniband
from case import Found


def run(case, folder):
    """Judge a tree of these files."""
    for line in case.parts["sysfs"].splitlines():
        path, _equals, value = line.partition(" = ")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(value + "\n")
    evidence = {"ib": infiniband.collect(str(folder))}
    return Found(check_ib(evidence, case.params["sku"]), {})
