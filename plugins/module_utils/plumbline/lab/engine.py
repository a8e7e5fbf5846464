"""Asks the Docker engine of a node, from the machine, through the node's own socket.

The Engine API is HTTP over a Unix socket: https://docs.docker.com/engine/api/v1.41/.
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse

SOCKET = "/run/docker.sock"
SECONDS = 10


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=SECONDS)
        self.path = path

    def connect(self):
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(pid, path):
    """Return ``(status, body)`` of a GET to the engine of the node whose first process is ``pid``; status 0: no engine."""
    connection = UnixConnection("/proc/%d/root%s" % (pid, SOCKET))
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def lacks(pid, reference=None, image=None):
    """Return what a node's engine lacks, in words; None when it answers and knows the image ``reference`` by that id."""
    if reference is None:
        return None if get(pid, "/_ping")[0] == 200 else "its Docker engine did not answer"
    status, body = get(pid, "/images/%s/json" % urllib.parse.quote(reference))
    if status == 404:
        return "its Docker engine lacks the image %s" % reference
    try:
        seen = json.loads(body).get("Id") if status == 200 else None
    except ValueError:
        seen = None
    if seen is None:
        return "its Docker engine did not answer"
    return None if seen == image else "its Docker engine has %s with another id, %s" % (reference, seen)
