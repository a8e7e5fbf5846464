"""A node's Docker engine, asked over its own socket: the only way that tells how far a pull is.

The Engine API is HTTP over a Unix socket: https://docs.docker.com/reference/api/engine/. Paths without a version are of the engine's own.
``docker pull`` without a terminal says no bytes, and community.docker's ``docker_image_pull`` says nothing until it is done.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.parse

SOCKET = "/var/run/docker.sock"
# Where the modules write how far they are, and their action plugins look.
PROGRESS = "/run/plumbline-image.progress"
ANSWER_S = 30
_PIECE = 1 << 20
_LATE = "it was not done in time"
TIMED_OUT = (socket.timeout, TimeoutError)  # noqa: UP041 - two classes before Python 3.10


def socket_of(given=None, environ=None):
    """Return the socket's path: the one given, else that of DOCKER_HOST where it is ``unix://...``, else the usual."""
    host = (os.environ if environ is None else environ).get("DOCKER_HOST") or ""
    return given or (host[len("unix://") :] if host.startswith("unix://") else "") or SOCKET


class EngineError(Exception):
    """The engine refused: ``status`` of HTTP (0 of a pull under way) and its own words."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status = status


class NoEngine(Exception):
    """Nothing answers at the socket, or what answers is no engine."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout_s):
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self):
        self.sock = self.raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def wait(self, seconds):
        """Let each read of the answer last so long; ``sock`` is gone where the engine ends the connection with its answer."""
        self.raw.settimeout(seconds)


class Engine:
    """The engine behind the socket at ``path``."""

    def __init__(self, path=SOCKET):
        self.path = path

    def _ask(self, method, path, headers=(), timeout_s=ANSWER_S, body=None):
        """Return ``(connection, response)`` with a status below 400; raise :class:`NoEngine` or :class:`EngineError`."""
        connection = _Connection(self.path, timeout_s)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            words = response.read() if response.status >= 400 else b""
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoEngine("%s: %s" % (self.path, error or type(error).__name__)) from error
        if response.status >= 400:
            connection.close()
            raise EngineError(response.status, _message(words))
        return connection, response

    def _begin(self, *request, wait_s, headers=(), body=None):
        """Return what :meth:`_ask` does; raise TimeoutError where nothing was answered for ``wait_s`` seconds."""
        if wait_s <= 0:
            raise TimeoutError(_LATE)
        try:
            return self._ask(*request, headers, wait_s, body)
        except NoEngine as error:
            if isinstance(error.__cause__, TIMED_OUT):
                late = str(error.__cause__) == _LATE  # so says who sends the body
                raise TimeoutError(_LATE if late else "the engine has said nothing for %.0f s" % wait_s) from error
            raise

    def _json(self, path):
        connection, response = self._ask("GET", path)
        try:
            return json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NoEngine("%s: no answer of an engine: %s" % (self.path, error)) from error
        finally:
            connection.close()

    def info(self):
        """Return what ``docker info`` shows, as the dictionary of the API."""
        return self._json("/info")

    def image(self, name):
        """Return what the engine knows of an image (``Id``, ``RepoDigests``, ``Size``), None when it has none of that name."""
        try:
            return self._json("/images/%s/json" % urllib.parse.quote(name, safe=""))
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def export(self, image, target, told, deadline, idle_s):
        """Write an image, as ``docker save`` does, to the open file ``target``; ``told`` is called with the bytes so far.

        An engine says nothing until it has put all of it together, so the first answer may take until ``deadline``; after it ``idle_s``
        holds. Raises as :meth:`pull` does, and OSError of the file.
        """
        path = "/images/%s/get" % urllib.parse.quote(image, safe="")
        connection, response = self._begin("GET", path, wait_s=deadline - time.monotonic())
        done = 0
        try:
            connection.wait(idle_s)
            while True:
                if time.monotonic() > deadline:
                    raise TimeoutError(_LATE)
                try:
                    piece = response.read(_PIECE)
                except TIMED_OUT as error:
                    raise TimeoutError("the engine has said nothing for %d s" % idle_s) from error
                except (OSError, http.client.HTTPException) as error:
                    raise NoEngine("%s: the engine went away: %s" % (self.path, error)) from error
                if not piece:
                    return
                target.write(piece)
                done += len(piece)
                told(done)
        finally:
            connection.close()

    def load(self, source, size, told, deadline, idle_s):
        """Have the engine take an image of ``size`` bytes from the open file ``source``, as ``docker load`` does.

        ``told`` is called with the bytes so far. The first answer may take until ``deadline``: the engine unpacks all of it before. Then,
        not being asked to be quiet, it tells of each layer, and ``idle_s`` holds. Raises as :meth:`pull` does.
        """

        def pieces():
            done = 0
            while True:
                if time.monotonic() > deadline:
                    raise TimeoutError(_LATE)
                piece = source.read(_PIECE)
                if not piece:
                    return
                yield piece
                done += len(piece)
                told(done)

        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
        wait_s = deadline - time.monotonic()
        connection, response = self._begin("POST", "/images/load?quiet=0", wait_s=wait_s, headers=headers, body=pieces())
        try:
            self._listen(connection, response, lambda _message: None, deadline, idle_s)
        finally:
            connection.close()

    def pull(self, reference, auth, heard, deadline, idle_s):
        """Have the engine pull a :class:`~.reference.Reference`; ``heard`` is called with each message of the API as it comes.

        ``auth`` is the header of :mod:`.credentials`, empty without one. Raises :class:`EngineError` with the engine's words, and
        TimeoutError at ``deadline`` (as time.monotonic) or after ``idle_s`` seconds without a word. A connection that ends, ends the pull.
        """
        query = urllib.parse.urlencode({"fromImage": reference.name, "tag": reference.digest or reference.tag or "latest"})
        headers = {"X-Registry-Auth": auth} if auth else {}
        connection, response = self._begin("POST", "/images/create?" + query, wait_s=idle_s, headers=headers)
        try:
            self._listen(connection, response, heard, deadline, idle_s)
        finally:
            connection.close()

    def _listen(self, connection, response, heard, deadline, idle_s):
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(_LATE)
            connection.wait(min(idle_s, left))
            try:
                line = response.readline()
            except TIMED_OUT as error:
                raise TimeoutError("the engine has said nothing for %d s" % min(idle_s, left)) from error
            except (OSError, http.client.HTTPException) as error:
                raise NoEngine("%s: the engine went away during the pull: %s" % (self.path, error)) from error
            if not line:
                return
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if message.get("error"):
                raise EngineError(0, (message.get("errorDetail") or {}).get("message") or message["error"])
            heard(message)


def _message(body):
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip() or "no words"
