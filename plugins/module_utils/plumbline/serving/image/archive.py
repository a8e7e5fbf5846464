"""An image as one file, for nodes that get it from another node: written by one engine, taken by another, and proved by its id.

An image's id is the digest of its configuration, and that names the digest of each layer as it is unpacked: an engine that loads another
layer refuses it. So the same id is the same image, whoever carried it.
"""

from __future__ import annotations

import os
import time

from ...core import fact
from ...model.progress import Note, Progress
from .engine import EngineError, NoEngine

CHECK = "serve.image"


class Archive:
    """``reasons`` are those of a fact, ``image`` is what the engine says of the image in the end, ``moved`` bytes and seconds."""

    def __init__(self, args, engine):
        """``args`` are the options of the module ``container_archive``, ``engine`` an :class:`~.engine.Engine`."""
        self.args, self.engine = args, engine
        self.reasons, self.image, self.moved, self.changed = [], None, {}, False

    def run(self, check_mode=False):
        """Do it. What is wrong becomes a reason; nothing is raised."""
        act = self._load if self.args["state"] == "loaded" else self._export
        try:
            act(check_mode)
        except TimeoutError as error:
            self._add("failed", "%s was given up: %s" % (self._what, error), "done within %d s" % self.args["timeout_s"], _SLOW)
        except NoEngine as error:
            self.reasons.append(fact.reason("serve.engine", "failed", "no Docker engine answers at %s" % error, "an engine", _LOOK))
        except EngineError as error:
            self._refused(str(error))
        except OSError as error:
            self._add(
                "failed", "%s: %s" % (self._what, error), "a file that can be read and written", "check the disk of vllm_serve_image_dir"
            )
        finally:
            Note(self.args["progress"]).end()

    @property
    def _what(self):
        return "%s %s" % ("taking" if self.args["state"] == "loaded" else "writing", self.args["path"])

    def _export(self, check_mode):
        self.image = self.engine.image(self.args["image"])
        if self.image is None:
            self._add("failed", "the engine has no %s" % self.args["image"], "the image", "see what the node says of its pull")
            return
        if os.path.exists(self.args["path"]):
            return
        self.changed = True
        if check_mode:
            return
        began, part = time.monotonic(), self.args["path"] + ".part"
        before = os.umask(0o022)  # the user whom the others log in as reads what is here
        try:
            os.makedirs(os.path.dirname(part), exist_ok=True)
            with open(part, "wb") as target:
                # What an engine calls its size is that on its disk: about as much.
                self.engine.export(self.args["image"], target, self._told(self.image.get("Size") or 0), *self._until(began))
            os.replace(part, self.args["path"])
        finally:
            os.umask(before)
            if os.path.exists(part):
                os.unlink(part)
        self._done(began)

    def _load(self, check_mode):
        self.image = self.engine.image(self.args["image"])
        if self.image is not None:
            return
        self.changed = True
        if check_mode:
            return
        began, size = time.monotonic(), os.path.getsize(self.args["path"])
        with open(self.args["path"], "rb") as source:
            self.engine.load(source, size, self._told(size), *self._until(began))
        self._done(began)
        self.image = self.engine.image(self.args["image"])
        if self.image is None:
            remedy = "do the nodes' engines keep images in the same way (`docker info`)? else vllm_serve_image_source: registry"
            self._add("failed", "%s was taken, and the engine has no %s" % (self.args["path"], self.args["image"]), "this id", remedy)
            return
        seen = "%s from another node: %.1f GB taken in %.1f s" % (self.args["image"], self.moved["bytes"] / 1e9, self.moved["seconds"])
        self._add("healthy", seen, self.args["image"])

    def _refused(self, words):
        if "no space left" in words:
            self.reasons.append(
                fact.reason("serve.disk", "failed", "the disk of the engine is full: " + words, "room for the image", _ROOM)
            )
            return
        self._add(
            "failed", "%s: the engine refused: %s" % (self._what, words), "an image", "remove %s and run it again" % self.args["path"]
        )

    def _until(self, began):
        return began + self.args["timeout_s"], min(600, self.args["timeout_s"])

    def _told(self, size):
        return Progress(self.args["progress"], size, 0).tell

    def _done(self, began):
        self.moved = {"bytes": os.path.getsize(self.args["path"]), "seconds": round(time.monotonic() - began, 3)}

    def _add(self, *reason):
        self.reasons.append(fact.reason(CHECK, *reason))


_SLOW = "look at the disk; or a larger vllm_serve_image_timeout_s"
_LOOK = "`systemctl start docker`; its own log: `journalctl -u docker`"
_ROOM = "free space where the engine keeps images (`docker system df`, `docker image prune`)"
