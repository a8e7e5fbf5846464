"""The main job, end to end, on real nodes: OpenSSH, Ray, vLLM and `vllm bench serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAYOUTS = {"tp1": (1, 1, 1), "tp2": (2, 1, 1), "pp2_across": (1, 2, 2), "tp2_across": (2, 1, 2)}
PROMPTS, OUTPUT_LEN, RUNS = 2, 64, 3

# The run that the first test waits for serves one layout after the other, about a minute each on two cores.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def files_of(lab, node):
    """Return a listing of every file of a node's own disk that a run could have changed, with time and size."""
    return lab.shell(
        node,
        "find / -xdev -type f -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/log/*' -not -path '/root/.ansible*' "
        "-not -path '/run/*' -not -name '*.pyc' -printf '%p %s %T@\\n' | sort",
    )


@pytest.fixture(scope="module")
def checked(lab):
    """site.yml --check on a lab that nothing has touched yet, with the nodes' files before and after."""
    lab.down()  # other tests may have used it
    lab.up()
    before = {node: files_of(lab, node) for node in lab.names}
    run = lab.play("site.yml", "--check", "--diff", run_id="check")
    return run, before, {node: files_of(lab, node) for node in lab.names}


@pytest.fixture(scope="module")
def site(lab, checked):
    """One complete run, which leaves its last layout serving."""
    return lab.play(
        "site.yml", run_id="site", serve_benchmark_prompts=PROMPTS, serve_benchmark_output_len=OUTPUT_LEN, serve_benchmark_runs=RUNS,
        vllm_serve_keep=True,
    )  # fmt: skip


def test_check_mode_fails_nothing_and_changes_nothing(checked):
    run, before, after = checked
    run.ok("site.yml --check")
    assert not run.dir.exists(), "check mode wrote results"
    assert after == before


def test_site_runs_and_every_layout_measured_what_was_asked(site):
    site.ok("site.yml")
    facts = site.facts()
    for layout, (tp, pp, nodes) in LAYOUTS.items():
        fact = facts["labt1", "benchmark", layout]
        # On two cores an answer may come in one burst, which is said and is no failure.
        assert fact["status"] in ("healthy", "degraded"), fact["reasons"]
        assert (fact["context"]["tp"], fact["context"]["pp"], fact["context"]["nodes"]) == (tp, pp, nodes)
        runs = fact["measured"]["runs"]
        assert len(runs) == RUNS
        assert fact["context"]["client_preloaded"] is True, "each run was forked from one client"
        for run in runs:
            assert run["completed"] == run["num_prompts"] == PROMPTS
            assert run["failed"] == 0
            assert run["total_output_tokens"] == PROMPTS * OUTPUT_LEN
            assert run["tpot_ms"] > 0 and run["ttft_ms"] > 0 and run["e2e_ms"] > run["ttft_ms"]
            # The two throughputs are made of the same requests: E2E = TTFT + (n - 1) x TPOT.
            assert run["e2e_ms"] == pytest.approx(run["ttft_ms"] + (OUTPUT_LEN - 1) * run["tpot_ms"], rel=0.02)


def test_sweep_and_goodput_are_measured_and_drawn(site):
    for layout in LAYOUTS:
        measured = site.fact("labt1", "benchmark", layout)["measured"]
        assert [level["concurrency"] for level in measured["sweep"]] == [1, 4, 8]
        assert all(level["completed"] == level["num_prompts"] and level["failed"] == 0 for level in measured["sweep"])
        assert measured["sweep"][2]["total_throughput_tok_s"] > measured["sweep"][0]["total_throughput_tok_s"], "a batch is faster"
        assert all(0 <= run["goodput_share"] <= 1 for run in measured["runs"])
    assert (site.dir / "plots/sweep_by_layout.svg").exists()


def test_layouts_across_really_span_two_nodes(site, lab):
    addresses = lab.addresses()
    for layout in ("pp2_across", "tp2_across"):
        startup = site.fact("labt1", "startup", layout)
        workers = [worker["address"] for worker in startup["context"]["ray_workers"]]
        assert sorted(workers) == sorted([addresses["labt1"], addresses["labt2"]])
        for name in ("report.md", "report.html"):
            text = (site.dir / name).read_text()
            assert addresses["labt1"] in text and addresses["labt2"] in text


def test_fabric_is_swept_within_and_across(site):
    facts = site.facts()
    for name in ("all_reduce.within", "all_reduce.across", "sendrecv.within", "sendrecv.across"):
        fact = facts["labt1", "collective", name]
        assert fact["status"] == "healthy", fact["reasons"]
        sizes = [row["size_bytes"] for row in fact["measured"]["sweep"]]
        assert sizes == sorted(sizes) and sizes[0] == 8 and sizes[-1] == 64 * 2**20
        assert all(row["busbw_gbps"] > 0 and row["time_us"]["median"] > 0 for row in fact["measured"]["sweep"])


