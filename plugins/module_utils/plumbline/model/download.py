"""One download of a model to a directory: what is there, what is missing, bring it, prove it, and write its manifest."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import time

from ..core.files import write_atomically
from . import hub_files, store, unfinished
from . import manifest as manifests
from .hub import HubError
from .progress import Progress

OURS = os.path.join(".cache", "plumbline")
PROGRESS = os.path.join(OURS, "progress")


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
    """What a download does wherever the model is from. ``args`` are the module's options; reasons and figures go to ``measurement``.

    A subclass knows the source: ``run``, ``_is``, ``_origin`` and ``_until_whole``.
    """

    def __init__(self, args, measurement, check_mode=False):
        self.args, self.measurement, self.check_mode = args, measurement, check_mode
        self.path, self.threads = args["path"], manifests.threads_for(args["threads"])
        self.deadline = time.monotonic() + args["timeout_s"]
        self.commit, self.command, self.changed, self.complete = "", None, False, False

    def _start(self, files, old):
        """Bring ``files`` with nobody else at it; ``old`` is the manifest that is there."""
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
        # What a copy between nodes left half-way is ours too: this node was none of the downloading ones then.
        copied = old is None and not origin and set(wrong) <= unfinished.ours(self.path, None)
        if copied or (ours and not damaged):
            return True
        for name, why in sorted(wrong.items()):
            seen = "%s: %s" % (os.path.join(self.path, name), why)
            if damaged:
                self.measurement.add("model.corrupt", "degraded", seen, "unchanged since the download", "downloaded again; check the disk")
            else:
                expected, remedy = (
                    "files of %s, or none" % self.measurement.context["source"],
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

    def _foretell(self, files, wanted):
        size = sum(files[name].size for name in wanted)
        seen = "%d files, %d bytes, would be downloaded at commit %s" % (len(wanted), size, self.commit[:12])
        self.measurement.add("check_mode", "skipped", seen)
        self.changed = bool(wanted)

    def _room(self, files, wanted):
        needed = sum(files[name].size for name in wanted) - hub_files.on_disk(self.path, []) - store.left_bytes(self.path)
        free = manifests.free_bytes(self.path)
        if needed > free:
            seen = "%d bytes free at %s, %d bytes needed for %d files" % (free, self.path, needed, len(wanted))
            raise HubError("model.disk", seen, "at least %d bytes" % needed, "free space, or model_sync_path on a larger disk")

    def _make_ours(self, wrong, files, old):
        """From here to the end the model is not complete. Files of an earlier commit that this one does not have go, too."""
        stale = set(wrong)
        if old and self._is(old.get("origin") or {}):
            stale |= set(old["files"]) - set(files)
        if old is None:
            stale |= unfinished.ours(self.path, None) - set(files)
        unfinished.begin(self.path, {"files": files}, old)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.path, manifests.NAME))
        with contextlib.suppress(store.Busy), store.locked(self.path, 0):
            store.drop_parts(self.path)
        write_atomically(os.path.join(self.path, OURS, "origin"), json.dumps(self._origin()) + "\n")
        for name in stale:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.path, name))

    def _transfer(self, files, wanted):
        """Bring the files; return ``{name: SHA-256}`` of those that are whole. Figures are kept also when it fails."""
        measured, began = self.measurement.measured, time.monotonic()
        before = hub_files.on_disk(self.path, wanted)
        progress = Progress(os.path.join(self.path, PROGRESS), sum(files[name].size for name in wanted), before)
        self.changed, resumed = True, {}
        try:
            whole = self._until_whole(files, wanted, progress, resumed)
        finally:
            measured["transfer_s"] = round(time.monotonic() - began, 3)
            measured["transferred_bytes"] = max(0, hub_files.on_disk(self.path, wanted) - before)
            measured["resumed_bytes"] = sum(resumed.values())
        return whole

    def _prove(self, files):
        """Return ``{name: SHA-256}`` of the files that are as the hub says; name the others and remove them: the next run brings them."""
        began = time.monotonic()
        whole, wrong, missing = hub_files.look(self.path, files, self.threads)
        measured = self.measurement.measured
        measured["verify_s"] = round(measured["verify_s"] + time.monotonic() - began, 3)
        wrong.update({name: "missing after the download" for name in missing})
        for name, why in sorted(wrong.items()):
            seen, remedy = "%s: %s" % (os.path.join(self.path, name), why), "removed; run it again, and if it stays check disk and memory"
            self.measurement.add("model.verify", "failed", seen, "the source's own checksum", remedy)
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.path, name))
        measured["corrupt_files"] += len(wrong)
        return whole

    def _complete(self, files, whole, old, brought):
        fresh = {"schema": manifests.SCHEMA, "origin": self._origin()}
        fresh["files"] = {name: {"size": files[name].size, "sha256": whole[name]} for name in sorted(files)}
        manifests.save(self.path, manifests.check(fresh))
        with contextlib.suppress(store.Busy), store.locked(self.path, 0):
            store.settle(self.path)
        hub_files.best_parts(self.path, files, [])  # removes what is left of other attempts
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.path, PROGRESS))
        self.changed = self.changed or fresh != old
        self.complete = True
        self.measurement.context["manifest_sha256"] = manifests.digest(fresh)
        seen = "commit %s: %d files, %d of them downloaded now" % (self.commit[:12], len(files), brought)
        self.measurement.add("hub.download", "healthy", seen, "every file as the source has it")


def carry_out(download):
    """Run a :class:`Download`; what it raises becomes a reason."""
    measurement = download.measurement
    os.umask(0o022)  # the user whom the other nodes log in as reads what is here, whatever root's own umask is
    try:
        download.run()
    except HubError as error:
        measurement.add(error.check, "failed", error.seen, error.threshold, error.remedy)
    except OSError as error:
        expected, later = "a directory that can be read and written", "; the next run goes on from here"
        if is_full(error):
            measurement.add("model.disk", "failed", str(error), expected, "free space, or another model_sync_path" + later)
        else:
            measurement.add("model.files", "failed", str(error), expected, "check the disk and its mounts" + later)
    measurement.command = shlex.join(download.command) if download.command else None
