"""Starts one long-running program of a layout on this node, a server or a part of Ray, and says why it ended.

What is the same for all of them: the node's own environment, a log of its own of which one older copy is kept, the mark of the serving
run, the first moments in which wrong options end a program, and its log's word on the cause.
"""

from __future__ import annotations

import os
import subprocess
import time

from ..core import processes
from ..core.files import read_text
from ..machine import gpu_choice
from . import cause as failure
from .command import key_by_environment, node_environment, printable
from .runtime import Runtime, RuntimeProblem

# Wrong options and missing files end a program in its first moments.
FIRST_MOMENTS_S = 1.0


class LaunchError(Exception):
    """The program was not started; the text says why, in the words of the system or of the container's engine."""


class Program:
    """One program on this node or in a container of it: ``argv`` and ``env`` as they are run, ``log`` its path, ``pid`` once it runs.

    ``pid`` is None before :meth:`start`, and after it where the program ended before it was seen.
    """

    def __init__(self, argv, env, address, log, container="", chosen=()):
        """Complete ``env`` by what this node alone knows; raise ``command.AddressUnknown`` where it has not the ``address``.

        ``chosen`` are the GPUs that it may use (``gpu_choice.look_only_at``). A container was made with them, and counts them anew.
        """
        self.argv, env = key_by_environment(argv, env)
        gpus = {} if container else gpu_choice.environment(chosen)
        self.env = node_environment(dict(gpus, **env), address)
        self.log = log
        self.pid = None
        self._runtime = Runtime(container)

    @property
    def command(self):
        """The command line as a person can paste it, without secrets."""
        return printable(self.argv, self.env)

    def start(self, serve_id):
        """Start it detached, marked with ``serve_id``; the log of an earlier start becomes ``.previous``. Raises :class:`LaunchError`."""
        try:
            if os.path.exists(self.log):
                os.replace(self.log, self.log + ".previous")
            self.pid = self._runtime.start(self.argv, serve_id, self.env, self.log)
        except (OSError, RuntimeProblem, subprocess.TimeoutExpired) as error:
            raise LaunchError(str(error)) from error

    def is_running(self):
        """Tell whether it was seen and has not ended."""
        return self.pid is not None and processes.is_running(self.pid)

    def moments(self, timeout_s, every_s=0.5):
        """Yield the seconds since now, every ``every_s`` of them, as long as the program runs and ``timeout_s`` is not over.

        After the loop :meth:`is_running` tells which of the two it was.
        """
        started = time.monotonic()
        while time.monotonic() - started < timeout_s and self.is_running():
            yield time.monotonic() - started
            time.sleep(every_s)

    def causes(self, beside=()):
        """Return the ranked causes that its log, and those at the paths ``beside`` it, know of its failure (``serving.cause``)."""
        logs = [(os.path.basename(path), read_text(path) or "") for path in (self.log, *beside)]
        return failure.causes_of_logs(logs)

    def cause(self):
        """Return the line of its log that says why it failed, ``""`` where none does."""
        best = self.causes()
        return best[0].text if best else ""

    def last_words(self, lines=3):
        """Return the last lines of its log as one line, or why it cannot be read."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as stream:
                return " | ".join(line.strip() for line in stream.read().splitlines()[-lines:] if line.strip())
        except OSError as error:
            return str(error)
