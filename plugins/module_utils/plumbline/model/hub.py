"""What a Hugging Face hub says of a repository: the commit of a revision, and its files with their checksums.

Formats: huggingface_hub 2.4.0, ``hf_api.py`` (``/api/models/<id>/revision/<revision>``, ``/tree/<revision>?recursive=true``, pages by
a ``Link`` header) and ``utils/_http.py`` (``X-Error-Code``, ``RateLimit``).
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from ..core.scrub import scrub_text

COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
TIMEOUT_S = 30
ATTEMPTS = 4
LONGEST_WAIT_S = 60
_NO_ROUTE = "is the hub reachable from the head? set HTTPS_PROXY there, or model_sync_hub_endpoint to a mirror"


class HubError(Exception):
    """Why the hub gives nothing: a reason's ``check``, ``seen``, ``threshold`` and ``remedy``. ``passing``: the same may work later."""

    def __init__(self, check, seen, threshold, remedy, passing=False):
        super().__init__(seen)
        self.check, self.seen, self.threshold, self.remedy, self.passing = check, scrub_text(seen), threshold, remedy, passing


class File(NamedTuple):
    """One file of a source: bytes, and what it says the content hashes to (``sha256``, ``git``, ``md5``; ``none`` with ``""``)."""

    size: int
    algorithm: str
    digest: str


class _KeepsToItsHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects and gives the token to nobody but the hub itself: large files lie at another host, at a signed address."""

    def redirect_request(self, request, *rest):
        following = super().redirect_request(request, *rest)
        token = request.unredirected_hdrs.get("Authorization")
        if following is not None and token and _origin(following.full_url) == _origin(request.full_url):
            following.add_unredirected_header("Authorization", token)
        return following


def _origin(url):
    return urllib.parse.urlsplit(url)[:2]


def open_url(url, token="", headers=None, timeout_s=TIMEOUT_S):
    """Return the response to a GET; proxies as the environment says. Raises OSError, of which HTTPError is one."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "plumbline", **(headers or {})})
    if token:
        request.add_unredirected_header("Authorization", "Bearer " + token)
    return urllib.request.build_opener(_KeepsToItsHost).open(request, timeout=timeout_s)


def wait_s(headers):
    """Return the seconds that a hub which limits asks to wait, None when it does not say: ``Retry-After``, or ``t=`` of ``RateLimit``."""
    found = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After") or "") or re.search(r"\bt=(\d+)", headers.get("RateLimit") or "")
    return int(found.group(1)) if found else None


def explain(error, what, token):
    """Return the :class:`HubError` for what :func:`open_url` raised when it was asked for ``what``."""
    if not isinstance(error, urllib.error.HTTPError):
        why = getattr(error, "reason", error)
        return HubError("hub.unreachable", "%s: %s" % (what, why), "an answer of the hub", _NO_ROUTE, passing=True)
    code, said = error.headers.get("X-Error-Code") or "", error.headers.get("X-Error-Message") or error.reason
    seen = "%s: HTTP %d %s" % (what, error.code, said)
    if code == "GatedRepo" or (error.code == 403 and code != "RepoNotFound"):
        remedy = "accept the model's terms on the hub with the account of the token, and let a fine-grained token read gated repositories"
        return HubError("hub.gated", seen, "access to the repository", remedy if token else remedy + "; give model_sync_hub_token")
    if code == "RevisionNotFound":
        return HubError("hub.revision", seen, "a branch, tag or commit of the repository", "look at its history; model_sync_hub_revision")
    if token and error.code == 401 and code != "RepoNotFound":
        return HubError("hub.token", seen, "a token that the hub knows", "make a new one; model_sync_hub_token, or HF_TOKEN")
    if code == "RepoNotFound" or error.code in (401, 404):
        remedy = "look at the spelling (model_sync_hub_repository); a private one needs a token of an account that may read it"
        return HubError("hub.repository", seen, "a repository", remedy)
    if error.code == 429:
        asked = wait_s(error.headers)
        seen += "; it asks to wait %d s" % asked if asked is not None else ""
        return HubError("hub.rate_limit", seen, "fewer requests", "wait, then run it again; with a token the limit is higher", passing=True)
    if error.code >= 500:
        return HubError("hub.unavailable", seen, "an answer of the hub", "run it again later; it goes on where it stopped", passing=True)
    return HubError("hub.answer", seen, "HTTP 200", "does model_sync_hub_endpoint name a hub?")


