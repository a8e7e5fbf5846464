"""Without a GPU the nodes' processors are measured, really; one wrong element, and a program that is killed, take a node out."""

from __future__ import annotations

import base64

import pytest

pytestmark = pytest.mark.lab

# A Python that runs the real program on the node, with a function of it replaced. The processes that it starts find the same.
INJECTED = """#!/opt/plumbline/vllm/bin/python
import importlib.util, os, signal, sys
arguments = [item for item in sys.argv[1:] if not item.endswith("torch_worker.py")]
path = os.path.join(arguments[arguments.index("--folder") + 1], "torch_worker.py")
spec = importlib.util.spec_from_file_location("worker", path)
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
worker.__file__ = __file__
sys.argv = [__file__, *arguments]
work, count = worker.Matrix.work, [0]
def injected(self):
    work(self)
    count[0] += 1
    if count[0] > 3:
        %s
worker.Matrix.work = injected
worker.main()
"""


@pytest.fixture
def injected(lab):
    """Return ``put(node, statement)``, which returns the path of the Python on the node; it is removed afterwards."""
    nodes, path = [], "/root/injected-python"

    def put(node, statement):
        text = base64.b64encode((INJECTED % statement).encode()).decode()
        lab.shell(node, "echo %s | base64 -d > %s && chmod +x %s" % (text, path, path))
        nodes.append(node)
        return path

    yield put
    for node in nodes:
        lab.shell(node, "rm -f %s" % path, check=False)


def test_processors_are_measured_and_a_wrong_or_killed_one_is_named(lab, injected):
    first, second, third = lab.names
    variables = lab.inventory / "host_vars"
    variables.mkdir(exist_ok=True)
    for node, statement in ((second, "self.out[7, 9] += 8"), (third, "os.kill(os.getpid(), signal.SIGKILL)")):
        (variables / ("%s.yml" % node)).write_text("gpu_baseline_python: %s\n" % injected(node, statement))
    try:
        run = lab.play("site.yml", "--tags gpu_baseline", run_id="gpu-baseline")
    finally:
        for node in (second, third):
            (variables / ("%s.yml" % node)).unlink()
    assert run.status != 0
    good, wrong, killed = (run.fact(node, "gpu_baseline", "gpus") for node in lab.names)
    assert good["status"] == "healthy" and good["measured"]["gpus"] == []
    assert good["measured"]["cpu"]["exact_wrong_elements"] == 0 and 0.01 < good["measured"]["cpu"]["read_gbps"] < 10000
    assert wrong["status"] == "failed" and "equal products" in str(wrong["reasons"]) and wrong["measured"]["cpu"]["read_gbps"] > 0
    assert killed["status"] == "incomplete" and "killed by SIGKILL at the matrix product" in str(killed["reasons"])
    assert run.document("selection.json")["serving"] == [first], "the others do not serve"
    nodes = run.document()["verdicts"]["nodes"]
    assert [nodes[node]["phases"]["gpu_baseline"] for node in lab.names] == ["healthy", "failed", "incomplete"]
    assert lab.shell(second, "ls /root/.ansible/tmp 2>/dev/null | grep -c plumbline-gpus", check=False).strip() == "0"
    assert lab.shell(third, "pgrep -f torch_worker.py", check=False) == "", "no program stays behind"
