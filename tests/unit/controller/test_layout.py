"""What the tasks of a layout are told, and what is known after each of them."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller import layout
from ansible.module_utils.plumbline.core.fact import Measurement, reason

RAY = {"name": "pp2", "tp": 1, "pp": 2, "nodes": 2, "executor": "ray"}
NATIVE = dict(RAY, executor="mp")
ALONE = dict(NATIVE, name="tp2", tp=2, pp=1, nodes=1)
DIGEST = "sha256:0123456789abcdef"


def planned(one=RAY, hosts=("a", "b", "c"), **given):
    given = {
        "layout": one, "hosts": list(hosts), "runtime": "host", "venv": "/venv", "image": "img", "image_infos": [], "gpus": True,
        "volumes": [], "model": "/models/m", "topology_file": "", "work_dir": "/work", "cache_dir": "/cache", "port": 8000,
        "ray_port": 6379, "master_port": 29501, **given,
    }  # fmt: skip
    return layout.plan(given)


def in_containers(ids=(DIGEST,) * 3, **given):
    return planned(runtime="docker", image_infos=[{"images": [{"Id": one}] if one else []} for one in ids], **given)


def test_a_virtual_environment_has_its_programs_and_no_container():
    plan = planned()
    assert (plan["program"], plan["ray_program"]) == ("/venv/bin/vllm", "/venv/bin/ray")
    assert plan["container"] == "" and plan["container_hosts"] == [] and plan["context"] == {} and plan["image_problems"] == []
    assert plan["layout_dir"] == "/work/pp2" and plan["env"] == {"VLLM_CACHE_ROOT": "/cache/host"}


def test_containers_are_named_after_their_layout_and_say_their_image():
    plan = in_containers()
    assert (plan["program"], plan["ray_program"], plan["container"]) == ("vllm", "ray", "plumbline-pp2")
    assert plan["container_hosts"] == ["a", "b"] and plan["context"] == {"image": "img", "image_id": DIGEST}
    assert plan["env"]["VLLM_CACHE_ROOT"] == "/cache/0123456789ab", "one folder for each image"
    assert plan["device_requests"] == [{"count": -1, "capabilities": [["gpu"]]}] and in_containers(gpus=False)["device_requests"] == []


@pytest.mark.parametrize("one, ray, workers, ports", [
    (RAY, ["a", "b"], [], {"port": 8000, "ray_port": 6379}), (NATIVE, [], ["b"], {"port": 8000, "master_port": 29501}),
    (ALONE, [], [], {"port": 8000}),
])  # fmt: skip
def test_the_executor_decides_who_does_what_and_which_ports(one, ray, workers, ports):
    plan = planned(one)
    assert plan["hosts"] == ["a", "b"][: one["nodes"]]
    assert (plan["ray_hosts"], plan["worker_hosts"], plan["ports"]) == (ray, workers, ports)
    assert plan["slots"] == one["tp"] * one["pp"] // one["nodes"]


@pytest.mark.parametrize("one", [RAY, NATIVE])
def test_nothing_is_started_for_a_layout_whose_nodes_are_missing(one):
    plan = in_containers(one=one, hosts=["a"])
    assert [plan[key] for key in ("hosts", "container_hosts", "ray_hosts", "worker_hosts")] == [[]] * 4


@pytest.mark.parametrize("executor", ["mp", "ray"])
@pytest.mark.parametrize("tp, pp, nodes, off", [(4, 1, 2, True), (16, 1, 2, True), (4, 2, 4, True), (2, 2, 2, False), (4, 1, 1, False)])
def test_ranks_of_one_group_on_several_nodes_do_not_wait_for_each_other_on_local_sockets(executor, tp, pp, nodes, off):
    plan = planned(dict(RAY, tp=tp, pp=pp, nodes=nodes, executor=executor), hosts=["a", "b", "c", "d"])
    assert plan["env"].get("VLLM_ALLREDUCE_USE_SYMM_MEM") == ("0" if off else None)


def test_sizes_given_as_text_count_as_numbers():
    assert planned(dict(RAY, tp="4", pp="2", nodes="2"))["slots"] == 4


def test_folders_are_the_same_inside_and_outside_and_nothing_missing_is_made():
    plan = planned(volumes=["/data:/data:ro"], topology_file="/opt/topo.xml")
    assert plan["volumes"] == ["/work:/work", "/cache:/cache", "/data:/data:ro"]
    assert [(item["source"], item["target"], item["read_only"]) for item in plan["mounts"]] == [
        ("/models/m", "/models/m", True), ("/opt/topo.xml", "/opt/topo.xml", True),
    ]  # fmt: skip
    assert plan["env"]["NCCL_TOPO_FILE"] == "/opt/topo.xml"


def test_two_images_under_one_name_are_refused_with_their_nodes():
    (said,) = in_containers(ids=(DIGEST, "sha256:ff", DIGEST))["image_problems"]
    assert "under the name img: a %s, b sha256:ff; give it by digest" % DIGEST in said


def test_an_image_of_a_node_that_does_not_serve_is_no_problem():
    assert in_containers(ids=(DIGEST, DIGEST, "sha256:ff"))["image_problems"] == []


@pytest.mark.parametrize("infos", [[], [{}, {}], [{"msg": "unreachable"}, {"images": []}]])
def test_a_node_without_the_image_has_no_id(infos):
    plan = planned(runtime="docker", image_infos=infos)
    assert plan["context"]["image_id"] == "" and plan["image_problems"] == [] and plan["env"]["VLLM_CACHE_ROOT"] == "/cache/host"


def test_the_first_id_that_is_known_names_the_image():
    plan = in_containers(ids=("", DIGEST))
    assert plan["context"]["image_id"] == DIGEST and plan["image_problems"] == []


def with_reasons(*statuses):
    infos = [{"images": [], "reasons": [reason("serve.image", status, "it is so")]} for status in statuses]
    return planned(runtime="docker", image_infos=infos)


def test_what_nodes_saw_of_the_image_is_in_the_startup_fact_by_node():
    plan = with_reasons("healthy", "failed")
    assert [item["seen"] for item in plan["image_reasons"]] == ["a: it is so", "b: it is so"] and plan["image_failed"] == ["b"]
    container = {"results": [{"item": "a", "msg": "no such device"}, {"item": "b", "msg": "Cannot find image with name x"}]}
    said = layout.prepared([container], plan)
    assert said["problems"] == ["a: no such device"], "without its image a node has no container either"
    assert [item["status"] for item in said["reasons"]] == ["healthy", "failed"] and not said["ready"]
    assert layout.prepared([], with_reasons("healthy", "healthy"))["ready"]


def test_one_image_by_digest_has_two_ids_where_engines_keep_images_in_two_ways():
    of_config = {"images": [{"Id": "sha256:aa", "RepoDigests": ["r/x@sha256:ff"]}]}
    of_manifest = {"images": [{"Id": "sha256:ff", "RepoDigests": ["r/x@sha256:ff"]}]}
    another = {"images": [{"Id": "sha256:ee", "RepoDigests": ["r/x@sha256:ee"]}]}
    assert planned(runtime="docker", image_infos=[of_config, of_manifest])["image_problems"] == []
    assert planned(runtime="docker", image_infos=[of_manifest, of_config])["image_problems"] == []
    (said,) = planned(runtime="docker", image_infos=[of_config, another])["image_problems"]
    assert "a sha256:aa, b sha256:ee" in said


def prepared(*results, problems=()):
    return layout.prepared(results, {"image_problems": list(problems)})


def looked(*reasons, item="a"):
    return {"results": [{"item": item, "changed": False, "reasons": list(reasons)}]}


def test_nodes_that_are_well_may_be_served_on():
    said = [reason("serve.gpus", "skipped", "no GPU"), reason("serve.memory", "degraded", "tight")]
    assert prepared({"results": []}, looked(*said)) == {"ready": True, "problems": [], "reasons": said}


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_one_bad_reason_of_one_node_stops_the_start(status):
    found = prepared({"results": []}, looked(reason("serve.gpus", "healthy", "8")), looked(reason("serve.port", status, "taken"), item="b"))
    assert not found["ready"] and [item["check"] for item in found["reasons"]] == ["serve.gpus", "serve.port"]


def test_what_went_wrong_is_said_with_its_node():
    dead = {"results": [{"item": "b", "unreachable": True, "msg": "Failed to connect"}, {"item": "c", "skipped": True}]}
    found = prepared({"results": [{"item": "a", "failed": True, "msg": "no such image"}]}, dead, problems=["two images"])
    assert found == {"ready": False, "problems": ["two images", "a: no such image", "b: Failed to connect"], "reasons": []}


def test_loops_that_took_no_node_say_nothing():
    assert prepared({}, {"skipped": True}, None, {"results": []}) == {"ready": True, "problems": [], "reasons": []}


def result(kind, status, name="pp2", **more):
    measurement = Measurement(kind, name)
    measurement.context["layout"] = name
    return dict(more, fact=measurement.fact(status))


def ended(startup, benchmark, keep=True, layouts=(ALONE, RAY)):
    return layout.ended(RAY, list(layouts), keep, startup, benchmark)


def test_the_last_layout_is_kept_when_it_was_asked_for_and_both_passed():
    startup, benchmark = result("startup", "healthy", ready=True), result("benchmark", "degraded")
    assert ended(startup, benchmark) == {"kept": True, "last_fact": benchmark["fact"]}
    assert not ended(startup, benchmark, keep=False)["kept"]
    assert not ended(startup, benchmark, layouts=(RAY, ALONE))["kept"], "not the last"


@pytest.mark.parametrize("startup, benchmark", [
    ("failed", "healthy"), ("healthy", "failed"), ("healthy", "incomplete"), ("healthy", "skipped"), ("skipped", "skipped"),
])  # fmt: skip
def test_a_layout_that_did_not_pass_is_not_kept(startup, benchmark):
    assert not ended(result("startup", startup, ready=True), result("benchmark", benchmark))["kept"]


def test_what_the_layout_before_left_keeps_nothing():
    startup, benchmark = result("startup", "healthy", ready=True), result("benchmark", "healthy", name="tp2")
    assert not ended(startup, benchmark)["kept"]
    assert not ended(dict(startup, ready=False), result("benchmark", "healthy"))["kept"]
    assert not ended({}, {})["kept"] and ended({}, {})["last_fact"] == {}


def test_a_server_that_never_served_has_its_start_as_its_last_fact():
    startup = result("startup", "failed", ready=False)
    assert ended(startup, {"skipped": True})["last_fact"] == startup["fact"]
    assert ended(startup, result("benchmark", "healthy"))["last_fact"] == startup["fact"], "the benchmark is the layout's before"
    assert ended({"unreachable": True, "msg": "gone"}, {"skipped": True})["last_fact"] == {}


def took(host, *uuids):
    return {"item": host, "reasons": [], "node": {"ranks": [{"index": index, "uuid": uuid} for index, uuid in enumerate(uuids)]}}


def test_two_nodes_that_would_take_one_gpu_are_not_served_on():
    """As in the capture h200x2/vllm-0.25.0.serve.native-two-nodes.same-gpu.head.log, where nobody said it."""
    found = layout.prepared([{"results": [took("n1", "GPU-a"), took("n2", "GPU-a")]}], planned(NATIVE, ["n1", "n2"]))
    assert not found["ready"]
    (said,) = found["problems"]
    assert "n1 and n2 would both take GPU-a (rank 0, GPU 0 of n1, rank 1, GPU 0 of n2)" in said and "plumbline_gpus" in said


def test_each_rank_has_its_node_and_gpu_and_anonymous_uuids_say_nothing():
    seen = [took("n2", "GPU-c", "GPU-d"), took("n1", "GPU-a", "GPU-b")]
    found = layout.prepared([{"results": seen}], planned(dict(NATIVE, tp=2), ["n1", "n2"]))
    assert found["ready"] and [(one["rank"], one["node"], one["index"], one["uuid"]) for one in found["ranks"]] == [
        (0, "n1", 0, "GPU-a"), (1, "n1", 1, "GPU-b"), (2, "n2", 0, "GPU-c"), (3, "n2", 1, "GPU-d"),
    ]  # fmt: skip
    zeros = "GPU-00000000-0000-0000-0000-000000000000"
    assert layout.prepared([{"results": [took("n1", zeros), took("n2", zeros)]}], planned(NATIVE, ["n1", "n2"]))["ready"]
    assert layout.prepared([{"results": [took("n1", None), took("n2", None)]}], planned(NATIVE, ["n1", "n2"]))["ready"]


def test_a_node_with_fewer_gpus_than_its_ranks_is_named_before_the_start():
    plan = planned(dict(NATIVE, tp=2), ["n1", "n2"], node_gpus={"n1": [0, 1], "n2": "1"})
    assert plan["gpus"] == {"n1": ["0", "1"], "n2": ["1"]}
    (said,) = plan["gpu_problems"]
    assert said.startswith("n2: plumbline_gpus has 1 GPU(s) (1), and the layout has 2 ranks on each node")
    assert not layout.prepared([], plan)["ready"]
    assert planned(node_gpus={"a": [3], "b": []})["gpu_problems"] == []
    assert "named twice" in planned(node_gpus={"a": [3, 3]})["gpu_problems"][0]


def test_a_container_gets_the_chosen_gpus():
    plan = in_containers(node_gpus={"a": [0, 1], "b": []})
    assert plan["chosen_device_requests"] == {"a": [{"device_ids": ["0", "1"], "capabilities": [["gpu"]]}]}


def test_torch_gets_the_choice_as_it_is():
    assert layout.gpu_environment([0, 2]) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,2"}
    assert layout.gpu_environment([]) == layout.gpu_environment("all") == {}
