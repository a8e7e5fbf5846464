"""Reads a run folder and checks every fact against docs/schema. Controller only: jsonschema finds the words, where it is there.

Nothing is dropped: a file that cannot be read or does not fit its schema stays in the data with
its ``problems``, and counts as ``incomplete``. The callback checks a fact in the same way when it comes.
"""

from __future__ import annotations

import json
import os

from ...core.fact import KINDS, finite
from ..lacking import lacks
from ..place import SCHEMA_DIR, SETUP
from .accept import accepts

RUN_DEFAULTS = {
    "run_id": None,
    "started_at": None,
    "finished_at": None,
    "playbook": None,
    "tags": [],
    "skip_tags": [],
    "limit": None,
    "inventory": None,
    "check": False,
    "ansible_version": None,
    "plumbline_version": None,
    "hosts": [],
    "phases": [],
}


class NotARunFolder(Exception):
    """The folder has neither run.json nor facts/."""


def load(run_dir, schema_dir=SCHEMA_DIR):
    """Return ``{run, selection, incidents, facts, problems}`` of a run folder.

    ``facts`` is a list of ``{host, kind, name, file, fact, problems}``; ``problems`` are sentences
    about the folder itself. Raises :class:`NotARunFolder`, or ``SchemasMissing`` for ``schema_dir``.
    """
    facts_dir = os.path.join(run_dir, "facts")
    if not (os.path.isfile(os.path.join(run_dir, "run.json")) or os.path.isdir(facts_dir)):
        raise NotARunFolder("%s has neither run.json nor facts/: it is not a run folder" % run_dir)
    problems = []
    run = _document(run_dir, "run.json", dict, problems, required=True)
    selection = _document(run_dir, "selection.json", dict, problems)
    incidents = _document(run_dir, "incidents.json", list, problems)
    return {
        "run": _run(run, run_dir, problems),
        "selection": selection,
        # The report's own verdict task fails the run after the report is written; it is no finding.
        "incidents": [item for item in incidents or [] if isinstance(item, dict) and item.get("role") != "report"],
        "facts": _facts(facts_dir, Schemas(schema_dir)),
        "problems": problems,
    }


def _run(run, run_dir, problems):
    run = {**RUN_DEFAULTS, **(run or {})}
    run["run_id"] = str(run["run_id"] or os.path.basename(os.path.abspath(run_dir)))
    for key in ("hosts", "phases", "tags", "skip_tags"):
        if isinstance(run[key], str):
            run[key] = [item for item in run[key].split(",") if item]
        if not isinstance(run[key], list):
            problems.append("run.json: %s is %r, expected a list" % (key, run[key]))
            run[key] = []
    run["hosts"] = [str(host) for host in run["hosts"]]
    run["phases"] = [phase for phase in run["phases"] if isinstance(phase, dict)]
    if not run["hosts"]:
        problems.append("run.json names no host: the nodes without facts cannot be told")
    return run


def _document(run_dir, name, kind, problems, required=False):
    path = os.path.join(run_dir, name)
    if not os.path.exists(path):
        if required:
            problems.append("%s is missing: what was run, and on which nodes, is not known" % name)
        return None
    value, found = read_json(path)
    problems.extend("%s: %s" % (name, problem) for problem in found)
    if value is not None and not isinstance(value, kind):
        problems.append("%s holds a %s, expected a %s" % (name, type(value).__name__, kind.__name__))
        return None
    return value


def read_json(path):
    """Return ``(value, problems)``; NaN and infinities, which are not JSON, become None with a problem."""
    constants = set()
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream, parse_constant=constants.add)
    except (OSError, ValueError, RecursionError) as error:
        return None, ["cannot be read as JSON: %s" % error]
    # 1e999 is valid JSON and reads as infinity.
    return finite(value), ["holds %s, which is not JSON" % name for name in sorted(constants)]


def _facts(facts_dir, schemas):
    found = []
    for host in _listing(facts_dir):
        for name in _listing(os.path.join(facts_dir, host)):
            if name.endswith(".json") and not name.startswith("."):
                found.append(_fact(facts_dir, host, name, schemas))
    return found