class Hub:
    """One repository of models on one hub. All methods raise :class:`HubError`."""

    def __init__(self, endpoint, repository, token="", sleep=time.sleep):
        self.endpoint, self.repository, self.token, self._sleep = endpoint.rstrip("/"), repository, token, sleep

    def check(self):
        """Raise for what cannot be an address or a repository."""
        if not re.match(r"https?://[^/\s@]+", self.endpoint):
            raise HubError("hub.endpoint", "%r" % self.endpoint, "https://host", "model_sync_hub_endpoint")
        if not REPOSITORY.fullmatch(self.repository):
            raise HubError("hub.repository", "%r" % self.repository, "owner/name", "model_sync_hub_repository, say Qwen/Qwen2.5-72B")

    def commit(self, revision):
        """Return the commit of a branch, tag or commit."""
        url = "%s/revision/%s" % (self._api(), urllib.parse.quote(revision, safe=""))
        found, _next = self._json(url, "%s at revision %s" % (self.repository, revision))
        sha = found.get("sha") if isinstance(found, dict) else None
        if not COMMIT.fullmatch(str(sha)):
            raise self._odd(url, "no commit in the answer")
        return sha

    def files(self, commit):
        """Return ``{path: File}`` of a commit."""
        url = "%s/tree/%s?recursive=true&expand=false" % (self._api(), commit)
        found = {}
        while url:
            page, following = self._json(url, "the files of %s at %s" % (self.repository, commit[:12]))
            try:
                found.update({item["path"]: _file(item) for item in page if item["type"] == "file"})
            except (TypeError, KeyError, ValueError) as error:
                raise self._odd(url, "a list that is not one of files (%r)" % error) from error
            # A mirror may pass on what the hub itself says.
            following = following and following.replace("https://huggingface.co", self.endpoint, 1)
            if following and _origin(following) != _origin(self.endpoint):
                raise self._odd(url, "its next page is elsewhere: %s" % following)
            url = following
        return found

    def url(self, commit, name):
        """Return the address of a file."""
        return "%s/%s/resolve/%s/%s" % (self.endpoint, self.repository, commit, urllib.parse.quote(name))

    def _api(self):
        return "%s/api/models/%s" % (self.endpoint, self.repository)

    def _odd(self, url, why):
        return HubError("hub.answer", "%s: %s" % (url, why), "a hub's answer", "does model_sync_hub_endpoint name a hub? a proxy's page?")

    def _json(self, url, what):
        """Return ``(data, address of the next page or None)``; waits and asks again where that may help."""
        for attempt in range(ATTEMPTS):
            try:
                with open_url(url, self.token) as answer:
                    return json.load(answer), _next_page(answer.headers.get("Link"))
            except ValueError as error:
                raise self._odd(url, "no JSON (%s)" % error) from error
            except OSError as error:
                problem = explain(error, what, self.token)
                asked = wait_s(error.headers) if isinstance(error, urllib.error.HTTPError) else None
                pause = 2**attempt if asked is None else asked
                if not problem.passing or attempt == ATTEMPTS - 1 or pause > LONGEST_WAIT_S:
                    raise problem from error
                self._sleep(pause)
        raise AssertionError("unreachable")


def _file(item):
    large = item.get("lfs")
    if large:
        return File(int(large["size"]), "sha256", str(large["oid"]))
    return File(int(item["size"]), "git", str(item["oid"]))


def _next_page(link):
    found = re.search(r'<([^>]+)>\s*;[^,]*rel="next"', link or "")
    return found.group(1) if found else None
