"""A stand-in of a Docker engine on a Unix socket, which speaks the lines that a real one (20.10.24) said.

The real engine, and a real registry, are in tests/integration/test_containers.py.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
import time
import urllib.parse

import pytest
from ansible.module_utils.plumbline.serving.image import toolkit

DIGEST, ID = "sha256:" + "f1" * 32, "sha256:" + "d0" * 32
NAME = "registry:5000/plumbline/vllm-cpu"
PULLED = [
    {"status": "Pulling from plumbline/vllm-cpu", "id": "%s@%s" % (NAME, DIGEST)},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "bb852b337515"},
    {"status": "Downloading", "progressDetail": {"current": 20_000_000, "total": 50_000_000}, "id": "bb852b337515"},
    {"status": "Download complete", "progressDetail": {}, "id": "bb852b337515"},
    {"status": "Pull complete", "progressDetail": {}, "id": "bb852b337515"},
    {"status": "Digest: " + DIGEST},
    {"status": "Status: Downloaded newer image for %s@%s" % (NAME, DIGEST)},
]


class StandInEngine(http.server.BaseHTTPRequestHandler):
    """Answers as ``self.server.told`` says: images by name, the lines of a pull, an error, silence."""

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        told, path = self.server.told, urllib.parse.unquote(self.path)
        if path == "/info":
            self.answer(200, told["info"])
        elif path.endswith("/get"):
            time.sleep(told.get("silent_s", 0))  # a real one puts all of it together first
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # who asked has given up
                self.wfile.write(told["archive"])
        elif path[len("/images/") : -len("/json")] in told["images"]:
            self.answer(200, told["images"][path[len("/images/") : -len("/json")]])
        else:
            self.answer(404, {"message": "No such image: %s" % path})

    def do_POST(self):  # noqa: N802
        told = self.server.told
        if urllib.parse.urlparse(self.path).path == "/images/load":
            told["loaded"] = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(told.get("silent_s", 0))
        told["asked"].append((urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query), self.headers.get("X-Registry-Auth")))
        if told.get("refuses"):
            self.answer(*told["refuses"])
            return
        self.send_response(200)
        self.end_headers()
        for message in told["lines"]:
            try:
                self.wfile.write(json.dumps(message).encode() + b"\r\n")
                self.wfile.flush()
            except BrokenPipeError:
                return  # who asked has given up
            time.sleep(told.get("slow_s", 0))
        told["images"].update(told["after"])

    def answer(self, status, document):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """What the stand-in tells; ``told["run"](...)`` runs the module against it."""
    monkeypatch.setattr(toolkit, "look", lambda _socket: pytest.fail("nobody asked for GPUs"))
    image = {"Id": ID, "RepoDigests": ["%s@%s" % (NAME, DIGEST)], "Size": 3_150_000_000, "Config": {"Env": []}}
    told = {"info": {"ServerVersion": "20.10.24", "DockerRootDir": str(tmp_path)}, "images": {}, "lines": PULLED, "asked": []}
    told.update(
        after={"%s@%s" % (NAME, DIGEST): image}, image=image, progress=str(tmp_path / "progress"), socket=str(tmp_path / "engine.sock")
    )
    with Server(told["socket"], StandInEngine) as server:
        server.told = told
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield told
        server.shutdown()
