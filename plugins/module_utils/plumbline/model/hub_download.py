"""A download from a Hugging Face hub: a commit, its files, and the hub's own client to bring them."""

from __future__ import annotations

import os
import shutil
import time

from . import hub_client, hub_files
from .download import OURS, Download
from .hub import COMMIT, Hub, HubError

ATTEMPTS = 5  # in a row that bring nothing


class HubDownload(Download):
    """What :mod:`model_hub` does."""

    def __init__(self, args, measurement, check_mode=False):
        super().__init__(args, measurement, check_mode)
        self.hub = Hub(args["endpoint"], args["repository"], args["token"])

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
        self._start(files, old)

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

    def _origin(self):
        """Return what the manifest says of where the model is from; patterns only where there are any."""
        patterns = {name: self.args[name] for name in ("include", "exclude") if self.args[name]}
        return dict(patterns, endpoint=self.hub.endpoint, repository=self.hub.repository, commit=self.commit)

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
