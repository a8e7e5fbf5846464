"""The page in a real browser: on a phone, in the dark, in print, by keyboard. Skipped where no Chromium is installed.

The browser measures itself: a script is put into a copy of the page, which writes what it measured into the document, and Chromium
prints the document (``--dump-dom``). Nothing else is needed to drive it. Pages are in frames, so that their width is exact.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
from ansible.module_utils.plumbline.controller.report import render
from ansible.module_utils.plumbline.controller.report.compare import compared
from project import ROOT, SCHEMAS
from report_runs import benchmark, health, put, put_pairs, reason, whole_run, with_sweep, write

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--allow-file-access-from-files",
]  # fmt: skip
PHONE, DESK = 360, 1280

MEASURE = """
<script>addEventListener("load", function () {
  function light(colour) {
    return colour.map(function (part) { part /= 255; return part <= 0.04045 ? part / 12.92 : Math.pow((part + 0.055) / 1.055, 2.4); })
      .reduce(function (sum, part, place) { return sum + part * [0.2126, 0.7152, 0.0722][place]; }, 0);
  }
  function parts(text) { return (text.match(/[\\d.]+/g) || []).map(Number); }
  function behind(node) {
    for (; node; node = node.parentElement) {
      var colour = parts(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) { return colour.slice(0, 3); }
    }
    return [255, 255, 255];
  }
  var root = document.documentElement, faint = [], wide = [], all = Array.prototype.slice.call(document.body.querySelectorAll("*"));
  all.forEach(function (node) {
    var box = node.getBoundingClientRect();
    var own = Array.prototype.some.call(node.childNodes, function (child) { return child.nodeType === 3 && child.textContent.trim(); });
    var scrolls = node.closest(".scroll"), inside = node.closest("svg") || (scrolls && getComputedStyle(scrolls).overflowX === "auto");
    if (box.width && box.right > innerWidth + 1 && !inside) { wide.push(node.outerHTML.slice(0, 60)); }
    if (!own || !box.width || node.closest("svg, script, style, .skip")) { return; }
    var one = light(parts(getComputedStyle(node).color).slice(0, 3)), two = light(behind(node));
    var contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) { faint.push(node.tagName + "." + node.className + " " + contrast.toFixed(2)); }
  });
  var cells = Array.prototype.slice.call(document.querySelectorAll("tbody td"));
  cells = cells.filter(function (cell) { return cell.getBoundingClientRect().width; });
  var shown = {
    wide: wide.slice(0, 9), faint: faint.slice(0, 9), scroll: root.scrollWidth, width: innerWidth, paper: light(behind(document.body)),
    labels: cells.length ? cells.filter(function (cell) {
      return getComputedStyle(cell, "::before").content.length > 2 || cell.colSpan > 1 || !cell.textContent.trim();
    }).length / cells.length : 1,
    display: cells.length ? getComputedStyle(cells[0].parentElement).display : null, focus: []
  };
  var able = Array.prototype.slice.call(document.querySelectorAll("a[href], button, summary, input, [tabindex]"));
  able.slice(0, 400).forEach(function (node) {
    var outer = node.tagName === "SUMMARY" ? node.parentElement.parentElement : node;
    if (outer.closest("details:not([open])") || node.closest("[hidden]") || !node.getClientRects().length) { return; }
    node.focus();
    if (document.activeElement !== node) { shown.focus.push(node.outerHTML.slice(0, 90)); }
  });
  var head = document.querySelector("table.nodes thead button");
  if (head) { head.click(); shown.sorted = head.parentElement.getAttribute("aria-sort"); }
  parent.postMessage(JSON.stringify(shown), "*");
});</script></body>
"""
FRAME = """<!DOCTYPE html><html><body style="margin:0"><pre id="measured"></pre>
<script>addEventListener("message", function (event) { document.getElementById("measured").textContent = event.data; });</script>
<iframe src="page.html" style="border:0;width:%dpx;height:900px"></iframe></body></html>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return a page that has everything: a bad node, pairs, a sweep, earlier runs, odd long words, every fold open."""
    folder = tmp_path_factory.mktemp("browser")
    for place in range(3):
        files = whole_run()
        files["run.json"].update(run_id="run%d" % place, started_at="2026-11-24T%02d:00:00Z" % place)
        put(files, "node1", with_sweep(benchmark("tp1")))
        pairs = {("node1", "node2"): 10.0, ("node1", "node3"): 2.0, ("node2", "node3"): 2.1}
        put_pairs(files, ["node1", "node2", "node3"], pairs)
        long = "x" * 90
        put(
            files, "node2", health("failed", [reason("disk.free", "failed", "0.4 GiB on /%s" % long, "at least 5 GiB", "Remove %s" % long)])
        )
        files["incidents.json"] = [
            {"host": "node3", "role": "model_sync", "task": "Send", "state": "failed", "message": long, "at": "2026-11-24T12:10:00Z"}
        ]
        write(files, folder / ("run%d" % place))
    return build(folder / "run2").replace("<details", "<details open")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    files = whole_run()
    for index in range(40):
        put(files, "spare%02d" % index, health("failed", [reason("disk.free", "failed", "1 GiB")]) if index == 7 else health())
    files["run.json"]["hosts"] += ["spare%02d" % index for index in range(40)]
    return build(write(files, folder / "run"))


def build(run):
    against = compared.Against(str(run), str(SCHEMAS))
    return render.build(str(run), str(SCHEMAS), str(ROOT / "roles" / "report" / "templates"), against)[0]["report.html"].decode()


def chromium(folder, *options):
    """Run the browser, with a folder of its own."""
    argv = [CHROMIUM, *QUIET, "--user-data-dir=%s" % (folder / "profile"), *options]
    return subprocess.run(argv, capture_output=True, timeout=180, check=True)


def measured(folder, text, width, *options):
    """Return what the page measured of itself in a frame of this width."""
    (folder / "page.html").write_text(text.replace("</body>", MEASURE))
    (folder / "frame.html").write_text(FRAME % width)
    size = "--window-size=%d,1000" % max(width, 600)
    dom = chromium(folder, size, "--virtual-time-budget=20000", "--dump-dom", *options, "file://%s/frame.html" % folder).stdout.decode()
    return json.loads(html.unescape(re.search(r'<pre id="measured">(.*?)</pre>', dom, re.S).group(1)))


def test_on_a_phone_nothing_is_wider_than_the_screen_and_rows_are_cards(tmp_path, page):
    found = measured(tmp_path, page, PHONE)
    assert found["wide"] == [] and found["width"] == PHONE and found["scroll"] <= PHONE
    assert found["display"] == "block" and found["labels"] == 1, "each cell says what it is"
    assert found["faint"] == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_in_the_light_and_in_the_dark(tmp_path, page, dark):
    found = measured(tmp_path, page, DESK, "--blink-settings=preferredColorScheme=%d" % (0 if dark else 1))
    assert found["faint"] == [], "WCAG 2.2, 1.4.3: 4.5 to 1"
    assert (found["paper"] < 0.1) is dark and found["scroll"] <= DESK and found["display"] == "table-row"


def test_everything_that_does_something_is_reached_by_keyboard(tmp_path, page):
    assert measured(tmp_path, page, DESK)["focus"] == []


def test_a_large_fleet_sorts_by_a_button_that_says_how(tmp_path, fleet):
    found = measured(tmp_path, fleet, DESK)
    assert found["sorted"] == "ascending" and found["focus"] == [] and found["faint"] == []
    assert measured(tmp_path, fleet, PHONE)["wide"] == []


def test_print_has_what_is_folded_and_is_light(tmp_path, page):
    folded = page.replace("<details open", "<details")
    (tmp_path / "page.html").write_text(folded)
    pdf = tmp_path / "page.pdf"
    dark = "--blink-settings=preferredColorScheme=0"
    chromium(tmp_path, dark, "--no-pdf-header-footer", "--print-to-pdf=%s" % pdf, "file://%s/page.html" % tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) > 3
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
        assert "would have counted" in text, "what is folded on the screen is printed"
        assert "To the report" not in text and "Back to the top" not in text


def test_the_page_asks_nobody_for_anything(page):
    assert not re.findall(r'(?:src|href|action)="(?!#|plots/|data:)[^"]*"', page) and "@import" not in page and "url(http" not in page


def test_a_screen_reader_finds_headings_landmarks_and_tables(page):
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    assert page.count("<main") == 1 and 'lang="en"' in page and "<nav" in page and 'href="#main"' in page
    for table in re.findall(r"<table.*?</table>", page, re.S):
        assert 'role="table"' in table and table.count('role="row"') == table.count("<tr"), table[:200]
        assert table.count('role="cell"') == table.count("<td") and table.count("<th role") + table.count("<th scope") == len(
            re.findall(r"<th\b", table)
        )
