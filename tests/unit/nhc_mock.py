"""Lines of Azure NHC, and a stand-in for its runner: shared by the tests of its log and of false passes."""

from __future__ import annotations

from health_nodes import LOG

ERROR = "ERROR:  nhc:  Health check failed:  "


def after(running, *lines):
    """Return the log with lines put in behind the first one that contains ``running``."""
    out = []
    for line in LOG.splitlines():
        out.append(line)
        if running in line:
            out += lines
            running = "\0"
    assert running == "\0", "no such line"
    return "\n".join(out) + "\n"


MOCK = """#!/bin/sh
# mock-run-health-checks: takes the arguments of Azure's runner, and behaves like it where it matters here
echo "$@" >> {folder}/arguments
while [ $# -gt 0 ]; do case $1 in -o) log=$2; shift;; -c) conf=$2; shift;; -t) shift;; esac; shift; done
{body}
"""
SHORT = """cp "$conf" {folder}/conf-used
echo '[1] - Running check:  "check_gpu_xid"' >> "$log"
if grep -q 'Found XID' "$log"; then echo "This XID has been reported before" >> "$log"; else
echo 'Found XID: 79' >> "$log"
echo 'ERROR:  nhc:  Health check failed:  check_gpu_xid: GPU Xid errors detected: 79. FaultCode: NHC2001' >> "$log"; fi
echo 'SUCCESS:  nhc:  Health check passed:  check_gpu_xid:  GPU XID error check passed.' >> "$log"
echo 'Health checks completed with exit code: 0.' >> "$log"
"""


def install(tmp_path, body=SHORT):
    """Write a stand-in runner with a conf beside it; return its path."""
    script = tmp_path / "mock-run-health-checks.sh"
    script.write_text(MOCK.format(folder=tmp_path, body=body.format(folder=tmp_path)))
    script.chmod(0o755)
    conf = tmp_path / "conf" / "nd96isr_h100_v5.conf"
    conf.parent.mkdir(exist_ok=True)
    conf.write_text("# comment || not_a_check\n * || check_gpu_xid\n")
    return str(script)
