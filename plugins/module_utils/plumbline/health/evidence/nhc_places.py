"""Where Azure NHC lies on a node, and which version of it: the study's place, the stock HPC image's, or the one that is given.

The study starts ``/opt/azurehpc/run-health-checks.sh``. Azure's HPC images have the whole of NHC in ``/opt/azurehpc/test``
(Azure/azhpc-images, ``components/install_health_checks.sh``), and its version in ``component_versions.txt`` alone since they unpack a
release; a clone tells it by its git files.
"""

from __future__ import annotations

import os
import re

from ...core.files import read_text

RUNNER = "run-health-checks.sh"
STOCK_FOLDER = "/opt/azurehpc/test/azurehpc-health-checks"
PLACES = ("/opt/azurehpc/" + RUNNER, STOCK_FOLDER + "/" + RUNNER)
COMPONENT = "AZ_HEALTH_CHECKS"  # its key in component_versions.txt
COMMIT = re.compile(r"[0-9a-f]{40}")


def below(root, path):
    """Return an absolute path as it lies below ``root``."""
    return path if root == "/" else os.path.join(root, path.lstrip("/"))


def find(given=None, root="/"):
    """Return ``{"script": path or None, "looked": words}``: the runner at ``given``, or else at the first of the known places.

    ``looked`` names each place that was looked at, and what is wrong with what is there.
    """
    looked = []
    for place in [given] if given else [below(root, each) for each in PLACES]:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return {"script": place, "looked": place}
        looked.append(place + (" (there, but not executable)" if os.path.isfile(place) else ""))
    return {"script": None, "looked": " or ".join(looked)}


def confs(script, sku, given=None):
    """Return the paths at which the conf may lie, in order: the one given, or ``conf/<size>.conf`` beside the real script.

    At a known place the script may be one that only calls the other place's: its conf lies there.
    """
    if given:
        return [given]
    name = (sku or "").lower().replace("standard_", "", 1) + ".conf"
    folders = [os.path.dirname(os.path.realpath(script))]
    for place in PLACES:
        if script.endswith(place):
            folders += [os.path.dirname(script[: -len(place)] + other) for other in PLACES]
    return list(dict.fromkeys(os.path.join(folder, "conf", name) for folder in folders))


def version(script, components, root="/"):
    """Return ``(version, where it stands)`` of the NHC that ``script`` belongs to; ``(None, None)`` where nothing tells.

    ``components`` is what ``component_versions.txt`` lists, None without it; it speaks of the image's own NHC only.
    """
    folder = os.path.dirname(os.path.realpath(script))
    head = commit(folder)
    if head:
        return tag(folder, head) or head[:12], "git"
    text = (read_text(os.path.join(folder, "version.txt")) or "").split("\n")[0].strip()
    if text:
        return text[:80], "version.txt"
    if folder == os.path.realpath(below(root, STOCK_FOLDER)) and (components or {}).get(COMPONENT):
        return components[COMPONENT], "component_versions.txt"
    return None, None


def commit(folder):
    """Return the commit that a clone in ``folder`` is at, None where it is no clone or its files do not say."""
    head = read_text(os.path.join(folder, ".git/HEAD")) or ""
    name = head[5:].strip() if head.startswith("ref: ") else None
    if name:
        packed = [words[0] for words in _packed(folder) if words[1:] == [name]]
        head = read_text(os.path.join(folder, ".git", name)) or (packed[0] if packed else "")
    return head if COMMIT.fullmatch(head) else None


def tag(folder, head):
    """Return a tag that names the commit ``head``, None without one (of an annotated tag only the packed list tells its commit)."""
    last = None
    for words in _packed(folder):
        if len(words) == 2 and words[1].startswith("refs/tags/"):
            last = words[1][len("refs/tags/") :]
            if words[0] == head:
                return last
        elif words == ["^" + head]:
            return last
    tags = os.path.join(folder, ".git/refs/tags")
    names = sorted(os.listdir(tags)) if os.path.isdir(tags) else []
    return next((name for name in names if read_text(os.path.join(tags, name)) == head), None)


def _packed(folder):
    """Return the lines of git's packed references as words; ``^<commit>`` below an annotated tag is the commit that it names."""
    text = read_text(os.path.join(folder, ".git/packed-refs")) or ""
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]
