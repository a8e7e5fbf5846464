"""Starts the client: each call on its own, or with ``preload`` each forked from one process that has the client's imports behind it.

Either way a call is the real program in a process of its own, with a log of its own. Where nothing can be forked (the program is no
Python script, an import left a thread) the calls are made on their own.
"""

from __future__ import annotations

import inspect
import json
import os
import signal

from ..core.files import write_atomically
from ..serving.runtime import Runtime
from . import preloaded


class Calls:
    """Starts the client's calls for one benchmark; :meth:`end` is called at the end. ``options`` are ``options.Options``."""

    def __init__(self, options):
        self._options = options
        self._runtime = Runtime(options.container)
        self._parent = None
        self._ready = False
        self.preloaded = options.preload

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.end()

    def start(self, argv, log_path):
        """Start one call with its output in ``log_path``; return what can be polled for the exit status, and ended."""
        with open(log_path, "wb"):
            pass
        return _Forked(self, argv, log_path) if self.preloaded else self.alone(argv, log_path)

    def alone(self, argv, log_path):
        """Start a call on its own."""
        with open(log_path, "ab") as log:
            return self._runtime.client(argv, self._options.env, log)

    def ask(self, argv, log_path):
        """Ask for a call to be forked."""
        if self._parent is None:
            script = os.path.join(self._options.work_dir, "bench-preloaded.py")
            write_atomically(script, inspect.getsource(preloaded))
            with open(os.path.splitext(script)[0] + ".log", "wb") as log:
                self._parent = self._runtime.under_its_python(script, self._options.program, self._options.env, log)
        self._parent.tell(json.dumps({"argv": argv, "log": log_path}))

    def answer(self):
        """Return the exit status of the call asked for, None while there is none. :attr:`preloaded` turns false where nothing is forked."""
        ended = self._parent.poll()  # before what it said is read
        said = self._parent.said()
        if said is not None and not self._ready:
            self._ready, said = True, self._parent.said()
        if said is not None:
            return int(json.loads(said)["status"])
        if ended is None:
            return None
        self.preloaded = self._ready
        self.end()
        return -signal.SIGKILL

    def end(self):
        """End the process that calls are forked from, and a call that still runs; another one is made when it is needed."""
        if self._parent is not None:
            self._parent.end()
        self._parent, self._ready = None, False


class _Forked:
    """One call of a process that was forked, or, where nothing is forked, of one on its own."""

    def __init__(self, calls, argv, log_path):
        self._calls, self._given = calls, (argv, log_path)
        self._alone, self._status = None, None
        calls.ask(argv, log_path)

    def poll(self):
        """Return the exit status, None while it runs."""
        if self._alone is None and self._status is None:
            status = self._calls.answer()
            if status is not None and not self._calls.preloaded:
                self._alone = self._calls.alone(*self._given)
            else:
                self._status = status
        return self._status if self._alone is None else self._alone.poll()

    def end(self):
        """End what still runs, and return the exit status."""
        if self._alone is not None:
            return self._alone.end()
        if self._status is None:
            self._calls.end()
            self._status = -signal.SIGKILL
        return self._status
