"""One node's way to its image: an engine that answers, GPUs that it can give, the image there or pulled, and proved."""

from __future__ import annotations

import shutil
import time

from ...core import fact
from ...model.progress import Note, line
from . import credentials, errors, toolkit
from .engine import EngineError, NoEngine
from .layers import Layers
from .reference import Reference

IMAGE, ENGINE = "serve.image", "serve.engine"
_START = "install Docker, or `systemctl start docker`; its own log: `journalctl -u docker`"


class Bring:
    """Carries it out. ``reasons`` are those of a fact, ``image`` is what the engine says of it in the end, ``pulled`` figures of a pull."""

    def __init__(self, args, engine):
        """``args`` are the options of the module ``container_image``, ``engine`` an :class:`~.engine.Engine`."""
        self.args, self.engine = args, engine
        self.reasons, self.image, self.pulled, self.changed = [], None, {}, False
        self._root = "/var/lib/docker"

    def run(self, check_mode=False):
        """Do it all. What is wrong becomes a reason; nothing is raised."""
        try:
            self._run(check_mode)
        except NoEngine as error:
            self._add(ENGINE, "failed", "no Docker engine answers at %s" % error, "a Docker engine", _START)
        except EngineError as error:
            self._add(ENGINE, "failed", "the Docker engine answered %d: %s" % (error.status, error), "an answer", _START)

    def _run(self, check_mode):
        try:
            reference = Reference(self.args["image"])
        except ValueError as error:
            self._add(IMAGE, "failed", str(error), "registry/name@sha256:<64 digits>", "mend vllm_serve_image")
            return
        info = self.engine.info()
        self._root = info.get("DockerRootDir") or self._root
        if self.args["gpus"]:
            self.reasons.append(toolkit.judge(info, toolkit.look(self.engine.path)))
        self.image = self.engine.image(reference.wanted)
        if check_mode and self.image is None and self.args["handed_on_by"]:
            self.changed = True
            self._add("check_mode", "skipped", "%s would be handed on by %s" % (reference.wanted, self.args["handed_on_by"]))
            return
        if self._to_pull(reference):
            if check_mode:
                self.changed = True
                self._add("check_mode", "skipped", "%s would be pulled from %s" % (reference.wanted, reference.registry))
                return
            if not self._pull(reference):
                return
        self._prove(reference)

    def _to_pull(self, reference):
        """No registry knows an image by its id."""
        pull = self.args["pull"]
        return not reference.id and (pull == "always" or (pull == "missing" and self.image is None))

    def _pull(self, reference):
        """Pull it; return whether that went well."""
        began, before, layers = time.monotonic(), (self.image or {}).get("Id"), Layers()
        note = Note(self.args["progress"])

        def heard(message):
            layers.hear(message)
            note.write(lambda took_s: _line(layers, took_s))

        deadline = began + self.args["timeout_s"]
        auth = credentials.header(reference.registry, self.args["config"])
        try:
            self.engine.pull(reference, auth, heard, deadline, min(self.args["idle_s"], self.args["timeout_s"]))
        except EngineError as error:
            check, seen, threshold, remedy = errors.explain(str(error), reference, self._root)
            if check == "serve.disk":
                seen += "; %s are free at %s" % (_size(_free(self._root)), self._root)
            self._add(check, "failed", seen + _so_far(layers), threshold, remedy)
            return False
        except TimeoutError as error:
            took = time.monotonic() - began
            seen = "the pull of %s was given up after %.0f s: %s%s" % (reference.wanted, took, error, _so_far(layers))
            remedy = "look at the registry and the link; a slow one: vllm_serve_image_timeout_s. What has come whole is kept by the engine"
            self._add("serve.registry", "failed", seen, "done within %d s" % self.args["timeout_s"], remedy)
            return False
        finally:
            note.end()
        took = time.monotonic() - began
        self.pulled = {"bytes": layers.done_bytes, "seconds": round(took, 3), "retries": layers.retries}
        self.image = self.engine.image(reference.wanted)
        self.changed = (self.image or {}).get("Id") != before
        return True

    def _prove(self, reference):
        """Say what the engine has, and whether it is what was asked for."""
        if self.image is None:
            seen = "the engine has no %s" % reference.wanted
            if self.args["pull"] == "never" or reference.id:
                seen += ", and nobody pulls it (%s)" % (
                    "an id is on the node or nowhere" if reference.id else "vllm_serve_image_pull: never"
                )
            remedy = "vllm_serve_image by digest with vllm_serve_image_pull: missing; or "
            # What is loaded from a file has no registry's digest, and is not found by one.
            by_id = "where it was loaded from a file, name it by its id (`docker image ls --no-trunc`), vllm_serve_image: sha256:..."
            self._add(IMAGE, "failed", seen, "the image", remedy + (by_id if reference.digest else "`docker load` it"))
            return
        digests = [item.rpartition("@")[2] for item in self.image.get("RepoDigests") or []]
        # Engines that keep images in containerd call an image by its digest.
        if reference.digest and reference.digest not in [*digests, self.image.get("Id")]:
            seen = "%s is an image with the digest(s) %s" % (reference.wanted, ", ".join(digests) or "none")
            self.image = None  # what was refused is nobody's image, and is not handed on
            self._add(IMAGE, "failed", seen, reference.digest, "`docker image rm` it on this node, and run it again")
            return
        if reference.id and self.image.get("Id") != reference.id:
            self._add(IMAGE, "failed", "the engine answered with %s" % self.image.get("Id"), reference.id, "`docker image inspect` it")
            self.image = None
            return
        seen = "%s is %s%s" % (reference.wanted, self.image.get("Id"), self._came())
        if not reference.pinned:
            seen += "; the name is a tag and not pinned: what it means tomorrow is the registry's affair"
        self._add(IMAGE, "healthy", seen)

    def _came(self):
        if not self.pulled:
            return ", there already"
        size, took = self.pulled["bytes"], self.pulled["seconds"]
        if not size:
            return ", pulled now; all of its layers were there"
        again = ", %d retries" % self.pulled["retries"] if self.pulled["retries"] else ""
        return ", pulled now: %s in %.1f s with unpacking%s" % (_size(size), took, again)

    def _add(self, *reason):
        self.reasons.append(fact.reason(*reason))


def _line(layers, took_s):
    """Return the line of progress: bytes, rate and time left as soon as the size of all layers is known."""
    done, known = layers.done_bytes, layers.known_bytes
    if not known:
        return "%.0f s, %s" % (took_s, layers.line() if layers else "the registry has been asked")
    if layers.sized:
        return "%s; %s" % (line(done, known, took_s), layers.line())
    return "%s so far, %.1f MB/s; %s" % (_size(done), done / 1e6 / took_s if took_s > 0 else 0, layers.line())


def _so_far(layers):
    return "; %s had come, %s" % (_size(layers.done_bytes), layers.line()) if layers.done_bytes else ""


def _size(count):
    return "%.1f GB" % (count / 1e9) if count >= 1e9 else "%.1f MB" % (count / 1e6)


def _free(path):
    """Return the bytes free where the engine keeps its images."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0
