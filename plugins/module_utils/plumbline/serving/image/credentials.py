"""The registry's password, as ``docker login`` left it on the node: the engine itself keeps none, its client sends it along.

``config.json`` of the Docker client: ``auths`` holds ``user:password`` in base64, ``credHelpers`` and ``credsStore`` name a program
``docker-credential-<name>`` that knows it (https://docs.docker.com/reference/cli/docker/login/#credential-stores).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess

from .reference import HUB

FILE = "/root/.docker/config.json"
_HUB_KEY = "https://index.docker.io/v1/"
_HUBS = (HUB, "index.docker.io")  # two names of one registry
_TOKEN = "<token>"  # what a helper writes in the place of a name when the secret is an identity token


def header(registry, path=FILE):
    """Return the value of ``X-Registry-Auth`` for a registry; ``""`` where nobody has logged in. Never log it."""
    try:
        with open(path, encoding="utf-8") as handle:
            config = json.load(handle)
        found = _of(config, _HUB_KEY if registry in _HUBS else registry)
    except (OSError, ValueError, AttributeError, TypeError, subprocess.SubprocessError):
        return ""
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode() if found else ""


def _of(config, key):
    """Return ``{"username", "password", "serveraddress"}`` or one with ``identitytoken``, None without any."""
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper:
        return _asked(helper, key)
    auths = config.get("auths") or {}
    entry = auths.get(key) or next((auths[name] for name in auths if _host(name) == key), None) or {}
    if entry.get("identitytoken"):
        return {"identitytoken": entry["identitytoken"], "serveraddress": key}
    try:
        user, colon, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": user, "password": password.rstrip("\0"), "serveraddress": key} if colon else None


def _host(name):
    """Return the host and port of a key: old clients wrote addresses (``ConvertToHostname`` of docker/cli's cli/config/credentials)."""
    return name.rpartition("://")[2].partition("/")[0]


def _asked(helper, key):
    if os.path.basename(helper) != helper:
        return None
    done = subprocess.run(["docker-credential-" + helper, "get"], input=key, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        return None
    answer = json.loads(done.stdout)
    if answer.get("Username") == _TOKEN:
        return {"identitytoken": answer["Secret"], "serveraddress": key}
    return {"username": answer["Username"], "password": answer["Secret"], "serveraddress": key}
