"""Runs the hub's own client, ``hf download``, under watch: no token in its arguments, and an end to it when its module ends."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from ..core import processes
from ..core.scrub import scrub_text
from .hub import HubError

# How a node reaches the world, besides what base_environment takes.
_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
LOOK_S = 0.5
HTTP_LIMIT_BYTES = 50_000_000_000  # MAX_HTTP_DOWNLOAD_SIZE of huggingface_hub: larger files come by Xet alone
_PR_SET_PDEATHSIG = 1  # prctl(2)

_KINDS = (
    (r"No space left on device|Disk quota exceeded", "model.disk", "space for every file", "free space, or another model_sync_path", False),
    (r"GatedRepo|gated repo|requires approval|403 Forbidden|403 Client Error", "hub.gated", "access to every file",
     "accept the model's terms on the hub with the account of the token", False),
    (r"401 Unauthorized|401 Client Error|Invalid user token|Invalid credentials", "hub.token", "a token that the hub knows",
     "make a new one; model_sync_hub_token", False),
    (r"429 Client Error|Too Many Requests", "hub.rate_limit", "fewer requests",
     "wait, then run it again; with a token the limit is higher", True),
    (r"RepositoryNotFound|RevisionNotFound|EntryNotFound|[Nn]ot found in|Not Found for url", "hub.repository",
     "every file of the listing", "did the repository change meanwhile? run it again", False),
    (r"\b5\d\d Server Error|[Ss]erver error '5\d\d", "hub.unavailable", "an answer of the hub",
     "run it again later; it goes on where it stopped", True),
    (r"ConnectError|ReadError|ReadTimeout|ConnectTimeout|TimeoutException|ProtocolError|ProxyError|Connection (?:refused|reset)"
     r"|[Nn]ame or service not known|name resolution|unreachable|Consistency check failed|IncompleteRead|[Cc]onnection error"
     r"|internet connection|peer closed", "hub.unreachable", "all bytes of every file",
     "look at the link; run it again, it goes on where it stopped", True),
    (r"too large to be downloaded using the regular", "hub.client", "a client with hf_xet", "pip install hf_xet beside hf", False),
    (r"No such command|invalid choice|unrecognized arguments", "hub.client", "hf download of huggingface_hub",
     "model_sync_hub_program names the hf of huggingface_hub 0.34 or newer", False),
)  # fmt: skip

# With it begins what the client says last: its own word for an error, or the last line of a traceback.
_LAST = re.compile(r"^(?:Error: |(?:[\w]+\.)*\w*(?:Error|Exception|Timeout)(?:: |$))", re.M)


def proxies():
    """Return what of this environment says how the world is reached."""
    return {name: os.environ[name] for name in (*_PASSED_ON, *map(str.lower, _PASSED_ON)) if name in os.environ}


def environment(endpoint, token, home, largest):
    """Return the client's environment. The token is in it and nowhere else; logins of this node's own are not used.

    Xet is off, so that what an interrupted download leaves is the beginning of the file; a file too large for that needs it.
    """
    env = processes.base_environment(proxies())
    env.update(HF_ENDPOINT=endpoint, HF_HOME=home, HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    env.update(HF_HUB_DISABLE_UPDATE_CHECK="1", HF_HUB_DISABLE_SYMLINKS_WARNING="1", NO_COLOR="1", LC_ALL="C.UTF-8")
    if largest <= HTTP_LIMIT_BYTES:
        env["HF_HUB_DISABLE_XET"] = "1"
    if token:
        env["HF_TOKEN"] = token
    return env


def command(program, repository, commit, folder, names):
    """Return the client's argv: the files by name, since every version reads that the same way."""
    return [program, "download", repository, *sorted(names), "--revision", commit, "--local-dir", folder]


def missing(program):
    """Return a :class:`HubError` when there is no such client, else None."""
    if shutil.which(program):
        return None
    remedy = "pip install huggingface_hub on the head, or model_sync_hub_program; vLLM's own environment has one"
    return HubError("hub.client", "no program %s on the head" % program, "the hub's client", remedy)


def _ends_with_us():
    """Have the kernel end the client when the module is killed: two downloads into one folder would trample each other."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def run(argv, env, deadline, watch):
    """Run the client, call ``watch()`` twice a second; return ``(status, what it said)``, status None when the time was over."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd="/",
            start_new_session=True, preexec_fn=_ends_with_us,  # modules have one thread here
        )  # fmt: skip
        try:
            while process.poll() is None and time.monotonic() < deadline:
                watch()
                time.sleep(LOOK_S)
            status = process.poll()
        finally:
            if process.poll() is None:
                processes.end_group(process)
        said.seek(0)
        return status, said.read().decode("utf-8", errors="replace")


def explain(status, said, token):
    """Return the :class:`HubError` for a client that did not succeed."""
    if token:
        said = said.replace(token, "[scrubbed]")
    begins = [match.start() for match in _LAST.finditer(said)]
    said = said[begins[-1] :] if begins else said
    lines = [line.strip() for line in scrub_text(said).splitlines() if line.strip() and not line.lstrip().startswith("Hint:")]
    tail = " / ".join(lines[-6:])[-600:]
    if status is None:
        remedy = "raise model_sync_timeout_s, or look at the link; the next run goes on from here"
        return HubError("hub.time", "hf download was not done in time: %s" % (tail or "it said nothing"), "all files", remedy)
    seen = "hf download ended with status %d: %s" % (status, tail or "it said nothing")
    for pattern, check, expected, remedy, passing in _KINDS:
        if re.search(pattern, said):
            return HubError(check, seen, expected, remedy, passing)
    return HubError("hub.client", seen, "status 0", "run that command by hand on the head and see")
