"""The folder of one run: made by one run alone, before anything is touched, and what could not be kept in it.

Standard library only: also a controller that lacks what the report needs keeps its facts.
"""

from __future__ import annotations

import errno
import json
import os
import re
from datetime import datetime, timezone

from ..core.files import write_atomically
from .place import COLLECTION, playbook

# Names what could not be kept to those who decide or report later in the run, one sentence a line. An environment has limited room.
NOT_KEPT = "PLUMBLINE_NOT_KEPT"
_NAMED = 20
# The playbook that renders a run again, as seen from the project's root.
REPORT = playbook("report") if COLLECTION else "playbooks/report.yml"
# As much as a few facts need: a full disk often still takes an empty file.
_PROBE_BYTES = 64 * 1024

REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "the user's quota is used up: make room there",
    errno.EACCES: "let this user write there",
    errno.EPERM: "let this user write there",
    errno.EROFS: "that file system is mounted read-only",
    errno.ENOTDIR: "a part of that path is a file: move it away",
    errno.EEXIST: "that path is a file: move it away",
    errno.ENAMETOOLONG: "the name is too long",
}


class CannotKeep(Exception):
    """The folder cannot be made or written to; the text is for a person: path, error, what to do."""


def in_words(error, path):
    """Return what went wrong with ``path`` and what to do, as one sentence without an end."""
    if not isinstance(error, OSError):
        return "%s: %s" % (path, error)
    remedy = REMEDIES.get(error.errno)
    code = errno.errorcode.get(error.errno, "")
    return "%s: %s%s%s" % (path, error.strerror or error, " (%s)" % code if code else "", "; " + remedy if remedy else "")


def claim(root, wanted=None):
    """Make the folder of a run under ``root`` and return its path; nobody else has or gets the same one.

    ``wanted`` is a run id that somebody chose: it must be free. Otherwise it is the time, with a number where that second is taken.
    Raises :class:`CannotKeep`.
    """
    base = wanted or datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    count, folder = 1, os.path.join(root, base)
    try:
        os.makedirs(root, exist_ok=True)
        while not _made(folder):
            if wanted:
                if os.path.isdir(folder) and not os.listdir(folder):
                    break  # made for this run, for example to put the output there
                raise CannotKeep(
                    "%s is there already, with the results of another run: choose another PLUMBLINE_RUN_ID or none. To render that run"
                    " again: ansible-playbook %s -e report_run_dir=%s" % (folder, REPORT, folder)
                )
            count += 1
            folder = os.path.join(root, "%s-%d" % (base, count))
        _try_to_write(folder)
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) and error.filename else folder
        leave_if_empty(folder)
        raise CannotKeep(
            "%s; or choose another folder with PLUMBLINE_RESULTS_DIR" % in_words(error, where if os.path.isabs(where) else folder)
        ) from error
    return folder


def _made(folder):
    """Make a folder and tell whether it was this call that made it."""
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    return True


def _try_to_write(folder):
    path = os.path.join(folder, ".try")
    write_atomically(path, b"\0" * _PROBE_BYTES, durable=True)
    os.unlink(path)


def leave_if_empty(folder):
    """Remove the folder of a run that kept nothing."""
    try:
        os.rmdir(folder)
    except OSError:
        pass  # something is in it, or it is gone


def slug(run_id):
    """Return a run id as a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run_id).lstrip(".") or "run"


class Keeper:
    """Writes JSON files into one run's folder, and remembers what it has kept and what it could not keep (``lost``)."""

    def __init__(self, folder):
        """``folder`` None keeps nothing and loses nothing."""
        self.folder = folder
        self.kept = set()
        self.lost = {}  # what, as a person calls it -> why not

    def write(self, path, data, what=None):
        """Write ``data`` to ``path`` in the folder; return whether it is there. ``what`` names it where it could not be kept."""
        if self.folder is None:
            return False
        full = os.path.join(self.folder, path)
        try:
            # The folder is made once, at the start: one that somebody removed meanwhile must not come back as if it were whole.
            if not os.path.isdir(self.folder):
                raise FileNotFoundError(errno.ENOENT, "the run's folder was removed", self.folder)
            write_atomically(full, json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n")
        except (OSError, ValueError, TypeError) as error:
            self._lose(what or path, in_words(error, full))
            return False
        self.kept.add(path)
        if self.lost.pop(what or path, None):
            self._tell()
        return True

    def look(self):
        """Count as lost what was kept and is there no more."""
        if self.folder is None:
            return
        for path in sorted(self.kept):
            if not os.path.exists(os.path.join(self.folder, path)):
                self.kept.discard(path)
                self._lose(path, "%s was kept and is gone: somebody removed it" % os.path.join(self.folder, path))

    def sentences(self):
        """Return a sentence for each thing that could not be kept."""
        return ["%s could not be kept: %s" % pair for pair in sorted(self.lost.items())]

    def _lose(self, what, why):
        self.lost[what] = why
        self._tell()

    def _tell(self):
        found = self.sentences()
        if len(found) > _NAMED:
            found = [*found[:_NAMED], "and %d more could not be kept" % (len(found) - _NAMED)]
        os.environ[NOT_KEPT] = "\n".join(" ".join(text.split())[:400] for text in found)


def not_kept():
    """Return a sentence for each thing that the run going on could not keep, as the callback names them."""
    return [line for line in os.environ.get(NOT_KEPT, "").splitlines() if line]
