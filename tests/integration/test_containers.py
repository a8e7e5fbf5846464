"""All lab layouts in containers, through Ray and natively, with the role that serves on GPU nodes; and a worker that is killed."""

from __future__ import annotations

import subprocess
import threading
import time
from datetime import datetime, timezone

import pytest
import yaml
from ansible.module_utils.plumbline.lab import plan, registry

# The run that the first test waits for serves one layout after the other, about a minute each on two cores.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

SHAPES = {"tp1": (1, 1, 1), "tp2": (2, 1, 1), "pp2_across": (1, 2, 2), "tp2_across": (2, 1, 2)}
LAYOUTS = [
    {"name": "%s_%s" % (shape, executor), "tp": tp, "pp": pp, "nodes": nodes, "executor": executor}
    for shape, (tp, pp, nodes) in SHAPES.items()
    for executor in ("ray", "mp")
]
IN_CONTAINERS = {
    "vllm_serve_runtime": "docker", "serve_benchmark_prompts": 1, "serve_benchmark_output_len": 32, "serve_benchmark_sweep": [],
}  # fmt: skip
OUTPUT_LEN, RUNS = 32, 1


@pytest.fixture(scope="module")
def model(lab):
    """The model on every node."""
    return lab.play("site.yml", "--tags model", run_id="containers-model").ok("model")


@pytest.fixture(scope="module")
def pinned(lab):
    """The lab's image as the lab's inventory calls it: by digest, in the lab's registry."""
    return yaml.safe_load((lab.inventory / "hosts.yml").read_text())["nodes"]["vars"]["lab_registry_image"]


@pytest.fixture(scope="module")
def served(lab, model, pinned):
    """One run over all layouts, each under both executors, of the image that every node pulled by digest."""
    return lab.play(
        "site.yml", "--tags serve", run_id="containers", vllm_serve_layouts=LAYOUTS, serve_benchmark_runs=RUNS,
        vllm_serve_image=pinned, vllm_serve_image_pull="missing", **IN_CONTAINERS,
    )  # fmt: skip


def test_every_layout_is_served_in_containers_under_both_executors(served, lab):
    served.ok("site.yml in containers")
    images = {lab.shell(node, "docker image inspect -f '{{.Id}}' plumbline/vllm-cpu:lab").strip() for node in lab.names}
    assert len(images) == 1
    for layout in LAYOUTS:
        fact = served.fact("labt1", "benchmark", layout["name"])
        assert fact["status"] in ("healthy", "degraded"), fact["reasons"]
        assert fact["context"]["runtime"] == "docker"
        assert fact["context"]["client_preloaded"] is True, "forked in the container"
        assert {fact["context"]["image_id"]} == images
        assert [run["completed"] for run in fact["measured"]["runs"]] == [1] * RUNS
        assert all(run["failed"] == 0 and run["total_output_tokens"] == OUTPUT_LEN for run in fact["measured"]["runs"])


def test_the_image_that_is_served_was_pulled_by_digest_on_every_node(served, pinned):
    digest = pinned.rpartition("@")[2]
    for layout in LAYOUTS:
        reasons = served.fact("labt1", "startup", layout["name"])["reasons"]
        said = [item["seen"] for item in reasons if item["check"] == "serve.image" and item["status"] == "healthy"]
        assert [line.partition(":")[0] for line in said] == ["labt1", "labt2"][: layout["nodes"]]
        assert all(digest in line and ("pulled now" in line or "there already" in line) for line in said), said


def test_startup_says_what_runs_and_on_which_nodes(served, lab):
    addresses = sorted(lab.addresses()[name] for name in ("labt1", "labt2"))
    for layout in LAYOUTS:
        fact = served.fact("labt1", "startup", layout["name"])
        checks = {item["check"]: item for item in fact["reasons"]}
        assert checks["serve.ready"]["status"] == checks["serve.model"]["status"] == "healthy"
        assert checks["serve.kv_arithmetic"]["status"] == "healthy", "tokens of the KV cache agree with the model's config"
        if layout["executor"] == "ray":
            assert len(fact["context"]["ray_workers"]) == layout["tp"] * layout["pp"]
            workers = {worker["address"] for worker in fact["context"]["ray_workers"]}
            assert sorted(workers) == addresses[: layout["nodes"]]
        elif layout["nodes"] > 1:
            assert checks["serve.span"]["status"] == "healthy"
            workers = fact["context"]["node_workers"]
            assert [worker["address"] for worker in workers] == addresses and workers[1]["connections"] > 0


