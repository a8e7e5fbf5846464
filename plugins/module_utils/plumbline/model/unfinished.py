"""The mark of a model's folder that is neither the old model nor the new one: files were replaced, and not all of them yet.

It is written before the manifest goes and removed when there is a manifest again. A folder without both is a person's own; one with
the mark alone was left by a copy or download that did not end, and is nobody's model.
"""

from __future__ import annotations

import contextlib
import json
import os

from ..core.files import write_atomically
from . import chunks
from . import manifest as manifests
from .chunk_server import WORK, is_locked, read_file

NAME = ".plumbline-unfinished"


def begin(folder, manifest, old):
    """Write the mark before the files of ``manifest`` replace those of ``old``, None where there was no completed copy.

    It keeps the names of the files that are ours: of the earlier model, and those that were not there before.
    """
    names = ours(folder, old) | {name for name in manifest["files"] if not os.path.lexists(os.path.join(folder, name))}
    write_atomically(os.path.join(folder, NAME), json.dumps({"files": sorted(names)}) + "\n", durable=True)
    manifests.to_disk(folder)


def ours(folder, old):
    """Return the names of the files of an earlier model that were copied here: by its manifest ``old``, or by the mark where it is gone.

    Where the node was a head, which made that manifest itself of what a person had put there, they are that person's.
    """
    if old is None:
        return _listed(folder)
    made_here = not old.get("origin") and chunks.load(folder, old, manifests.digest(old)) is not None
    return set() if made_here else set(old["files"])


def _listed(folder):
    """Return the names in the mark; none where there is no mark that can be read."""
    try:
        return {name for name in json.loads(read_file(os.path.join(folder, NAME)) or b"{}")["files"] if isinstance(name, str)}
    except (ValueError, LookupError, TypeError):
        return set()


def is_left(folder):
    """Tell whether a copy or download that did not end has left its mark, or parts of files."""
    if os.path.lexists(os.path.join(folder, NAME)):
        return True
    try:
        return bool(os.listdir(os.path.join(folder, WORK)))
    except (FileNotFoundError, NotADirectoryError):
        return False


def why(folder):
    """Return what says that the files of a folder without a manifest are no whole model, as a sentence; None where nothing does."""
    if is_locked(folder):
        return "another run brings %s up to date now" % folder
    if is_left(folder):
        return "a copy or download to %s did not end: some files are of the model before it, some of the one that came" % folder
    return None


def end(folder):
    """Remove the mark."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, NAME))
