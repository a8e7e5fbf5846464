"""The documentation's site: a page for each module and role, a heading for each variable, and no link that leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from project import ROOT, load

docs_site = load("scripts/docs_site.py")
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "docs"
    docs_site.build(folder)
    return folder


def headings(page):
    return re.findall(r"^## (\w+)$", page.read_text(), re.M)


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_of_a_role_has_one_heading_with_its_default(site, role):
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text()) or {}
    page = site / "reference/roles" / (role + ".md")
    assert sorted(headings(page)) == sorted(defaults)
    for name, value in defaults.items():
        section = page.read_text().partition("\n## %s\n" % name)[2].partition("\n## ")[0]
        assert docs_site.yaml_text(value) in section.replace("no default", "null"), name


def test_each_module_and_plugin_has_a_page_with_all_its_options(site):
    sources = [path for folder in ("library", "plugins/action") for path in (ROOT / folder).glob("*.py")]
    # pairwise_link takes the arguments of the module that it runs on two nodes, and documents none.
    with_documentation = {path.stem for path in sources} - {"pairwise_link"}
    pages = {path.stem for path in (site / "reference/modules").glob("*.md")}
    assert pages >= with_documentation | {"azure_scale_set"}, with_documentation - pages
    for path in (ROOT / "library").glob("*.py"):
        said = yaml.safe_load(docs_site.documented(path)["DOCUMENTATION"])
        found = headings(site / "reference/modules" / (path.stem + ".md"))
        assert [name for name in said.get("options") or {} if name not in found] == [], path.stem


def test_every_run_folder_is_shown_as_a_report(site):
    listed = (site / "reference/reports/index.md").read_text()
    for name in docs_site.runs():
        assert "<html" in (site / "reference/reports" / name / "report.html").read_text() and "(%s/report.html)" % name in listed
    assert {name.partition("/")[0] for name in docs_site.runs()} >= {"h200x4", "lab"}


def test_links_of_the_site_lead_somewhere(site):
    lost = [
        (str(page.relative_to(site)), target)
        for page in site.rglob("*.md")
        for target in docs_site.LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert lost == []


def test_every_page_of_docs_is_in_the_navigation():
    named = (ROOT / "mkdocs.yml").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if "docs/%s\n" % path.name not in named] == []


def test_markup_of_ansible_is_markdown_and_brackets_are_no_tags():
    assert docs_site.text(["See C(results/<run id>) or O(x).", "A <name>."]) == "See `results/<run id>` or `x`.\n\nA &lt;name>."


def test_site_builds_and_a_broken_link_does_not(site, tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: make docs")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    settings.update(docs_dir=str(site), site_dir=str(tmp_path / "html"))
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    assert (tmp_path / "html/reference/roles/report.html").is_file()
    broken = site / "docs/broken.md"
    broken.write_text("[nowhere](no_such_page.md)\n")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        broken.unlink()
    assert done.returncode != 0 and "no_such_page.md" in done.stderr