def test_nothing_is_left_between_and_after_the_layouts(served, lab):
    for node in lab.names:
        assert lab.shell(node, "docker ps --all --quiet").split() == []
        assert [line for line in lab.shell(node, "ps -eo args").splitlines() if "vllm" in line.lower() or "raylet" in line] == []


def kill_container_when_measuring(lab, name, seen):
    """Wait for the layout's first measured run, then kill the container of the second node; note when."""
    for _ in range(300):
        if lab.shell("labt1", "ls /var/lib/plumbline/serve/%s/bench-01.json 2>/dev/null" % name, check=False).strip():
            lab.shell("labt2", "docker kill plumbline-%s" % name)
            seen[name] = time.time()
            return
        time.sleep(0.3)


@pytest.mark.parametrize("executor", ["ray", "mp"])
def test_killed_worker_container_fails_its_layout_within_a_minute_and_the_next_one_runs(lab, model, executor):
    victim = {"name": "victim_" + executor, "tp": 1, "pp": 2, "nodes": 2, "executor": executor}
    survivor = {"name": "survivor_" + executor, "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"}
    lab.shell("labt1", "rm -rf /var/lib/plumbline/serve/" + victim["name"])
    killed = {}
    killer = threading.Thread(target=kill_container_when_measuring, args=(lab, victim["name"], killed))
    killer.start()
    run = lab.play(
        "site.yml", "--tags serve", run_id="killed-container-" + executor, vllm_serve_layouts=[victim, survivor],
        serve_benchmark_runs=5, serve_benchmark_preload="{{ vllm_serve_layout.name is match('survivor') }}", **IN_CONTAINERS,
    )  # fmt: skip
    killer.join()
    assert victim["name"] in killed, "the layout never got as far as a measured run"
    assert run.status != 0
    fact = run.fact("labt1", "benchmark", victim["name"])
    assert fact["status"] == "failed"
    ended = fact_end(fact)
    assert ended - killed[victim["name"]] < 60, "%.0f s until the fact" % (ended - killed[victim["name"]])
    assert 1 <= fact["measured"]["num_runs"] < 5, "what was measured before is kept"
    said = " | ".join(item["seen"] for item in fact["reasons"])
    address = lab.addresses()["labt2"]
    assert "%s: the container plumbline-%s ended with 137" % (address, victim["name"]) in said
    assert run.fact("labt1", "benchmark", survivor["name"])["status"] in ("healthy", "degraded")


