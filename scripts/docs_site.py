#!/usr/bin/env python3
"""Writes the sources of the documentation's site: ``python scripts/docs_site.py build/docs`` (``make docs``).

The pages are the repository's own, in its own folders, so that their links hold. Beside them, under ``reference/``, are pages that are
made here and are not kept in the repository: one for each module and each role, with a heading for each of their variables, and the
report of every run folder that the repository has: of real machines, and of the lab.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

import ansible.module_utils
import yaml

ROOT = Path(__file__).resolve().parent.parent
ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)(?:#[\w-]+)?\)")
# How Ansible marks up text in its documentation: C(code), V(value), O(option), RV(result), M(module), and a few more.
MARKUP = re.compile(r"\b(?:C|V|O|RV|M|E|P|B|I)\(((?:[^()]|\([^()]*\))*)\)")


def text(value):
    """Return a description (a sentence or a list of them) as Markdown."""
    sentences = value if isinstance(value, list) else [value]
    marked = "\n\n".join(MARKUP.sub(lambda match: "`%s`" % match[1], str(sentence)).strip() for sentence in sentences)
    # A name in angle brackets is no tag of HTML; within backticks nothing is.
    pieces = marked.split("`")
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)


def option_lines(name, option, level="##"):
    """Yield the lines about one option of a module or one variable of a role."""
    yield "%s %s\n" % (level, name)
    kind = option.get("type", "str") + (" of %s" % option["elements"] if option.get("elements") else "")
    default = "no default" if option.get("default") is None else "default `%s`" % yaml_text(option["default"])
    facts = ["`%s`" % kind, "required" if option.get("required") else default]
    if option.get("choices"):
        facts.append("one of " + ", ".join("`%s`" % yaml_text(choice) for choice in option["choices"]))
    yield ", ".join(facts) + "\n"
    yield text(option["description"]) + "\n"


def yaml_text(value):
    """Return a value on one line, as an inventory would have it."""
    if isinstance(value, str):
        return value.replace("`", "'") or '""'
    shown = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).replace("\n...", "").strip()
    return shown.replace("`", "'")


def documented(path):
    """Return ``{DOCUMENTATION, EXAMPLES, RETURN}`` of a module or plugin, from its source."""
    return dict(re.findall(r'^(DOCUMENTATION|EXAMPLES|RETURN) = r"""\n(.*?)"""', path.read_text(), re.M | re.S))


def module_page(path):
    """Return the page of a module or an action plugin."""
    said = documented(path)
    about = yaml.safe_load(said["DOCUMENTATION"])
    name = about.get("module") or about["name"]
    lines = ["# %s\n" % name, about["short_description"] + ".\n", text(about["description"]) + "\n"]
    for option, described in (about.get("options") or {}).items():
        lines += option_lines(option, described)
    if said.get("EXAMPLES"):
        lines += ["## Examples\n", "```yaml\n%s\n```\n" % said["EXAMPLES"].strip()]
    if said.get("RETURN"):
        lines += ["## What it returns\n"]
        for key, described in (yaml.safe_load(said["RETURN"]) or {}).items():
            lines += ["### %s\n" % key, text(described["description"]) + "\n"]
    return "\n".join(lines)


def role_page(role):
    """Return the page of a role's variables."""
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    lines = ["# %s: its variables\n" % role.name, spec["short_description"] + ".\n"]
    lines += ["What the role does, needs and undoes is on [its own page](../../roles/%s/README.md).\n" % role.name]
    for name, option in (spec.get("options") or {}).items():
        lines += option_lines(name, option)
    return "\n".join(lines)


def modules():
    """Return the sources of what has documentation of its own, by name; an action around a module is the module."""
    found = {
        path.stem: path for folder in ("plugins/inventory", "plugins/action", "library") for path in sorted((ROOT / folder).glob("*.py"))
    }
    return {name: path for name, path in sorted(found.items()) if "DOCUMENTATION" in documented(path)}


def reference_pages():
    """Return ``{path: text}`` of all pages that are made here."""
    roles = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
    pages = {"reference/modules/%s.md" % name: module_page(path) for name, path in modules().items()}
    pages.update({"reference/roles/%s.md" % role.name: role_page(role) for role in roles})
    lines = ["# Reference\n", "Made from the sources of this version.\n", "## Variables, by role\n"]
    lines += ["- [%s](roles/%s.md)" % (role.name, role.name) for role in roles]
    lines += ["\n## Modules and plugins\n"] + ["- [%s](modules/%s.md)" % (name, name) for name in modules()]
    pages["reference/index.md"] = "\n".join(lines) + "\n"
    return pages


def own_pages():
    """Return the repository's pages that belong to the site, and what they link to."""
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    pages += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "roles").glob("*/README.md"))
    linked = {(page.parent / target).resolve() for page in pages for target in LINK.findall(page.read_text())}
    return pages + sorted(path for path in linked - set(pages) if path.is_file())


def runs():
    """Return ``{name: run folder}``: those of docs/reference, and those of the lab that the tests keep."""
    found = {}
    for folder, prefix in (("docs/reference", ""), ("tests/captures/lab_runs", "lab/")):
        for path in sorted((ROOT / folder).rglob("run.json")):
            found[prefix + path.parent.relative_to(ROOT / folder).as_posix()] = path.parent
    return found


def reports(target):
    """Write the report of each of them."""
    from ansible.module_utils.plumbline.controller.report import data, render

    for name, run in runs().items():
        files, _verdicts = render.build(str(run), data.SCHEMA_DIR, str(ROOT / "roles/report/templates"))
        page = target / "reference/reports" / name / "report.html"
        page.parent.mkdir(parents=True)
        page.write_bytes(files["report.html"])


def build(target):
    """Write everything below ``target``, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    for path in own_pages():
        place = target / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    for name, content in reference_pages().items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(content)
    reports(target)
    lines = [
        "# Reports\n",
        "Rendered by this version from the facts of runs: on real machines, and in the lab, whose numbers are of processors.\n",
    ]
    lines += ["- [%s](%s/report.html)" % (name, name) for name in runs()]
    (target / "reference/reports/index.md").write_text("\n".join(lines) + "\n")


def main():
    """Build them."""
    parser = argparse.ArgumentParser(description="Write the sources of the documentation's site.")
    parser.add_argument("target", type=Path)
    build(parser.parse_args().target.absolute())


if __name__ == "__main__":
    sys.exit(main())