def _listing(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def _fact(facts_dir, host, file_name, schemas):
    kind, _dot, name = file_name[: -len(".json")].partition(".")
    fact, problems = read_json(os.path.join(facts_dir, host, file_name))
    if not problems or fact is not None:
        problems = problems + schemas.problems(kind, fact)
    return entry(host, kind, name, fact, problems)


def entry(host, kind, name, fact, problems):
    """Return a fact as the verdicts and the report know it: ``{host, kind, name, file, fact, problems}``."""
    return {
        "host": host,
        "kind": kind,
        "name": name or kind,
        "file": file_of(host, kind, name),
        "fact": fact if isinstance(fact, dict) else {},
        "problems": problems,
    }


def file_of(host, kind, name):
    """Return the path of a fact in its run folder."""
    return "facts/%s/%s.json" % (host, "%s.%s" % (kind, name) if name else kind)


class SchemasMissing(Exception):
    """The schema folder lacks what every fact needs."""


class Schemas:
    """The schemas in one folder, by ``<kind>.schema.json``, ``$id`` or file name in a ``$ref``."""

    def __init__(self, schema_dir=SCHEMA_DIR):
        self._by_name = {}
        for name in _listing(schema_dir):
            if name.endswith(".schema.json"):
                value, problems = read_json(os.path.join(schema_dir, name))
                if problems or not isinstance(value, dict):
                    raise SchemasMissing("%s/%s is no schema: %s" % (schema_dir, name, "; ".join(problems)))
                self._by_name[name] = value
        if "fact.schema.json" not in self._by_name:
            raise SchemasMissing("%s has no fact.schema.json: expected the project's docs/schema" % schema_dir)
        self._validators = {}
        self._accepting = {}

    def _named(self, uri):
        return next((item for name, item in self._by_name.items() if uri.rpartition("/")[2] == name or uri == item.get("$id")), None)

    def _accepts(self, name, fact):
        """Return whether a fact fits a schema."""
        if name not in self._accepting:
            self._accepting[name] = accepts(self._by_name[name], self._named)
        return self._accepting[name](fact)

    def _validator(self, name):
        if name not in self._validators:
            import jsonschema
            import referencing

            def retrieve(uri):
                if self._named(uri) is None:
                    raise referencing.exceptions.NoSuchResource(uri)
                return referencing.Resource.from_contents(self._named(uri), referencing.jsonschema.DRAFT202012)

            registry = referencing.Registry(retrieve=retrieve)
            self._validators[name] = jsonschema.Draft202012Validator(self._by_name[name], registry=registry)
        return self._validators[name]

    def _broken(self, name, fact):
        """Return where a fact breaks a schema that does not accept it, as sentences; without a new enough jsonschema, that it does."""
        plain = ["does not fit docs/schema/%s; to see where: `%s` installs jsonschema" % (name, SETUP)]
        if lacks("jsonschema") or lacks("referencing"):  # before 4.18 without referencing, as distributions have it
            return plain
        try:
            validator = self._validator(name)
        except (ImportError, AttributeError, TypeError):  # an old one beside referencing takes no registry, or has no such draft
            return plain
        errors = sorted(validator.iter_errors(fact), key=lambda error: (error.json_path, error.message))
        found = ["%s: %s" % (error.json_path, _short(error.message)) for error in errors[:5]]
        return found + (["and %d more problems against %s" % (len(errors) - 5, name)] if len(errors) > 5 else [])

    def problems(self, kind, fact):
        """Return what is wrong with a fact as sentences (at most five for each schema); nothing is raised."""
        try:
            return self._problems(kind, fact)
        except Exception as error:  # whatever it is: who asks keeps the fact, with this sentence
            return ["cannot be checked against docs/schema: %s: %s" % (type(error).__name__, _short(str(error)))]

    def _problems(self, kind, fact):
        if kind not in KINDS:
            return ["unknown kind %r, expected one of %s" % (kind, ", ".join(KINDS))]
        names = ["fact.schema.json", "%s.schema.json" % kind]
        found = []
        for name in names:
            if name not in self._by_name:
                found.append("docs/schema/%s is missing: this kind of fact cannot be checked" % name)
            elif not self._accepts(name, fact):
                found.extend(self._broken(name, fact))
        declared = fact.get("schema") if isinstance(fact, dict) else None
        if declared != "plumbline.%s/1" % kind:
            found.append("$.schema: %s in a file named %s.*" % (_short(repr(declared)), kind))
        return list(dict.fromkeys(found))


def _short(text, limit=200):
    return text if len(text) <= limit else text[: limit // 2] + " … " + text[-limit // 2 :]
