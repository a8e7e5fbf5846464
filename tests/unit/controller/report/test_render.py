"""The rendered report of synthetic runs: complete, escaped, self-contained, the same twice."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest
from ansible.module_utils.plumbline.controller.report import render as report_render
from ansible.module_utils.plumbline.controller.report.format import digits, mean_and_error
from project import H200, ROOT
from report_runs import benchmark, collective, fact, health, put, reason, startup, whole_run, with_sweep, write

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> | `code` </style> {{ 7*7 }} \ud800 \x00'
VOID = {"meta", "br", "img", "path", "use", "rect"}


def build(folder):
    return report_render.build(str(folder), str(ROOT / "docs" / "schema"), str(ROOT / "roles" / "report" / "templates"))


@pytest.fixture
def render(tmp_path):
    def run(files):
        made, _found = build(write(files, tmp_path))
        return {path: content.decode() for path, content in made.items() if not path.startswith("plots/")}

    return run


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href", "srcset"):
                self.links.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_page_is_one_file_that_needs_nothing_else(render):
    page = Page(render(whole_run())["report.html"])
    assert page.open == []
    assert not {"script", "iframe", "object", "embed", "link", "img"} & set(page.tags)
    assert page.tags.count("svg") == 6
    outside = [link for link in page.links if not link.startswith(("#", "plots/"))]
    assert outside == []


def test_a_large_fleet_is_folded_and_its_only_script_is_the_projects_own(render):
    files = whole_run()
    clocks = next(made for path, made in files.items() if "clocks." in path)
    for index in range(30):
        full = health("failed", reasons=[reason("disk.free", "failed", "1 GiB free")]) if index == 29 else health()
        put(files, "spare%02d" % index, full)
        put(files, "spare%02d" % index, clocks)
    files["run.json"]["hosts"] += ["spare%02d" % index for index in range(30)]
    made = render(files)["report.html"]
    page = Page(made)
    assert page.open == [] and page.tags.count("script") == 1 and not {"iframe", "object", "embed", "link", "img"} & set(page.tags)
    assert (ROOT / "roles" / "report" / "templates" / "report.js").read_text().strip() in made
    shown, folded = made.split('<details class="folded">', 1)
    assert "spare29" in shown and "spare03" not in shown and "spare03" in folded, "it is all there without the script"
    assert "1 failed" in page.text.partition("nodes: ")[2][:40]


def test_css_names_no_external_resource_and_covers_dark_and_print():
    css = (ROOT / "roles" / "report" / "templates" / "report.css").read_text()
    assert "url(" not in css and "@import" not in css
    assert "prefers-color-scheme: dark" in css and "@media print" in css
    blocks = [set(re.findall(r"(--\w+):", block)) for block in re.findall(r":root \{(.*?)\}", css, flags=re.S)]
    assert len(blocks) == 3 and blocks[0] == blocks[1] == blocks[2]
    assert set(re.findall(r"var\((--\w+)\)", css)) <= blocks[0]


def test_sections_come_in_order(render):
    made = render(whole_run())
    order = [
        "Nodes",
        "Serving nodes and spares",
        "Fabric",
        "Layouts",
        "Findings",
        "Formulas",
        "Where the numbers",
        "Incidents",
    ]
    for name, pattern in (("report.html", "<h%d>%s"), ("report.md", "%.0s## %s")):
        places = [min(p for p in (made[name].find(pattern % (n, title)) for n in (2, 3)) if p >= 0) for title in order]
        assert places == sorted(places)


def test_both_reports_show_the_measured_numbers_and_the_ray_addresses(render):
    made = render(whole_run())
    texts = Page(made["report.html"]).text, made["report.md"].replace("\\", "")
    for text in texts:
        for name in ("tp1", "tp2_within", "pp2_across", "tp2_across"):
            stats = benchmark(name)["measured"]["summary"]["throughput_tok_s"]
            assert "%s ± %s" % mean_and_error(stats["mean"], stats["ci95_high"] - stats["mean"]) in text
        assert "Ray: 10.98.0.11, 10.98.0.12" in text
        assert "Fastest is tp1" in text and "640 µs" in text
        assert "ansible-playbook site.yml -i inventory/lab" in text
        assert "no baseline" in text
        assert "node1 (head), node2" in text


def test_facts_json_has_everything_and_fits_its_schema(render):
    whole = json.loads(render(whole_run())["facts.json"])
    schema = json.loads((ROOT / "docs" / "schema" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(whole)
    assert len(whole["facts"]) == sum(path.startswith("facts/") for path in whole_run())
    assert whole["verdicts"]["overall"] == "healthy" and whole["findings"]


def test_text_from_nodes_cannot_become_markup(render):
    files = whole_run()
    files["incidents.json"] = [
        {"host": "node1", "role": EVIL, "task": EVIL, "state": "failed", "message": EVIL, "at": EVIL},
        {"host": EVIL, "role": None, "task": None, "state": "failed", "message": None, "at": None},
    ]
    files["selection.json"]["excluded"] = {EVIL: EVIL}
    put(files, "node1", health("failed", reasons=[reason(EVIL, "failed", EVIL, EVIL, EVIL)], command=EVIL))
    odd = startup("tp1")
    odd["context"].update(vllm_version=EVIL, runtime=EVIL, node_addresses=[EVIL])
    put(files, "node1", odd)
    fabric = collective("all_reduce", "within", 20.0, 2.0)
    fabric["context"].update(op=EVIL, interface=EVIL)
    put(files, "node1", fabric)
    made = render(files)
    page = Page(made["report.html"])
    assert page.open == [] and not {"script", "img"} & set(page.tags)
    assert "<script>alert" in page.text and "{{ 7*7 }}" in page.text
    for line in made["report.md"].splitlines():
        assert not re.search(r"(?<!\\)<(script|img)", re.sub(r"`[^`]*`", "", line))
    rows = [line for line in made["report.md"].splitlines() if line.startswith("| node1 |") and "**failed**" in line]
    header = next(line for line in made["report.md"].splitlines() if line.startswith("| node | place"))
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in (header, rows[0])]
    assert bars[0] == bars[1]
    json.loads(made["facts.json"])


def test_a_failed_layout_shows_why_and_no_number(render):
    files = whole_run()
    bad = benchmark("tp2_across")
    value = digits(bad["measured"]["summary"]["ttft_ms"]["mean"])
    bad["status"] = "failed"
    bad["reasons"] = [reason("benchmark.runs", "failed", "run 3 of 5: the server ended", "5 runs", "read server.log")]
    put(files, "node1", bad)
    text = render(files)["report.md"]
    row = next(line for line in text.splitlines() if line.startswith("| tp2\\_across |") and "**failed**" in line)
    assert value not in row and "—" in row
    assert "run 3 of 5" in text and "read server.log" in text
    assert "Not proven" in text


@pytest.mark.parametrize("path", sorted(whole_run()))
@pytest.mark.parametrize("content", [None, "", "null", '{"measured": 3, "context": [], "reasons": "x"}'])
def test_any_file_may_be_missing_or_odd(render, path, content, monkeypatch):
    monkeypatch.setattr(report_render, "draw", lambda *_records: [])  # plots have their own tests
    files = whole_run()
    if content is None:
        del files[path]
    else:
        files[path] = content
    made = render(files)
    assert "Findings" in made["report.html"] and "node1" in made["report.md"]
    whole = json.loads(made["facts.json"])
    if path.startswith("facts/") and content is not None:
        assert any(entry["file"] == path and entry["problems"] for entry in whole["facts"])
        assert whole["verdicts"]["overall"] in ("incomplete", "failed")


def test_every_measured_value_may_be_null(render):
    files = whole_run()

    def emptied(value):
        if isinstance(value, dict):
            return {key: emptied(item) for key, item in value.items()}
        if isinstance(value, list):
            return [emptied(item) for item in value]
        return None

    for path, content in files.items():
        if path.startswith("facts/"):
            content["measured"], content["context"] = emptied(content["measured"]), emptied(content["context"])
    made = render(files)
    assert "nan" not in Page(made["report.html"]).text.lower().split()
    assert json.loads(made["facts.json"])["verdicts"]["overall"] == "incomplete"


def test_rendering_twice_changes_nothing(tmp_path):
    write(whole_run(), tmp_path)
    first, _found = build(tmp_path)
    assert report_render.differing(str(tmp_path), first) == sorted(first)
    report_render.write(str(tmp_path), first, sorted(first))
    second, _found = build(tmp_path)
    assert report_render.differing(str(tmp_path), second) == []
    (tmp_path / "plots" / "old.svg").write_text("x")
    assert report_render.stale(str(tmp_path), second) == ["plots/old.svg"]


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    (tmp_path / "report.md").write_text("old")

    def refuse(*_paths):
        raise OSError("no space")

    monkeypatch.setattr(report_render.os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        report_render.write(str(tmp_path), {"report.md": b"new"}, ["report.md"])
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text() == "old"


def test_distribution_goodput_and_sweep_are_in_both_reports(render):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1")))
    made = render(files)
    words = " ".join(" ".join(Page(made["report.html"]).words).split())
    for text in (made["report.md"].replace("\\", ""), words):
        for part in (
            "Distribution over requests",
            "8.10 / 9.20 / 9.90",
            "TTFT ≤ 200 ms, TPOT ≤ 20 ms",
            "0.9 req/s (93.3 %)",
            "Throughput against latency",
            "40.0 / 50.0",
            "75.0 % (3 of 4)",
            "3.20 req/s",
            "SLO TTFT ≤ 200 ms, TPOT ≤ 20 ms",
            "mean TTFT 640 ms over 200 ms; a queue: the server takes 8; 2 begun again",
        ):
            assert part in text, part  # fmt: skip
    assert "1.70 % wide, reached" in words
    assert 'src="plots/' not in made["report.html"] and "plots/sweep_by_layout.png" in made["report.md"]


def test_without_a_sweep_there_is_neither_table_nor_plot(render):
    made = render(whole_run())
    for text in made["report.md"], made["report.html"]:
        assert "Throughput against latency" not in text and "Distribution over requests" not in text


def both(made):
    """Return the visible text of both reports."""
    return made["report.md"].replace("\\", ""), Page(made["report.html"]).text


def test_a_bound_is_called_missed_only_where_the_mean_is_over_it(render):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1"), levels=((1, 100.0), (16, 900.0))))
    rows = [line for line in render(files)["report.md"].splitlines() if line.startswith("| tp1 | ") and "3.20 req/s" in line]
    assert len(rows) == 2 and "over" not in rows[0], "three of four kept the SLO, and no mean is over a bound"
    assert "mean TTFT 640 ms over 200 ms" in rows[1] and "mean TPOT" not in rows[1]


def test_layouts_with_different_slos_are_named_with_theirs(render):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1")))
    other = with_sweep(benchmark("tp2_within"))
    other["measured"]["slo"] = {"e2e_ms": 5000.0}
    put(files, "node1", other)
    for text in both(render(files)):
        assert "SLO tp1: TTFT ≤ 200 ms, TPOT ≤ 20 ms; tp2_within: E2E ≤ 5000 ms" in text


def dummy(name):
    one = startup(name)
    one["context"].update(load_format="dummy", compile_cache_hit=False)
    del one["measured"]["load_weights_s"]
    one["measured"].update(model_load_s=1.56, compile_s=19.05)
    return one


def test_weights_that_nobody_read_are_said_at_the_top_and_at_the_layout(render):
    files = whole_run()
    put(files, "node1", dummy("tp1"))
    markdown, page = both(render(files))
    for text in (markdown, page):
        assert text.count("Dummy weights (tp1): speed only, no sense in the answers.") == 1
        assert text.index("Dummy weights (tp1)") < text.index("Serving nodes and spares")
    assert "| tp1 (dummy weights) | **healthy**" in markdown and "1 node · dummy weights" in page
    for name in ("tp1", "tp2_within", "pp2_across", "tp2_across"):
        put(files, "node1", dummy(name))
    for text in both(render(files)):
        assert "Dummy weights: speed only, no sense in the answers." in text
    for text in both(render(whole_run())):
        assert "ummy weights" not in text


def test_the_start_shows_what_was_loaded_and_what_was_compiled(render):
    files = whole_run()
    put(files, "node1", dummy("tp1"))
    warm = startup("tp2_within")
    warm["context"]["compile_cache_hit"] = True
    warm["measured"]["compile_s"] = 3.2
    put(files, "node1", warm)
    markdown, page = both(render(files))
    assert "| 41.5 s | 1.56 s (whole model) | 19.1 s | miss |" in markdown and "| 41.5 s | 0.42 s | 3.20 s | hit |" in markdown
    assert "1.56 s (whole model) 19.1 s miss" in page and "0.42 s 3.20 s hit" in page
    assert "| 41.5 s | 0.42 s | — | — |" in markdown, "what the log does not say is no miss"


def test_what_passed_with_something_to_look_at_is_counted(render):
    files = whole_run()
    for text in both(render(files)):
        assert "Every node and layout that was measured passed." in text
    put(files, "node2", health("degraded"))
    put(files, "node1", dict(benchmark("tp1"), status="degraded", reasons=[reason("benchmark.interval", "degraded", "wide")]))
    for text in both(render(files)):
        assert "passed, 1 of 3 nodes (node2) and 1 of 4 layouts (tp1) with something to look at." in text


def test_throughput_says_how_many_requests_were_in_flight(render):
    files = whole_run()
    for text in both(render(files)):
        assert "tok/s, one request at a time, " in text
    for name in ("tp1", "tp2_within", "pp2_across", "tp2_across"):
        one = benchmark(name)
        one["measured"]["concurrency"] = 8
        put(files, "node1", one)
    markdown, page = both(render(files))
    assert "8 requests in flight" in markdown and "tp1, 8 requests in flight" in page and "one request at a time" not in markdown + page


def test_an_end_that_is_not_known_is_no_row(render):
    files = whole_run()
    assert "| finished |" not in render(files)["report.md"]
    files["run.json"]["finished_at"] = "2026-11-24T12:06:00Z"
    assert "| finished | 2026-11-24T12:06:00Z |" in render(files)["report.md"]


@pytest.mark.parametrize("held_us, seen, share", [(24731190, 23, "39.2 %"), (None, 23, "36.5 %"), (500000, 23, None), (0, 0, None)])
def test_a_power_cap_during_the_sweep_is_said_below_the_plot(render, held_us, seen, share):
    files = whole_run()
    one = with_sweep(benchmark("tp1"))
    clocks = json.loads((H200 / "plumbline.benchmark.qwen7b.json").read_text())["context"]["sweep_clocks"]
    (gpu,) = clocks["gpus"].values()
    gpu.update(reasons_seen={"sw_power_cap": seen}, throttle_us={} if held_us is None else {"sw_power_cap": held_us})
    one["context"]["sweep_clocks"] = clocks
    put(files, "node1", one)
    wanted = "its power limit of 700 W during the sweep, %s of the time under load, its SM clock down to 1515 from 1980 MHz" % share
    for text in both(render(files)):
        assert (wanted in text) is bool(share) and ("power limit" in text) is bool(share)
        assert not share or text.index("Throughput against latency") < text.index(wanted) < text.index("Each is computed from")


def test_real_runs_of_an_h200_say_what_they_are(render):
    files = {"run.json": {"run_id": "h200", "hosts": ["node1"]}}
    for name in ("startup.qwen7b", "benchmark.qwen7b", "startup.qwen32b", "benchmark.qwen32b"):
        put(files, "node1", json.loads((H200 / ("plumbline.%s.json" % name)).read_text()))
    markdown, page = both(render(files))
    for text in (markdown, page):
        assert "Dummy weights: speed only, no sense in the answers." in text and "211.39 ± 0.08" in text and "55.361 ± 0.005" in text
        assert "0.391 % (4 of 1,024)" in text and "mean TTFT 370 ms over 200 ms" in text
        assert "39.2 % of the time under load" in text and "1 of 2 layouts (qwen7b) with something to look at" in text
    assert "| qwen7b (dummy weights) | 98.1 s | 1.56 s (whole model) | 19.1 s | miss |" in markdown


def test_counters_of_infiniband_are_a_nodes_own_and_no_pair(render):
    files = whole_run()
    port = {"port": "mlx5_ib4/1", "sent_bytes": 10, "received_bytes": None, "errors": {"link_downed": 1}}
    counted = fact("link", "ib_counters", "failed", {"window_s": 300.0, "ports": [port], "ethernet": None})
    put(files, "node2", dict(counted, reasons=[reason("ib_counters.link_downed", "failed", "mlx5_ib4/1 +1 in 300 s", "<= 0")]))
    made = render(files)
    for name in ("report.md", "report.html"):
        assert "ib_counters.link_downed: mlx5_ib4/1 +1 in 300 s" in made[name].replace("\\", "")
    verdicts = json.loads(made["facts.json"])["verdicts"]
    assert verdicts["nodes"]["node2"]["phases"]["fabric"] == "failed" and verdicts["nodes"]["node1"]["phases"]["fabric"] == "healthy"
