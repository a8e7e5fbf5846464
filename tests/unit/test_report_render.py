"""The rendered report of synthetic runs: complete, escaped, self-contained, the same twice."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from ansible.module_utils.plumbline import report_render
from ansible.module_utils.plumbline.report_format import digits, error, interval, seconds, size
from report_runs import benchmark, collective, health, put, reason, startup, whole_run, with_sweep, write

ROOT = Path(__file__).resolve().parents[2]
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
            assert digits(benchmark(name)["measured"]["summary"]["throughput_tok_s"]["mean"]) in text
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


@pytest.mark.parametrize("value, text", [
    (None, "—"), (float("nan"), "—"), (True, "—"), ("3", "—"), (0, "0"), (5, "5"), (0.11, "0.11"), (0.0004, "4.00e-04"),
    (1.0, "1.00"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1,234"), (-12.34, "-12.3"),
])  # fmt: skip
def test_digits(value, text):
    assert digits(value) == text


def test_sizes_and_durations():
    assert [size(value) for value in (8, 1024, 16384, 64 * 2**20, 1.5 * 2**30)] == [
        "8 B",
        "1 KiB",
        "16 KiB",
        "64 MiB",
        "1.5 GiB",
    ]
    assert [seconds(value) for value in (0.42, 41.5, 99.6, 185, 3720)] == [
        "0.42 s",
        "41.5 s",
        "1 min 40 s",
        "3 min 05 s",
        "1 h 02 min",
    ]
    assert [error(value) for value in (1.123, 0.0871, 145.2, None)] == ["1.1", "0.087", "145", "—"]
    assert interval({"mean": 5.0, "ci95_low": 4.5, "ci95_high": 5.5}, "ms") == "5.00 [4.50, 5.50] ms"
    assert interval({"mean": 5.0, "ci95_low": None, "ci95_high": None}) == "5.00"


def test_distribution_goodput_and_sweep_are_in_both_reports(render):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1")))
    made = render(files)
    words = " ".join(" ".join(Page(made["report.html"]).words).split())
    for text in (made["report.md"].replace("\\", ""), words):
        for part in ("Distribution over requests", "8.10 / 9.20 / 9.90", "TTFT ≤ 200 ms, TPOT ≤ 20 ms", "0.9 req/s (93.3 %)",
                     "Throughput against latency", "40.0 / 50.0", "3.20 req/s (75.0 %)", "a queue: the server takes 8; 2 begun again"):
            assert part in text, part  # fmt: skip
    assert "1.70 % wide, reached" in words
    assert 'src="plots/' not in made["report.html"] and "plots/sweep_by_layout.png" in made["report.md"]


def test_without_a_sweep_there_is_neither_table_nor_plot(render):
    made = render(whole_run())
    for text in made["report.md"], made["report.html"]:
        assert "Throughput against latency" not in text and "Distribution over requests" not in text
