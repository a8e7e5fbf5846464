"""A stand-in for a Hugging Face hub on loopback, for the real client: answers in its formats, breaks off and refuses when told.

Formats as huggingface_hub 2.4.0 reads them. Large files lie on a second server, as on the hub: another host, no token, a signed address.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPOSITORY = "plumb/Tiny-1B"


def blob(seed, size):
    """Return ``size`` bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubMock:
    """``commits``: {commit: {path: bytes}}; ``refs``: {branch: commit}. The other attributes make it misbehave."""

    def __init__(self, commits, refs, token=None, page=1000):
        self.commits, self.refs, self.token, self.page = commits, refs, token, page
        self.gated = self.limited = self.unavailable = False
        self.rate = None  # bytes per second of each large file
        self.cuts = {}  # {path: bytes after which the connection is cut, once}
        self.damaged = set()  # paths that are sent with one bit turned
        self.no_ranges = False
        self.requests = []  # (method, path, Range, Authorization)
        self.sent = {}  # {path: bytes that went out}
        self.resumed = {}  # {path: of these, what went out to a request for a range}
        self._servers = [_serve(_Api, self), _serve(_Store, self)]
        self.url, self.store = ("http://127.0.0.1:%d" % server.server_port for server in self._servers)

    def close(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def body(self, commit, path):
        data = self.commits[commit][path]
        return bytes([data[0] ^ 1]) + data[1:] if path in self.damaged else data

    def ranges(self, path):
        """Return the ranges that the store was asked for."""
        return [seen[2] for seen in self.requests if seen[1].endswith("/" + path) and seen[1].startswith("/store/") and seen[0] == "GET"]


def _serve(handler, hub):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def is_large(path):
    return path.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.hub.requests.append(
            (self.command, unquote(urlsplit(self.path).path), self.headers.get("Range"), self.headers.get("Authorization"))
        )
        try:
            self.get(urlsplit(self.path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class _Api(_Handler):
    def get(self, url):
        hub, parts = self.hub, [unquote(part) for part in url.path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        if "/".join(parts[2:4] if api else parts[:2]) != REPOSITORY:
            return self.answer(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if hub.unavailable:
            return self.answer(503)
        if hub.limited:
            return self.answer(429, RateLimit='"api";r=0;t=271')
        if hub.token and self.headers.get("Authorization") != "Bearer " + hub.token:
            if self.headers.get("Authorization"):
                return self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if hub.gated:
            return self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access to model %s is restricted" % REPOSITORY)
        kind, revision = parts[4:6] if api else parts[2:4]
        commit = hub.refs.get(revision, revision)
        if commit not in hub.commits:
            return self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id: " + revision)
        if kind == "revision":
            return self.answer(200, json.dumps({"id": REPOSITORY, "sha": commit}).encode())
        if kind == "tree":
            return self.tree(commit, int((url.query.partition("cursor=")[2] or "0").partition("&")[0]))
        return self.resolve(commit, "/".join(parts[4:]))

    def tree(self, commit, start):
        names = sorted(self.hub.commits[commit])
        page = [self.entry(name, self.hub.commits[commit][name]) for name in names[start : start + self.hub.page]]
        more = {}
        if start + self.hub.page < len(names):
            path = "%s/api/models/%s/tree/%s?recursive=true&cursor=%d" % (self.hub.url, REPOSITORY, commit, start + self.hub.page)
            more["Link"] = '<%s>; rel="next"' % path
        self.answer(200, json.dumps(page).encode(), **more)

    @staticmethod
    def entry(name, data):
        found = {"type": "file", "path": name, "size": len(data), "oid": git_sha1(data)}
        if is_large(name):
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            found["oid"] = git_sha1(b"a pointer to " + data[:8])
        return found

    def resolve(self, commit, name):
        if name not in self.hub.commits[commit]:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
        data = self.hub.commits[commit][name]
        if is_large(name):
            return self.answer(
                302, Location="%s/store/%s/%s?sig=signedBySomebody" % (self.hub.store, commit, name), X_Repo_Commit=commit,
                X_Linked_Etag='"%s"' % hashlib.sha256(data).hexdigest(), X_Linked_Size=len(data),
            )  # fmt: skip
        body = self.hub.body(commit, name)
        return self.answer(200, body, X_Repo_Commit=commit, ETag='"%s"' % git_sha1(data))


class _Store(_Handler):
    def get(self, url):
        _store, commit, name = unquote(url.path).strip("/").split("/", 2)
        body, asked = self.hub.body(commit, name), self.headers.get("Range")
        start = int(asked.partition("=")[2].partition("-")[0]) if asked and not self.hub.no_ranges else 0
        headers = {"Content_Length": len(body) - start}
        if start:
            headers["Content_Range"] = "bytes %d-%d/%d" % (start, len(body) - 1, len(body))
        self.answer(206 if start else 200, b"", **headers)
        if self.command == "HEAD":
            return
        cut = self.hub.cuts.pop(name, None)
        for at in range(start, len(body), 65536):
            chunk = body[at : at + 65536]
            if cut is not None and at - start >= cut:
                self.close_connection = True
                return
            self.wfile.write(chunk)
            for tally in [self.hub.sent] + ([self.hub.resumed] if start else []):
                tally[name] = tally.get(name, 0) + len(chunk)
            if self.hub.rate:
                time.sleep(len(chunk) / self.hub.rate)
