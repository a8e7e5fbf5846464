"""Brings a model from Azure's blob storage with azcopy and the machine's managed identity.

Sources: azcopy's ``cmd/list.go`` (the lines of ``azcopy list``), ``common/environment.go`` (its variables), its page of ``azcopy sync``.
It takes a shared access signature in its arguments alone, where every user of the machine sees it (azure-storage-azcopy issue 2138,
open), so there is none here: the machine's identity needs no secret at all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shutil

from ..core import processes
from ..core.scrub import scrub_text
from . import hub_client, hub_files
from .download import Download
from .hub import File, HubError

_URL = re.compile(r"https://[a-z0-9]{3,24}\.blob\.[a-z0-9.-]+/[^?#\s]+")
_LINE = re.compile(r"^(?:INFO: )?(.+?); (?:ContentMD5: ([A-Za-z0-9+/=]*); )? Content Length: (\d+)\s*$")

_KINDS = (
    (r"No space left on device|Disk quota exceeded", "model.disk", "space for every file", "free space, or another model_sync_path"),
    (r"Failed to perform Auto-login|ManagedIdentityCredential|Identity not found", "blob.identity", "a managed identity of the head",
     "give the machine one; with several: model_sync_blob_client_id"),
    (r"AuthorizationPermissionMismatch|AuthorizationFailure|AuthenticationFailed|NoAuthenticationInformation|PublicAccessNotPermitted",
     "blob.access", "the role Storage Blob Data Reader", "give the identity that role on the container; look at the account's firewall"),
    (r"ContainerNotFound|BlobNotFound|ResourceNotFound|The specified container does not exist", "blob.missing",
     "a container with the model", "look at the spelling: model_sync_blob_url"),
    (r"no such host|failed to resolve|connection refused|i/o timeout|network is unreachable|ServerBusy|OperationTimedOut",
     "blob.unreachable", "an answer of the storage",
     "is the account reachable from the head (private endpoint, DNS)? then run it again, it goes on"),
)  # fmt: skip


def listed(text):
    """Return ``{path: File}`` of what ``azcopy list --machine-readable --properties ContentMD5`` printed; folders are left out."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match or match.group(1).endswith("/"):
            continue
        try:
            digest = base64.b64decode(match.group(2) or "", validate=True).hex()
        except (binascii.Error, ValueError):
            digest = ""
        found[match.group(1)] = File(int(match.group(3)), "md5" if digest else "none", digest)
    return found


def explain(what, status, said):
    """Return the :class:`HubError` for an azcopy that did not succeed; ``status`` None: stopped when the time was over."""
    tail = " / ".join(line.strip() for line in scrub_text(said).splitlines() if line.strip())[-600:] or "it said nothing"
    if status is None:
        return HubError("blob.time", "%s was not done in time: %s" % (what, tail), "all files", "raise model_sync_timeout_s; it goes on")
    seen = "%s ended with status %d: %s" % (what, status, tail)
    for pattern, check, expected, remedy in _KINDS:
        if re.search(pattern, said):
            return HubError(check, seen, expected, remedy)
    return HubError("blob.client", seen, "status 0", "run that command by hand on the head and see")


class BlobDownload(Download):
    """What :mod:`model_blob` does: as from a hub, with a container in its place, whose listing stands for the commit."""

    def run(self):
        """Do all of it; raises HubError and OSError."""
        self._check()
        files = self._files()
        self.commit = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        self.measurement.context["listing_sha256"] = self.commit
        old = self._manifest()
        if (old or {}).get("origin") == self._origin() and self.args["on_corruption"] != "repair":
            self._nothing_to_do(old)
        else:
            self._start(files, old)
        unproven = [name for name, file in sorted(files.items()) if file.algorithm == "none"]
        if unproven:
            seen = "%d files have no Content-MD5, so only their size is compared: %s" % (len(unproven), ", ".join(unproven[:3]))
            self.measurement.add("blob.md5", "skipped", seen, "Content-MD5 of every blob", "upload with azcopy --put-md5")

    def _check(self):
        url = self.args["url"]
        if "?" in url:
            seen = "the address has a query, such as a shared access signature; azcopy would show it to every user of the head"
            raise HubError("blob.url", seen, "an address alone", "leave it out and give the head's managed identity access")
        if not _URL.fullmatch(url):
            raise HubError("blob.url", "%r" % url, "https://<account>.blob.core.windows.net/<container>[/<folder>]", "model_sync_blob_url")
        if not shutil.which(self.args["program"]):
            remedy = "install azcopy 10 on the head, or model_sync_blob_program"
            raise HubError("blob.client", "no program %s on the head" % self.args["program"], "azcopy", remedy)

    def _files(self):
        # In check mode too: it only asks.
        argv = [self.args["program"], "list", self.args["url"], "--machine-readable", "--properties", "ContentMD5"]
        status, said = hub_client.run(argv, self._environment(), self.deadline, lambda: None)
        if status != 0:
            raise explain("azcopy list", status, said)
        files = hub_files.chosen(listed(said), [], [])
        if not files:
            raise HubError(
                "blob.missing", "no files at " + self.args["url"], "a model's files", "look at the spelling: model_sync_blob_url"
            )
        return files

    def _environment(self):
        folder = self.args["state"]
        extra = {"AZCOPY_AUTO_LOGIN_TYPE": "MSI", "AZCOPY_LOG_LOCATION": folder, "AZCOPY_JOB_PLAN_LOCATION": folder}
        if self.args["client_id"]:
            extra["AZCOPY_MSI_CLIENT_ID"] = self.args["client_id"]
        return processes.base_environment({**hub_client.proxies(), **extra})

    def _is(self, origin):
        return origin.get("url") == self.args["url"]

    def _origin(self):
        return {"url": self.args["url"], "commit": self.commit}

    def _until_whole(self, files, wanted, progress, resumed):
        """Have ``azcopy sync`` bring what is missing: it skips what is there, so a killed one goes on with the next file."""
        self._sweep()  # azcopy does not go on with what a killed one left
        self.command = [self.args["program"], "sync", self.args["url"], self.path, "--recursive", "--check-md5", "FailIfDifferent"]
        status, said = hub_client.run(self.command, self._environment(), self.deadline, lambda: progress.tell(self._came(wanted)))
        if status != 0:
            raise explain("azcopy sync", status, said)
        self._sweep()
        return self._prove({name: files[name] for name in wanted})

    def _came(self, wanted):
        return hub_files.on_disk(self.path, wanted) + sum(os.path.getsize(path) for path in self._temporary() if os.path.exists(path))

    def _temporary(self):
        """Return azcopy's files in progress: it names them ``.azDownload-<job>-<name>`` until they are whole."""
        return [
            os.path.join(base, name) for base, _folders, names in os.walk(self.path) for name in names if name.startswith(".azDownload-")
        ]

    def _sweep(self):
        for path in self._temporary():
            os.remove(path)
