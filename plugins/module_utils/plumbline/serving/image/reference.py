"""What an image is called: ``registry/path:tag@digest``, or an id.

The grammar is that of the reference library of the Distribution project: what stands before the first slash is a registry when it has
a dot or a colon or is ``localhost``; else the image is Docker Hub's, whose own images are in ``library/``.
"""

from __future__ import annotations

import re

HUB = "docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Reference:
    """``name`` (with its registry, without tag and digest), ``tag`` and ``digest``; or an ``id`` where that is what was given."""

    def __init__(self, text):
        """Read the text. Raises ValueError, with what is wrong, for one that no engine takes."""
        self.text, self.id, self.name, self.tag, self.digest = text, "", "", "", ""
        if text.startswith("sha256:"):
            self.id = _digest(text)
            return
        name, at, digest = text.partition("@")
        self.digest = _digest(digest) if at else ""
        head, slash, last = name.rpartition("/")
        last, _colon, self.tag = last.partition(":")
        self.name = head + slash + last
        path = self.name[len(self.registry) :] if self.name.startswith(self.registry + "/") else self.name
        if not last or re.search(r"[^a-z0-9._/-]", path) or re.search(r"\s", text):
            raise ValueError("%r is no name of an image, expected registry/name@sha256:<64 digits>" % text)

    @property
    def registry(self):
        """Return the registry with its port, :data:`HUB` without one."""
        first, slash, _rest = self.name.partition("/")
        return first if slash and ("." in first or ":" in first or first == "localhost") else HUB

    @property
    def pinned(self):
        """Tell whether it is one image for ever."""
        return bool(self.digest or self.id)

    @property
    def wanted(self):
        """Return what an engine is asked for: a digest wins over a tag beside it."""
        return self.id or (self.name + "@" + self.digest if self.digest else "%s:%s" % (self.name, self.tag or "latest"))


def _digest(text):
    if not _DIGEST.fullmatch(text):
        raise ValueError("%r is no digest, expected sha256: and 64 digits of 0-9 and a-f" % text)
    return text
