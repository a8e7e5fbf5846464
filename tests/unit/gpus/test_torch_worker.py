"""The program under a real torch on processors: it measures, and one wrong element is caught wherever it is put.

torch is that of a lab's environment, where this machine has one for this Python; what only a GPU can show is not here.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys

import pytest
from project import ROOT

WORKER = ROOT / "plugins/module_utils/plumbline/gpus/torch_worker.py"
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "plumbline")
PLACES = sorted(glob.glob("%s/vllm-*/lib/python%d.%d/site-packages/torch/__init__.py" % (CACHE, *sys.version_info[:2])))
SPEC = {
    "devices": [{"kind": "cpu", "index": 0, "threads": 1}], "peers": [], "matrix_s": 0.2, "memory_s": 0.1, "transfer_s": 0.1, "peer_s": 0.1,
    "matrix_size": 256, "memory_bytes": 2**22, "transfer_bytes": 2**20, "start_s": 100, "slack_s": 60, "patience_s": 100, "deadline_s": 150,
}  # fmt: skip
# Runs the program with one of its functions replaced; the process it starts finds the same replacement.
INJECTED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("worker", %r)
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
worker.__file__ = __file__
%s
worker.main()
"""
INTO_THE_FIFTH_PRODUCT = """
work, count = worker.Matrix.work, [0]
def wrong_once(self):
    work(self)
    count[0] += 1
    if count[0] > 4:
        self.out[17, 3] += 8
worker.Matrix.work = wrong_once
"""
INTO_EVERY_PRODUCT = """
product = worker.Matrix.product
def always_wrong(self, left, right):
    out = product(self, left, right)
    out[200, 100] += 256
    return out
worker.Matrix.product = always_wrong
work = worker.Matrix.work
def work_wrong(self):
    work(self)
    self.out[200, 100] += 256
worker.Matrix.work = work_wrong
"""
INTO_A_COPY = """
copy = worker.Memory.copy
def wrong_memory(self, seconds, state):
    batches = worker.batches
    def spoiled(device, work, seconds):
        yield from batches(device, work, seconds)
        self.buffer[5] = 3
    worker.batches = spoiled
    copy(self, seconds, state)
worker.Memory.copy = wrong_memory
"""


@pytest.fixture
def measured(tmp_path):
    """Return ``run(injection)``, which returns what the device left."""
    if not PLACES:
        pytest.skip("no torch for this Python in %s: bring up a lab once" % CACHE)

    def run(injection=""):
        script = tmp_path / "program.py"
        script.write_text(INJECTED % (str(WORKER), injection))
        (tmp_path / "spec.json").write_text(json.dumps(SPEC))
        env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(PLACES[-1])))
        subprocess.run([sys.executable, str(script), "--folder", str(tmp_path)], env=env, check=True, timeout=120, capture_output=True)
        left = json.loads((tmp_path / "device0.json").read_text())
        assert left["stage"] == "done", left["error"] or (tmp_path / "device0.log").read_text()
        return left["phases"]

    return run


def test_real_figures_of_this_machine(measured):
    phases = measured()
    assert phases["matrix"]["wrong"] == phases["matrix"]["exact_wrong"] == phases["read"]["wrong"] == phases["copy"]["wrong"] == 0
    assert phases["matrix"]["exact_elements"] == 256 * 256 and len(phases["matrix"]["product_sha256"]) == 64
    assert phases["matrix"]["compared"] == 1 + len(phases["matrix"]["times_s"]) > 1
    assert 1e7 < phases["matrix"]["operations"] / min(phases["matrix"]["times_s"]) < 1e14
    assert all(1e8 < 2**22 / min(phases[name]["times_s"]) < 1e13 for name in ("read", "copy"))


@pytest.mark.parametrize("injection, where", [
    (INTO_THE_FIFTH_PRODUCT, {"wrong"}),
    (INTO_EVERY_PRODUCT, {"exact_wrong"}),
    (INTO_A_COPY, {"copy"}),
], ids=["later", "always", "memory"])  # fmt: skip
def test_one_wrong_element_is_seen(measured, injection, where):
    phases = measured(injection)
    seen = {name for name in ("wrong", "exact_wrong") if phases["matrix"][name]}
    seen |= {name for name in ("read", "copy") if phases[name]["wrong"]}
    assert seen == where
    assert where != {"exact_wrong"} or phases["matrix"]["exact_wrong"] == 1
