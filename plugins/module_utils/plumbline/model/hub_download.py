"""One download of a model from a hub: what is there, what is missing, bring it, prove it, and write its manifest."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time

from ..core.files import write_atomically
from . import hub_client, hub_files
from . import manifest as manifests
from .hub import COMMIT, Hub, HubError
from .progress import Progress

OURS = os.path.join(".cache", "plumbline")
PROGRESS = os.path.join(OURS, "progress")
ATTEMPTS = 5  # in a row that bring nothing


def is_full(error):
    """Tell whether an OSError is that of a full disk or quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def alone(folder, deadline, sleep=time.sleep):
    """Hold the folder's lock. Who comes second waits until the first is done, and then finds what it brought."""
    os.makedirs(os.path.join(folder, OURS), mode=0o755, exist_ok=True)
    path = os.path.join(folder, OURS, "lock")
    with open(path, "a", encoding="utf-8") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    remedy = "wait for it, or end it by playbooks/reset.yml"
                    raise HubError("hub.busy", "another run downloads to " + folder, "one at a time", remedy) from error
                sleep(0.5)
        yield


class Download:
    """What :mod:`model_hub` does. ``args`` are its options; reasons and figures go to ``measurement``."""

    def __init__(self, args, measurement, check_mode=False):
        self.args, self.measurement, self.check_mode = args, measurement, check_mode
        self.path, self.threads = args["path"], manifests.threads_for(args["threads"])
        self.hub = Hub(args["endpoint"], args["repository"], args["token"])
        self.deadline = time.monotonic() + args["timeout_s"]
        self.commit, self.command, self.changed, self.complete = "", None, False, False
        self.names = []

    def run(self):
        """Do all of it; raises :class:`HubError` and OSError."""
        self.hub.check()
        old = self._manifest()
        origin = (old or {}).get("origin") or {}
        self.commit = self._commit(origin)
        self.measurement.context.update(revision=self.args["revision"], commit=self.commit)
        if origin == self._origin() and self.args["on_corruption"] != "repair":
            self._nothing_to_do(old)
            return
        files = hub_files.chosen(self.hub.files(self.commit), self.args["include"], self.args["exclude"])
        if not files:
            raise HubError(
                "hub.files", "no file is left of %s" % self.hub.repository, "a model's files", "model_sync_hub_include, _exclude"
            )
        self.measurement.measured.update(files=len(files), size_bytes=sum(file.size for file in files.values()), corrupt_files=0)
        self.measurement.measured.update(transferred_bytes=0, resumed_bytes=0, transfer_s=0.0)
        if self.check_mode:
            self._bring(files, old)
            return
        with alone(self.path, self.deadline):
            self._bring(files, old)

    def _manifest(self):
        try:
            return manifests.load(self.path)
        except manifests.ManifestError as error:
            self.measurement.add("model.marker", "degraded", str(error), "a readable manifest", "check the disk")
            return None

    def _is(self, origin):
        """Tell whether an origin, as a manifest or our own mark has it, is the repository that is asked for."""
        return origin.get("endpoint") == self.hub.endpoint and origin.get("repository") == self.hub.repository

    def _commit(self, origin):
        """Return the commit. A model that is there already outlives a hub that does not answer, as ``degraded``."""
        revision = self.args["revision"]
        if COMMIT.fullmatch(revision) and self._is(origin) and origin.get("commit") == revision:
            return revision
        try:
            return self.hub.commit(revision)
        except HubError as error:
            if not error.passing or not self._is(origin):
                raise
            seen = "%s; commit %s is there" % (error.seen, origin["commit"][:12])
            self.measurement.add(error.check, "degraded", seen, "the commit of " + revision, "pin the commit: model_sync_hub_revision")
            return origin["commit"]

    def _nothing_to_do(self, old):
        self.measurement.measured.update(manifests.measured(old))
        self.measurement.context["manifest_sha256"] = manifests.digest(old)
        self.measurement.add("hub.download", "healthy", "commit %s is there, nothing to download" % self.commit[:12], "every file")
        self.complete = True

    def _bring(self, files, old):
        measured, began = self.measurement.measured, time.monotonic()
        whole, wrong, missing = hub_files.look(self.path, files, self.threads)
        measured["verify_s"] = round(time.monotonic() - began, 3)
        if wrong and not self._may_replace(wrong, old):
            return
        wanted = sorted(missing | set(wrong))
        if self.check_mode:
            self._foretell(files, wanted)
            return
        self._room(files, wanted)
        self._make_ours(wrong, files, old)
        if wanted:
            whole.update(self._transfer(files, wanted))
        if set(whole) == set(files):
            self._complete(files, whole, old, len(wanted))

    def _may_replace(self, wrong, old):
        """Tell whether wrong files are of an earlier download of this repository; else add a reason for each."""
        origin = (old or {}).get("origin") or self._mark()
        ours = self._is(origin)
        damaged = ours and origin.get("commit") == self.commit and old is not None
        if damaged:
            self.measurement.measured["corrupt_files"] = len(wrong)
        if ours and not damaged:
            return True
        for name, why in sorted(wrong.items()):
            seen = "%s: %s" % (os.path.join(self.path, name), why)
            if damaged:
                self.measurement.add("model.corrupt", "degraded", seen, "unchanged since the download", "downloaded again; check the disk")
            else:
                expected, remedy = (
                    "files of %s, or none" % self.hub.repository,
                    "another model_sync_path; or remove it, if it is not needed",
                )
                self.measurement.add("model.foreign", "failed", seen, expected, remedy)
        return bool(damaged)

    def _mark(self):
        try:
            with open(os.path.join(self.path, OURS, "origin"), encoding="utf-8") as text:
                found = json.load(text)
                return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _origin(self):
        """Return what the manifest says of where the model is from; patterns only where there are any."""
        patterns = {name: self.args[name] for name in ("include", "exclude") if self.args[name]}
        return dict(patterns, endpoint=self.hub.endpoint, repository=self.hub.repository, commit=self.commit)

    def _foretell(self, files, wanted):
        size = sum(files[name].size for name in wanted)
        seen = "%d files, %d bytes, would be downloaded at commit %s" % (len(wanted), size, self.commit[:12])
        self.measurement.add("check_mode", "skipped", seen)
        self.changed = bool(wanted)

    def _room(self, files, wanted):
        needed = sum(files[name].size for name in wanted) - hub_files.on_disk(self.path, [])
        free = manifests.free_bytes(self.path)
        if needed > free:
            seen = "%d bytes free at %s, %d bytes needed for %d files" % (free, self.path, needed, len(wanted))
            raise HubError("model.disk", seen, "at least %d bytes" % needed, "free space, or model_sync_path on a larger disk")

    def _make_ours(self, wrong, files, old):
        """From here to the end the model is not complete. Files of an earlier commit that this one does not have go, too."""
        stale = set(wrong)
        if old and self._is(old.get("origin") or {}):
            stale |= set(old["files"]) - set(files)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.path, manifests.NAME))
        write_atomically(os.path.join(self.path, OURS, "origin"), json.dumps(self._origin()) + "\n")
        for name in stale:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.path, name))

    def _transfer(self, files, wanted):
        """Bring the files; return ``{name: SHA-256}`` of those that are whole. Figures are kept also when it fails."""
        measured, began = self.measurement.measured, time.monotonic()
        before = hub_files.on_disk(self.path, wanted)
        progress = Progress(os.path.join(self.path, PROGRESS), sum(files[name].size for name in wanted), before)
        self.changed, self.names, resumed = True, wanted, {}
        try:
            whole = self._until_whole(files, wanted, progress, resumed)
        finally:
            measured["transfer_s"] = round(time.monotonic() - began, 3)
            measured["transferred_bytes"] = max(0, hub_files.on_disk(self.path, wanted) - before)
            measured["resumed_bytes"] = sum(resumed.values())
        return whole

    def _until_whole(self, files, wanted, progress, resumed):
        """Finish parts, then have ``hf`` bring the rest; again, as long as that brings something."""
        problem = hub_client.missing(self.args["program"])
        if problem:
            raise problem
        fruitless, left = 0, list(wanted)

        def watch():
            progress.tell(hub_files.on_disk(self.path, wanted))

        while True:
            there = hub_files.on_disk(self.path, wanted)
            try:
                best = hub_files.best_parts(self.path, files, left)
                resumed.update(hub_files.finish(self.hub, self.commit, self.path, files, best, self.deadline, watch))
                left = [name for name in left if not os.path.isfile(os.path.join(self.path, name))]
                if left:
                    self._client(files, left, watch)
                break
            except HubError as error:
                fruitless = 0 if hub_files.on_disk(self.path, wanted) > there else fruitless + 1
                if not error.passing or fruitless >= ATTEMPTS or time.monotonic() > self.deadline:
                    raise
                left = [name for name in left if not os.path.isfile(os.path.join(self.path, name))]
                time.sleep(1)
        return self._prove({name: files[name] for name in wanted})

    def _client(self, files, left, watch):
        home = os.path.join(self.path, OURS, "home")
        env = hub_client.environment(self.hub.endpoint, self.hub.token, home, max(files[name].size for name in left))
        self.command = hub_client.command(self.args["program"], self.hub.repository, self.commit, self.path, left)

        def look():
            hub_files.keep_parts(self.path)
            watch()

        try:
            status, said = hub_client.run(self.command, env, self.deadline, look)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        if status != 0:
            raise hub_client.explain(status, said, self.hub.token)

    def _prove(self, files):
        """Return ``{name: SHA-256}`` of the files that are as the hub says; name the others and remove them: the next run brings them."""
        began = time.monotonic()
        whole, wrong, missing = hub_files.look(self.path, files, self.threads)
        measured = self.measurement.measured
        measured["verify_s"] = round(measured["verify_s"] + time.monotonic() - began, 3)
        wrong.update({name: "missing after the download" for name in missing})
        for name, why in sorted(wrong.items()):
            seen, remedy = "%s: %s" % (os.path.join(self.path, name), why), "removed; run it again, and if it stays check disk and memory"
            self.measurement.add("model.verify", "failed", seen, "the hub's own checksum", remedy)
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.path, name))
        measured["corrupt_files"] += len(wrong)
        return whole

    def _complete(self, files, whole, old, brought):
        fresh = {"schema": manifests.SCHEMA, "origin": self._origin()}
        fresh["files"] = {name: {"size": files[name].size, "sha256": whole[name]} for name in sorted(files)}
        manifests.save(self.path, manifests.check(fresh))
        hub_files.best_parts(self.path, files, [])  # removes what is left of other attempts
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.path, PROGRESS))
        self.changed = self.changed or fresh != old
        self.complete = True
        self.measurement.context["manifest_sha256"] = manifests.digest(fresh)
        seen = "commit %s: %d files, %d of them downloaded now" % (self.commit[:12], len(files), brought)
        self.measurement.add("hub.download", "healthy", seen, "every file has the hub's checksum")