def fact_end(fact):
    """Return when a fact was complete, as seconds since the epoch."""
    started = datetime.strptime(fact["started_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return started.timestamp() + fact["duration_s"]


def test_missing_image_is_a_verdict_and_not_a_crash(lab, model):
    run = lab.play(
        "site.yml", "--tags serve", run_id="no-image", vllm_serve_image="plumbline/no-such-image:lab",
        vllm_serve_layouts=[{"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"}], **IN_CONTAINERS,
    )  # fmt: skip
    assert run.status != 0
    fact = run.fact("labt1", "startup", "tp1")
    assert fact["status"] == "failed"
    assert "no-such-image" in " ".join(item["seen"] for item in fact["reasons"])


BRING = [
    {
        "name": "Bring the image to all nodes",
        "hosts": "nodes",
        "gather_facts": False,
        "tasks": [{"name": "Bring it", "ansible.builtin.include_role": {"name": "vllm_serve", "tasks_from": "image"}}],
    }
]
PUSH = """set -e
mkdir -p /tmp/more && cd /tmp/more && head -c 24M /dev/urandom > blob
printf 'FROM plumbline/vllm-cpu:lab\nCOPY blob /blob\n' > Dockerfile
docker build --quiet --tag registry:5000/plumbline/vllm-cpu:more . > /dev/null
docker push --quiet registry:5000/plumbline/vllm-cpu:more > /dev/null
docker image inspect -f '{{index .RepoDigests 0}}' registry:5000/plumbline/vllm-cpu:more
docker image rm registry:5000/plumbline/vllm-cpu:more > /dev/null; rm -r /tmp/more
"""


@pytest.fixture(scope="module")
def bring(lab, tmp_path_factory):
    """Return a function that brings an image to all nodes, as the plays do, and returns the run."""
    playbook = tmp_path_factory.mktemp("image") / "image.yml"
    playbook.write_text(yaml.safe_dump(BRING))

    def run(image, *arguments, **variables):
        return lab.play(str(playbook), *arguments, vllm_serve_image=image, **{"vllm_serve_image_pull": "missing", **variables})

    return run


def results(run):
    """Return ``{node: result}`` of the module in a run."""
    wanted = ("runner_on_ok", "runner_on_failed")
    done = [
        event["event_data"] for event in run.events if event["event"] in wanted and event["event_data"]["task_action"] == "container_image"
    ]
    return {data["host"]: data["res"] for data in done}


def shape(lab, rate):
    """Give the links to the nodes another rate, from the machine's side."""
    for number in range(len(lab.names)):
        argv = ["tc", "qdisc", "replace", "dev", "labth%d" % (number + 1), "root", *plan.tbf(plan.parse_rate(rate))]
        subprocess.run(argv, check=True)


@pytest.fixture
def slow_links(lab):
    """Links of 40 Mbit/s for one test; the lab's own are of 1 Gbit/s."""
    shape(lab, "40mbit")
    yield
    shape(lab, "1gbit")


def test_an_image_comes_to_every_node_by_digest_with_progress(lab, bring, slow_links):
    image = lab.shell("labt1", PUSH).strip()
    said = bring(image, "--check")
    assert all("would be pulled from registry:5000" in item["reasons"][-1]["seen"] for item in results(said).values()), said.text
    run = bring(image).ok("the image")
    assert "MB/s" in run.text and " left; 1 of 2 layers here" in run.text, "bytes, rate and time left of the layer that the nodes lack"
    brought = results(run)
    assert sorted(brought) == lab.names
    assert all(item["pulled"]["bytes"] > 24 << 20 for item in brought.values())
    ids = {lab.shell(node, "docker image inspect -f '{{.Id}} {{.RepoDigests}}' %s" % image).strip() for node in lab.names}
    assert len(ids) == 1 and image in ids.pop()
    again = results(bring(image).ok("again"))
    assert all(not item["changed"] and item["pulled"] == {} for item in again.values())
    for node in lab.names:
        lab.shell(node, "docker image rm %s" % image)


def test_a_wrong_digest_is_named_on_every_node(lab, bring, pinned):
    wrong = pinned.rpartition("@")[0] + "@sha256:" + "0" * 64
    run = bring(wrong)
    assert run.status != 0
    for node, item in results(run).items():
        assert (
            "serve.image: the registry registry:5000 has no %s" % wrong in item["msg"] and "What to do: look the digest up" in item["msg"]
        ), node
    assert sorted(results(run)) == lab.names


def test_a_registry_that_is_down_is_named_on_every_node(lab, bring, pinned):
    folder = "/var/lib/plumbline-lab/labt"
    assert registry.stop(folder)
    try:
        run = bring(pinned.rpartition("@")[0] + ":not-here")
        assert run.status != 0 and sorted(results(run)) == lab.names
        for item in results(run).values():
            assert "serve.registry: the registry registry:5000 is down" in item["msg"] and "connection refused" in item["msg"]
    finally:
        lab.up()
    assert lab.shell("labt1", "docker pull --quiet %s" % pinned)


SMALL = "head -c 4M /dev/urandom > /tmp/blob && tar -C /tmp -c blob | docker import - plumbline/small:lab; rm /tmp/blob"


def test_an_image_that_only_the_head_has_is_handed_on_and_proved_by_its_id(lab, bring):
    image = lab.shell("labt1", SMALL).strip()
    head = {"vllm_serve_image_pull": "never", "vllm_serve_image_source": "head"}
    run = bring("plumbline/small:lab", **head).ok("handed on")
    assert all(item["images"][0]["Id"] == image for item in results(run).values()) and sorted(results(run)) == lab.names
    taken = [fact for (host, kind, _name), fact in run.facts().items() if kind == "model" and host != "labt1"]
    assert [fact["measured"]["transferred_bytes"] > 4 << 20 for fact in taken] == [True, True], "copied and verified as the model is"
    for node in lab.names:
        assert lab.shell(node, "docker image inspect -f '{{.Id}}' %s" % image).strip() == image
        assert lab.shell(node, "ls /var/lib/plumbline/images").split() == [], "the file goes away"
    again = bring("plumbline/small:lab", **head).ok("again")
    assert again.changed == {}, "who has it gets nothing"
    for node in lab.names:
        lab.shell(node, "docker image rm %s" % image)
