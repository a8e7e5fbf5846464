"""Stands in for AWX's API (version 24.6.1) on loopback, for the modules of awx.awx: it keeps what they post, and nothing is run by it.

Only what those modules ask for is answered, in the forms of AWX's API reference; anything else is 404. As AWX does, it asks for a token,
knows no object twice, refuses fields that a kind of object has not, and never tells a secret (``$encrypted$``).
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

TOKEN = "mock-token"
ENCRYPTED = "$encrypted$"

COMMON = {"name", "description", "organization"}
# The fields that each kind of object takes, of those that the modules may send.
FIELDS = {
    "organizations": {"name", "description"},
    "credential_types": {"name", "description", "kind", "inputs", "injectors", "managed"},
    "credentials": COMMON | {"credential_type", "inputs"},
    "execution_environments": COMMON | {"image", "pull", "credential"},
    "projects": COMMON
    | {"scm_type", "scm_url", "scm_branch", "scm_update_on_launch", "scm_update_cache_timeout", "default_environment", "credential"},
    "inventories": COMMON | {"kind", "host_filter", "variables"},
    "inventory_sources": {"name", "description", "inventory", "source", "source_path", "source_vars", "source_project", "credential"}
    | {"execution_environment", "overwrite", "overwrite_vars", "update_on_launch", "update_cache_timeout", "verbosity", "timeout"},
    "job_templates": COMMON
    | {"job_type", "inventory", "project", "playbook", "job_tags", "skip_tags", "execution_environment", "extra_vars", "survey_enabled"}
    | {"ask_job_type_on_launch", "ask_limit_on_launch", "ask_variables_on_launch", "allow_simultaneous", "limit", "verbosity", "timeout"},
    "schedules": {"name", "description", "unified_job_template", "rrule", "extra_data", "enabled"},
}
# Fields that name another object -> its kind.
REFERENCES = {
    "organization": "organizations", "credential_type": "credential_types", "credential": "credentials", "inventory": "inventories",
    "project": "projects", "source_project": "projects", "execution_environment": "execution_environments",
    "default_environment": "execution_environments", "unified_job_template": "job_templates",
}  # fmt: skip
SINGULAR = {"inventories": "inventory"}
# What makes an object of a kind one of its own.
UNIQUE = {"inventory_sources": ("name", "inventory"), "schedules": ("name", "unified_job_template"), "credential_types": ("name",)}


class Refused(Exception):
    """An answer that is an error: HTTP's status, and the body."""

    def __init__(self, status, body):
        super().__init__(body)
        self.status, self.body = status, body


class World:
    """What AWX holds: ``objects``, ``{kind: {id: fields}}``; ``requests`` are the changing ones, as ``(method, path)``."""

    def __init__(self):
        self.objects = {kind: {} for kind in FIELDS}
        self.surveys, self.credentials_of, self.secrets, self.requests = {}, {}, {}, []
        self.settings = {"AWX_ANSIBLE_CALLBACK_PLUGINS": ["/somebody/elses"]}
        self._next = 1
        default = self.create("organizations", {"name": "Default"})
        machine = self.create("credential_types", {"name": "Machine", "kind": "ssh", "managed": True})
        self.create("credential_types", {"name": "Microsoft Azure Resource Manager", "kind": "cloud", "managed": True})
        self.create("credentials", {"name": "nodes", "organization": default["id"], "credential_type": machine["id"]})
        self.requests.clear()

    def named(self, kind, name):
        """Return the one object of a kind with a name."""
        (found,) = [item for item in self.objects[kind].values() if item["name"] == name]
        return found

    def create(self, kind, fields):
        self._check(kind, fields)
        keys = UNIQUE.get(kind, ("name", "organization"))
        if any(all(item.get(key) == fields.get(key) for key in keys) for item in self.objects[kind].values()):
            raise Refused(400, {"__all__": ["%s with this %s already exists." % (kind, " and ".join(keys))]})
        number, self._next = self._next, self._next + 1
        url = "/api/v2/%s/%d/" % (kind, number)
        related = {"survey_spec": url + "survey_spec/", "credentials": url + "credentials/", "update": url + "update/"}
        one = {"id": number, "url": url, "type": SINGULAR.get(kind, kind[:-1]), "related": related, "summary_fields": {}}
        if kind == "projects":
            one["scm_revision"] = "0" * 40
        self.objects[kind][number] = one
        self.update(kind, number, fields)
        return one

    def update(self, kind, number, fields):
        self._check(kind, fields)
        fields = dict(fields)
        if kind == "inventories":  # AWX keeps no null in either
            fields.update({key: fields[key] or "" for key in ("kind", "host_filter") if key in fields and key == "kind"})
        if kind == "credentials" and "inputs" in fields:
            fields["inputs"] = self._hidden(number, fields["credential_type"], fields["inputs"])
        self.objects[kind][number].update(fields)
        return self.objects[kind][number]

    def _hidden(self, number, type_number, inputs):
        kept = self.secrets.setdefault(number, {})
        declared = (self.objects["credential_types"][type_number].get("inputs") or {}).get("fields", [])
        secret = {field["id"] for field in declared if field.get("secret")} | {"secret", "password"}
        kept.update({key: value for key, value in inputs.items() if key in secret and value != ENCRYPTED})
        return {key: ENCRYPTED if key in secret else value for key, value in inputs.items()}

    def _check(self, kind, fields):
        unknown = sorted(set(fields) - FIELDS[kind])
        if unknown:
            raise Refused(400, {key: ["AWX's %s have no such field." % kind] for key in unknown})
        for key, value in fields.items():
            if key in REFERENCES and value is not None and value not in self.objects[REFERENCES[key]]:
                raise Refused(400, {key: ["Invalid pk %r - object does not exist." % value]})
        if kind == "schedules" and not re.match(r"DTSTART(;TZID=[\w/]+)?:\d{8}T\d{6}Z? RRULE:.*INTERVAL=\d+", fields.get("rrule", "")):
            raise Refused(400, {"rrule": ["Valid DTSTART and INTERVAL required in rrule."]})

    def listing(self, kind, query):
        """Return a page of all objects that have these values."""
        kinds = ["projects", "job_templates"] if kind == "unified_job_templates" else [kind]
        found = [item for one in kinds for item in self.objects[one].values() if all(str(item.get(k)) == v for k, v in query.items())]
        return {"count": len(found), "next": None, "previous": None, "results": found}