def test_the_serving_runtimes_own_all_reduce_is_measured_as_the_layouts_use_it(site):
    fact = site.fact("labt1", "collective", "serving_all_reduce")
    assert fact["status"] == "healthy", fact["reasons"]
    results = {(item["tp"], item["nodes"], item["batch"]): item for item in fact["measured"]["results"]}
    assert set(results) == {(2, nodes, batch) for nodes in (1, 2) for batch in (1, 16)}
    # Shared memory within a node, as vLLM serves on CPU, and Gloo across; no CUDA, so no graph, and it says so.
    assert {item["path"] for key, item in results.items() if key[1] == 1} == {"shm"}
    assert {item["path"] for key, item in results.items() if key[1] == 2} == {"gloo"}
    assert {item["method"] for item in results.values()} == {"eager"} and not [item for item in results.values() if item["wrong"]]
    assert {item["message_bytes"] for item in results.values()} == {256, 4096}


def test_model_is_verified_on_every_node(site, lab):
    hashes = {site.fact(node, "model", "tiny_qwen2")["context"]["manifest_sha256"] for node in lab.names}
    assert len(hashes) == 1


def test_every_fact_is_valid(site):
    envelope = json.loads((ROOT / "docs/schema/fact.schema.json").read_text())
    for (_host, kind, _name), fact in site.facts().items():
        jsonschema.validate(fact, envelope)
        schema = json.loads((ROOT / ("docs/schema/%s.schema.json" % kind)).read_text())
        jsonschema.validate(fact, schema)


def test_report_says_from_data_that_tp_across_is_slower_than_pp_across(site):
    median = {layout: site.fact("labt1", "benchmark", layout)["measured"]["summary"]["decode_tok_s"]["median"] for layout in LAYOUTS}
    assert median["tp2_across"] < median["pp2_across"]
    finding = next(item for item in site.document()["findings"] if item["id"] == "layouts.tp_against_pp_across")
    assert (finding["values"]["fast"], finding["values"]["slow"]) == ("pp2_across", "tp2_across")
    assert finding["claim"] in (site.dir / "report.html").read_text()


def test_report_is_complete_and_stands_alone(site):
    document = site.document()
    assert document["run"]["run_id"] == "site"
    assert {path.suffix for path in (site.dir / "plots").iterdir()} == {".png", ".svg"}
    assert len(list((site.dir / "plots").glob("*.png"))) >= 4
    assert all(path.stat().st_size > 5000 for path in (site.dir / "plots").iterdir())
    html = (site.dir / "report.html").read_text()
    assert html.count("<svg") >= 4
    assert 'src="http' not in html and 'href="http' not in html.replace("http://www.w3.org", "")


def test_second_validation_changes_nothing(site, lab):
    run = lab.play("site.yml", "--tags validate", run_id="validate").ok("second validation")
    assert run.changed == {}


def test_node_assertions_pass(site, lab):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/node", "--hosts=ansible://nodes",
         "--ansible-inventory=%s" % lab.inventory, "-q", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def test_last_layout_keeps_serving_when_asked_to(site, lab):
    body = '{"model": "tiny-qwen2", "prompt": "a", "max_tokens": 3, "temperature": 0}'
    answer = lab.shell(
        "labt3",
        "python3 -c 'import sys, urllib.request as u; print(u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), "
        '{"Content-Type": "application/json"}), timeout=60).read().decode())\' http://%s:8000/v1/completions \'%s\''
        % (lab.addresses()["labt1"], body),
    )
    assert json.loads(answer)["usage"]["completion_tokens"] == 3


def test_another_run_does_not_touch_what_serves(site, lab):
    def held(kept):
        path = "/run/plumbline-serving.lock"
        holder = json.loads(lab.shell("labt1", "cat " + path))
        assert holder["run"] == "site" and holder["kept"] is not kept
        # As if its run went on, on a controller whose processes nobody here can see.
        changed = json.dumps(dict(holder, kept=kept, controller="elsewhere"))
        lab.shell("labt1", "cat > %s <<'END'\n%s\nEND" % (path, changed))

    def engines():
        return sorted(line for line in lab.shell("labt1", "ps -eo pid,args").splitlines() if "vllm serve" in line)

    before = engines()
    assert before
    held(kept=False)
    second = lab.play("site.yml", "--tags", "serve", run_id="second")
    assert second.status != 0 and "run site of " in second.text and "@elsewhere" in second.text
    assert engines() == before


def test_reset_leaves_nothing_running(site, lab):
    # An engine alone, its server killed: it has overwritten its environment, and its parent is gone.
    lab.shell("labt1", "pkill -STOP -f 'VLLM:[:]'; pkill -KILL -f 'vllm serv[e]'; pgrep -f 'VLLM:[:]'")
    would = lab.play("playbooks/reset.yml", "--check", run_id="reset-check").ok("reset --check")
    assert "would end" in would.text and "VLLM::EngineCore" in would.text
    done = lab.play("playbooks/reset.yml", run_id="reset").ok("reset")
    assert "VLLM::EngineCore" in done.text and "broke the lock of run site of" in done.text
    for node in lab.names:
        left = [line for line in lab.shell(node, "ps -eo pid,args").splitlines() if "ray" in line.split() or "vllm" in line.lower()]
        assert left == []
    assert lab.play("playbooks/reset.yml", run_id="reset2").ok("second reset").changed == {}
