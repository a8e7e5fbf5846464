"""Stands in for Azure: login.microsoftonline.com and management.azure.com behind a proxy on loopback, with TLS by a certificate of its own.

The real SDK reaches it with HTTPS_PROXY and REQUESTS_CA_BUNDLE in its environment; nothing of it is changed. Only what this project asks
is answered, in the forms of the published REST reference (Compute 2024-07-01, Network 2018-10-01 and 2024-05-01, Impact 2023-02-01-preview
and for insights 2025-01-01-preview); anything else is 404, and a connection to another host is refused.
"""

from __future__ import annotations

import collections
import datetime
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ARM = "management.azure.com"
LOGIN = "login.microsoftonline.com"
SECRET = "mock-secret"
TOKEN = "mock-token"


def certificate(folder):
    """Write a certificate for Azure's two names, and its key, into ``folder``; return their paths. Needs cryptography, as the SDK does."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plumbline's mock of Azure")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(ARM), x509.DNSName(LOGIN)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    public, private = folder / "mock-azure.pem", folder / "mock-azure.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return public, private


class MockAzure:
    """A stand-in that answers from ``resources``: ``{path in lower case: body}``.

    ``refusals`` is ``{end of a path: [(status, headers, body), ...]}``: given out one by one, before any answer. ``asked`` counts requests
    by path, ``strangers`` are the other hosts that somebody wanted, ``waited`` the seconds between a refusal and the next try. ``page`` is
    how many items a list has before its nextLink. ``sent`` are the PUTs taken, ``(path, api-version, body)``. ``put_refusals`` are given
    out to the next PUTs, whatever their path; None takes one. ``insights`` are the answers about an impact's insights, one by one; the
    last stays.
    """

    def __init__(self, folder, resources=None, page=50):
        self.resources, self.refusals, self.page = resources or {}, {}, page
        self.asked, self.strangers = collections.Counter(), []
        self.waited, self._refused = [], {}
        self.sent, self.put_refusals, self.insights = [], [], [[]]
        self.certificate, key = certificate(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"azure": self}))
        self._server.daemon_threads = True
        self.proxy = "http://127.0.0.1:%d" % self._server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def environment(self):
        """Return the variables with which the SDK comes here and logs in: a service principal, as docs/azure.md has it."""
        return {
            "HTTPS_PROXY": self.proxy,
            "NO_PROXY": "",
            "REQUESTS_CA_BUNDLE": str(self.certificate),
            "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-00000000000a",
            "AZURE_TENANT": "00000000-0000-0000-0000-00000000000b",
            "AZURE_CLIENT_ID": "00000000-0000-0000-0000-00000000000c",
            "AZURE_SECRET": SECRET,
        }

    def managed_identity(self):
        """Return the variables with which the SDK finds this machine's managed identity here, as on a machine of Azure's."""
        return {"IDENTITY_ENDPOINT": self.proxy + "/identity", "IDENTITY_HEADER": "mock"}

    def answer(self, host, path, query, token):
        """Return (status, headers, body) for a GET."""
        self.asked[path.lower()] += 1
        if host == LOGIN:
            return 200, {}, _openid(path)
        if path in self._refused:
            self.waited.append(time.monotonic() - self._refused.pop(path))
        for part, given in self.refusals.items():
            if path.lower().endswith(part.lower()) and given:
                self._refused[path] = time.monotonic()
                return given.pop(0)
        if token != "Bearer " + TOKEN:
            return 401, {}, _error("InvalidAuthenticationToken", "The access token is invalid.")
        if path.lower().endswith("/insights"):
            return 200, {}, {"value": self.insights.pop(0) if len(self.insights) > 1 else self.insights[0]}
        body = self.resources.get(path.lower())
        if body is None:
            return 404, {}, _error("ResourceNotFound", "The Resource '%s' was not found." % path)
        if isinstance(body, list):
            start = int(query.get("$skiptoken", 0))
            more = {"nextLink": "https://%s%s?api-version=%s&$skiptoken=%d" % (ARM, path, query["api-version"], start + self.page)}
            body = {"value": body[start : start + self.page], **(more if start + self.page < len(body) else {})}
        return 200, {}, body

    def take(self, path, query, token, body):
        """Return (status, headers, body) for a PUT: of an impact, or of an instance, of which only what is sent changes."""
        refusal = self.put_refusals.pop(0) if self.put_refusals else None
        if refusal:
            return refusal
        if token != "Bearer " + TOKEN:
            return 401, {}, _error("InvalidAuthenticationToken", "The access token is invalid.")
        there, impact = self.resources.get(path.lower()), "/microsoft.impact/workloadimpacts/" in path.lower()
        if not impact and there is None:
            return 404, {}, _error("ResourceNotFound", "The Resource '%s' was not found." % path)
        self.sent.append((path, query["api-version"], body))
        if impact:
            self.resources[path.lower()] = {"id": path, "name": path.rpartition("/")[2], **body}
        else:
            there["properties"].update(body["properties"])
        return (201 if impact and there is None else 200), {}, self.resources[path.lower()]


def _error(code, message):
    return {"error": {"code": code, "message": message}}


def _openid(path):
    """Return a tenant's description, from which MSAL takes where to ask for a token."""
    tenant = "https://%s/%s" % (LOGIN, path.strip("/").partition("/")[0])
    return {
        "issuer": tenant + "/v2.0",
        "authorization_endpoint": tenant + "/oauth2/v2.0/authorize",
        "token_endpoint": tenant + "/oauth2/v2.0/token",
        # Of instance discovery, which is asked when a login fails.
        "tenant_discovery_endpoint": tenant + "/v2.0/.well-known/openid-configuration",
        "metadata": [],
    }


class _Handler(BaseHTTPRequestHandler):
    """A proxy that is the host itself: after CONNECT it speaks TLS and answers."""

    protocol_version = "HTTP/1.1"
    azure: MockAzure
    host = ""

    def do_CONNECT(self):
        self.host = self.path.partition(":")[0]
        if self.host not in (ARM, LOGIN):
            self.azure.strangers.append(self.host)
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self.azure.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_GET(self):
        path, _, text = self.path.partition("?")
        if self.host == "" and path == "/identity":
            self._send(200, {}, {"access_token": TOKEN, "expires_on": "4102444800", "resource": "", "token_type": "Bearer"})
            return
        query = dict(item.partition("=")[::2] for item in text.replace("%24", "$").split("&"))
        self._send(*self.azure.answer(self.host, path, query, self.headers.get("Authorization")))

    def do_PUT(self):
        path, _, text = self.path.partition("?")
        query = dict(item.partition("=")[::2] for item in text.split("&"))
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self._send(*self.azure.take(path, query, self.headers.get("Authorization"), body))

    def do_POST(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.host != LOGIN or not self.path.endswith("/oauth2/v2.0/token"):
            self._send(404, {}, _error("NotFound", "the mock knows no POST here"))
        elif "client_secret=" + SECRET not in sent:
            self._send(401, {}, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
        else:
            self._send(200, {}, {"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN})

    def _send(self, status, headers, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing: what was asked is in the stand-in's ``asked``."""
