"""What the pages say is there is there: paths, kinds, the licence; and a table cell is a cell, not a paragraph."""

from __future__ import annotations

import io
import json
import re
import tokenize
from fnmatch import fnmatch

import pytest
import yaml
from ansible.module_utils.plumbline.controller import preflight
from ansible.module_utils.plumbline.core.fact import KINDS
from project import ROOT

CELL = 120  # characters in a cell of a table, at most
LOCAL = {".git", "build", ".venv", ".ansible", ".pytest_cache", ".ruff_cache", ".import_linter_cache", "__pycache__", "results"}


def files(*patterns):
    """Return the project's own files by the patterns of their names, sorted: nothing that git ignores by its folder."""
    found = (path for path in ROOT.rglob("*") if path.is_file() and not LOCAL & set(path.relative_to(ROOT).parts))
    return sorted(path for path in found if any(fnmatch(path.name, pattern) for pattern in patterns))


def name(path):
    return str(path.relative_to(ROOT))


PAGES = files("*.md")
SOURCES = [path for path in files("*.py", "*.yml", "*.j2", "*.json", "*.sh") if "captures" not in path.parts]

# A path of the project: a top folder and more. Not inside another path, an address or a longer word.
TOP = "docs|inventory|library|playbooks|plugins|roles|scripts|tests|module_utils"
PATH = re.compile(r"(?<![\w/.~}-])(?:%s)/[\w<>*{}/.-]*[\w<>*}/]" % TOP)
# What a user makes, and what a run or a lab writes.
MADE = re.compile(r"^inventory/(mine|lab(?:_gpu)?/hosts\.yml)\b")
# One name of a file in backticks, with or without folders.
CODE = re.compile(r"`([\w<>*./-]+\.(?:py|yml|j2|sh|md|json)|(?:[\w<>*.-]+/)+)`")
# Names that pages use for what a run writes, or for what belongs to others.
WRITTEN = {
    "config.json", "facts.json", "failures.json", "hosts.yml", "incidents.json", "manifest.json", "report.md", "run.json", "selection.json",
    "variables.yml", "layouts.yml", "<version>.lines.json", "/run/plumbline/gpu_clocks.json", "facts/", "plots/", "vllm/logger.py",
}  # fmt: skip


def exists(path, *folders):
    """Return whether the project has ``path`` (``<this>`` and ``{that}`` stand for anything) below one of ``folders``."""
    pattern = re.sub(r"<[^>]*>|\{[^}]*\}", "*", path).strip("/")
    return any(next(folder.glob(pattern), None) is not None for folder in folders)


def example():
    """Return the files that the example in docs/architecture.md makes."""
    return set(re.findall(r"^\*\*`([^`\n]+)`\*\*$", (ROOT / "docs/architecture.md").read_text(), re.M))


def missing_paths(text):
    """Return the paths of the project that ``text`` names and that are not there."""
    named = {found.rstrip(".") for found in PATH.findall(text)} - example()
    return sorted(found for found in named if not MADE.match(found) and not exists(found, ROOT, ROOT / "plugins"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_on_a_page_are_there(page):
    assert missing_paths(page.read_text()) == []


@pytest.mark.parametrize("page", [page for page in PAGES if "tests" not in page.parts], ids=name)
def test_files_in_backticks_are_there(page):
    """Also those that a role's page names from its own folder, and those that are named without any."""
    lost = []
    for found in CODE.findall(page.read_text()):
        somewhere = [page.parent, page.parent.parent, ROOT] + ([] if "/" in found else [path.parent for path in SOURCES + PAGES])
        if page.parent == ROOT / "docs":
            somewhere += (ROOT / "roles").iterdir()  # what every role has
        if found not in WRITTEN | example() and not MADE.match(found) and not exists(found, *somewhere):
            if not found.startswith(("/", "results/", "vllm_serve_work_dir/")) and "github" not in found:
                lost.append(found)
    assert lost == []


def said(path):
    """Return what a source file says to people: comments and strings of Python, the whole of any other file."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    kinds = (tokenize.COMMENT, tokenize.STRING)
    return "\n".join(token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type in kinds)


@pytest.mark.parametrize("top", ["docs", "inventory", "library", "playbooks", "plugins", "roles", "scripts"])
def test_paths_in_remedies_comments_and_descriptions_are_there(top):
    lost = {name(path): missing_paths(said(path)) for path in SOURCES if path.relative_to(ROOT).parts[0] == top}
    assert {path: paths for path, paths in lost.items() if paths} == {}


LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), (target, anchor)


# A rendered report is no page that somebody wrote: its cells hold what was measured.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "report.md"], ids=name)
def test_no_cell_of_a_table_is_a_paragraph(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    rows = [line.strip().strip("|") for line in text.splitlines() if line.lstrip().startswith("|")]
    long = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row) if len(cell.strip()) > CELL]
    assert long == []


def test_every_kind_of_fact_is_explained():
    headings = re.findall(r"^### `(\w+)`$", (ROOT / "docs/facts.md").read_text(), re.M)
    assert sorted(headings) == sorted(KINDS)


def test_every_key_that_a_page_promises_is_in_the_schemas():
    """The keys that facts.md names for a kind are words of that kind's schema, or of the code that returns it."""
    sections = re.split(r"^### `(\w+)`$", (ROOT / "docs/facts.md").read_text().partition("## The run folder")[0], flags=re.M)[1:]
    for kind, text in zip(sections[::2], sections[1::2]):
        schema = json.loads((ROOT / "docs/schema" / (kind + ".schema.json")).read_text())
        known = set(re.findall(r"\w+", json.dumps(schema)))
        known |= {word for path in SOURCES if path.suffix == ".py" for word in re.findall(r"\"(\w+)\"", path.read_text())}
        keys = set(re.findall(r"`([a-z]\w*_(?:ms|us|s|bytes|gib|gbps|tok_s|len|nodes|id|hit))`", text))
        assert sorted(keys - known) == [], kind


def test_layout_of_the_contributors_page_is_accepted():
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    layouts = yaml.safe_load(block)["vllm_serve_layouts"]
    assert layouts and preflight.layout_problems(layouts, node_count=2) == []


def test_licence_of_each_role_is_the_projects():
    assert "Apache License" in (ROOT / "LICENSE").read_text() and "Version 2.0" in (ROOT / "LICENSE").read_text()
    for path in sorted((ROOT / "roles").glob("*/meta/main.yml")):
        assert yaml.safe_load(path.read_text())["galaxy_info"]["license"] == "Apache-2.0", name(path)
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()


def test_study_is_called_by_its_name():
    """docs/reference/study.md introduces the study once; whoever refers to it says "the study"."""
    other = re.compile(r"(?:\b|_)seed['’ _-]?stud|\barticle\b", re.I)
    everything = [path for path in SOURCES + PAGES if path != ROOT / "tests/unit/test_docs.py"]
    assert [name(path) for path in everything if other.search(path.read_text())] == []
