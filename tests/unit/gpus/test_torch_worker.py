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
    "devices": [{"kind": "cpu", "index": 0, "threads": 1}], "matrix_s": 0.1, "memory_s": 0.05, "matrix_size": 256, "memory_bytes": 2**22,
    "patience_s": 20,
}  # fmt: skip
# torch is imported once; each injection replaces a function of the program in a process of its own.
PROGRAM = """
import importlib.util, json, os, sys
import torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
for name, injection in json.load(open("injections.json")).items():
    os.mkdir(name)
    for phase in worker.TOGETHER:
        open(os.path.join(name, "go." + phase), "w").close()
    pid = os.fork()
    if not pid:
        exec(injection)
        worker.measure_device(dict(json.load(open("spec.json")), folder=name), 0, worker.State(name, "device0"))
        os._exit(0)
    os.waitpid(pid, 0)
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


INJECTIONS = {"none": "", "later": INTO_THE_FIFTH_PRODUCT, "always": INTO_EVERY_PRODUCT, "memory": INTO_A_COPY}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return what a device left, by the injection."""
    if not PLACES:
        pytest.skip("no torch for this Python in %s: bring up a lab once" % CACHE)
    folder = tmp_path_factory.mktemp("torch")
    (folder / "injections.json").write_text(json.dumps(INJECTIONS))
    (folder / "spec.json").write_text(json.dumps(SPEC))
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(PLACES[-1])), OMP_NUM_THREADS="1")
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(WORKER)], env=env, cwd=folder, timeout=120, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = {name: json.loads((folder / name / "device0.json").read_text()) for name in INJECTIONS}
    assert {name: state["stage"] for name, state in found.items()} == dict.fromkeys(INJECTIONS, "done"), run.stderr
    return {name: state["phases"] for name, state in found.items()}


def test_real_figures_of_this_machine(measured):
    phases = measured["none"]
    assert phases["matrix"]["wrong"] == phases["matrix"]["exact_wrong"] == phases["read"]["wrong"] == phases["copy"]["wrong"] == 0
    assert phases["matrix"]["exact_elements"] == 256 * 256 and len(phases["matrix"]["product_sha256"]) == 64
    assert phases["matrix"]["compared"] == 1 + len(phases["matrix"]["times_s"]) > 1
    assert 1e7 < phases["matrix"]["operations"] / min(phases["matrix"]["times_s"]) < 1e14
    assert all(1e8 < 2**22 / min(phases[name]["times_s"]) < 1e13 for name in ("read", "copy"))


@pytest.mark.parametrize("name, where", [("later", {"wrong"}), ("always", {"exact_wrong"}), ("memory", {"copy"})])
def test_one_wrong_element_is_seen(measured, name, where):
    phases = measured[name]
    seen = {key for key in ("wrong", "exact_wrong") if phases["matrix"][key]}
    seen |= {key for key in ("read", "copy") if phases[key]["wrong"]}
    assert seen == where
    assert name != "always" or phases["matrix"]["exact_wrong"] == 1


def test_equal_inputs_give_one_hash_and_a_wrong_product_another(measured):
    hashes = {name: (phases["matrix"]["inputs_sha256"], phases["matrix"]["product_sha256"]) for name, phases in measured.items()}
    assert hashes["none"] == hashes["later"] == hashes["memory"]
    assert hashes["always"][0] == hashes["none"][0] and hashes["always"][1] != hashes["none"][1]