class Handler(BaseHTTPRequestHandler):
    """Answers one request; ``self.server.world`` is what it is about."""

    protocol_version = "HTTP/1.1"

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}")
        parts = urlsplit(self.path)
        try:
            if self.headers.get("Authorization") != "Bearer " + TOKEN:
                raise Refused(401, {"detail": "Authentication credentials were not provided."})
            if self.command != "GET":
                self.server.world.requests.append((self.command, parts.path))
            status, answer = self._route(parts.path, dict(parse_qsl(parts.query)), body)
        except Refused as refused:
            status, answer = refused.status, refused.body
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        for key, value in (
            ("X-API-Product-Name", "AWX"),
            ("X-API-Product-Version", "24.6.1"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
        ):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = _answer

    def _route(self, path, query, body):
        world = self.server.world
        if path in ("/api/v2/settings/all/", "/api/v2/settings/jobs/"):
            world.settings.update({key: value for key, value in body.items() if self.command == "PATCH"})
            return 200, world.settings
        match = re.fullmatch(r"/api/v2/(\w+)/(?:(\d+)/(?:(\w+)/)?)?", path)
        kind, number, below = match.groups() if match else (None, None, None)
        if kind == "unified_job_templates" and number is None and self.command == "GET":
            return 200, world.listing(kind, query)
        if kind not in FIELDS or number is not None and int(number) not in world.objects[kind]:
            raise Refused(404, {"detail": "Not found."})
        if number is None:
            return (200, world.listing(kind, query)) if self.command == "GET" else (201, world.create(kind, body))
        if below is None:
            return 200, world.objects[kind][int(number)] if self.command == "GET" else world.update(kind, int(number), body)
        if kind != "job_templates":
            raise Refused(404, {"detail": "Not found."})
        return self._below(int(number), below, body)

    def _below(self, number, below, body):
        world = self.server.world
        if below == "survey_spec":
            if self.command == "POST":
                world.surveys[number] = body
            return 200, world.surveys.get(number, {})
        if below == "credentials":
            mine = world.credentials_of.setdefault(number, [])
            if self.command == "GET":
                found = [world.objects["credentials"][one] for one in mine]
                return 200, {"count": len(found), "next": None, "previous": None, "results": found}
            mine.remove(body["id"]) if body.get("disassociate") else mine.append(body["id"])
            return 204, None
        raise Refused(404, {"detail": "Not found."})

    def log_message(self, *_arguments):
        """Say nothing."""


class MockAwx:
    """The stand-in as a context: ``url``, and ``world``."""

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.world = self.world = World()
        self.url = "http://127.0.0.1:%d" % self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self._server.shutdown()
        self._server.server_close()
