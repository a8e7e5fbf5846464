"""Writes facts.json, report.md, report.html, junit.xml and plots/ into a run folder. Controller only: needs jinja2.

Rendering reads the run folder, what earlier runs beside it measured, and nothing else (no clock, no environment), so that
rendering twice writes the same bytes, and only files that differ are written.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile

import jinja2
from markupsafe import Markup

from ..lacking import lines as lacking
from .compare.compared import NOTHING, OFF
from .data import load
from .findings.collect import findings
from .junit import junit
from .plots.draw import draw
from .plots.inline import inline
from .records.collect import collect
from .tables import labelled
from .verdicts import verdicts
from .view.page import view


def build(run_dir, schema_dir, template_dir, against=None):
    """Return ``(files, verdicts)``: every file of the report by its path in the run folder, as bytes.

    ``against`` returns what is said of these records beside other runs' (:class:`compare.compared.Against`); None compares with none.
    Raises what :func:`data.load` raises, and jinja2's errors for a broken template.
    """
    return build_of(load(run_dir, schema_dir), template_dir, against)


def build_of(data, template_dir, against=None):
    """Return what :func:`build` returns, of a run folder that is loaded already."""
    records = collect(data)
    found = verdicts(records)
    claims = findings(records)
    comparison = against(records) if against else dict(NOTHING, asked=OFF)
    plots = draw(records)
    files = {"facts.json": _json(records.data, found, claims, comparison), "junit.xml": junit(records, found)}
    for plot in plots:
        if plot["svg"] is not None:
            files["plots/%s.svg" % plot["name"]] = plot["svg"]
            files["plots/%s.png" % plot["name"]] = plot["png"]
            plot["inline"] = Markup(inline(plot["svg"], plot["name"]))
    content = view(records, found, claims, comparison)
    content["plots"] = plots
    content["run"] = [*content["run"], *lacking()]
    for name in ("report.md", "report.html"):
        environment = _environment(template_dir, name.endswith(".html"))
        made = environment.get_template(name + ".j2").render(content)
        files[name] = (labelled(made) if name.endswith(".html") else made).encode("utf-8", "replace")
    return files, found


@functools.lru_cache
def _environment(template_dir, escape):
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_dir),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=cell, code=code)
    return environment


def _json(data, found, claims, comparison):
    """Return facts.json: each part and each fact on a line of its own, which a program finds fast and json writes fast."""
    parts = {
        "schema": "plumbline.report/1",
        "run": data["run"],
        "selection": data["selection"],
        "incidents": data["incidents"],
        "verdicts": found,
        "findings": claims,
        "comparison": comparison,
    }
    lines = ["%s: %s" % (_compact(name), _compact(part)) for name, part in parts.items()]
    lines.append('"facts": [\n%s\n]' % ",\n".join(_compact(entry) for entry in data["facts"]))
    return ("{\n%s\n}\n" % ",\n".join(lines)).encode("ascii")


def _compact(value):
    # ASCII: a lone surrogate in some tool's output would not encode as UTF-8.
    return json.dumps(value, sort_keys=True, allow_nan=False)


def cell(value):
    """Escape text for a cell of a Markdown table: one line, no markup of its own."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]|<>#])", r"\\\1", text)


def code(value):
    """Return text as inline code that no backtick or bar inside it can end."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "¦")
    return "`%s`" % text


def stale(run_dir, files):
    """Return the plots in the run folder that this report no longer makes."""
    folder = os.path.join(run_dir, "plots")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = ["plots/%s" % name for name in names if name.endswith((".svg", ".png"))]
    return [path for path in paths if path not in files]


def differing(run_dir, files):
    """Return the paths whose content is not what it should be."""
    found = []
    for path, content in files.items():
        try:
            with open(os.path.join(run_dir, path), "rb") as stream:
                same = stream.read() == content
        except OSError:
            same = False
        if not same:
            found.append(path)
    return sorted(found)


def write(run_dir, files, paths):
    """Write these paths, each at once or not at all: a reader never sees half a report."""
    for path in paths:
        target = os.path.join(run_dir, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".report-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(files[path])
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
