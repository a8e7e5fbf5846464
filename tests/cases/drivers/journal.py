"""The journal as journalctl -o json prints it, or the ring buffer, read as on a node."""

from ansible.module_utils.plumbline.health.checks.kernel_log import check_kernel_log
from ansible.module_utils.plumbline.health.evidence import kernel_log
from case import Found


def run(case, folder):
    """Judge what a stand-in for journalctl prints."""
    tool = folder / "journalctl"
    (folder / "journal.json").write_text(case.parts["journal"])
    tool.write_text("#!/bin/sh\ncat %s\n" % (folder / "journal.json"))
    tool.chmod(0o755)
    (folder / "run/systemd/system").mkdir(parents=True)
    which, read_ring = kernel_log.shutil.which, kernel_log.read_ring
    kernel_log.shutil.which = lambda _name: str(tool)
    kernel_log.read_ring = lambda: case.parts.get("ring", "")
    try:
        seen = kernel_log.collect(str(folder))
    finally:
        kernel_log.shutil.which, kernel_log.read_ring = which, read_ring
    return Found(check_kernel_log({"kernel_log": seen}, {"gpu_count": 8, **case.params}), {"source": seen["source"]})
