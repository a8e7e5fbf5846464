"""One call of the client: run it, watch server and nodes meanwhile, read what it measured."""

from __future__ import annotations

import json
import os
import time

from ..core import processes
from ..core.scrub import scrub_text
from . import client, result


class RunFailed(Exception):
    """A run measured nothing; the text says why."""


def one_run(options, others, calls, step):
    """Run one ``client.Step``; return its numbers (``result.run``) and its requests' values (``result.requests``).

    ``others`` is the ``peers.Watch`` over the layout's other nodes, ``calls`` starts the client (``calls.Calls``). Raises
    :class:`RunFailed`; OSError where no log can be written.
    """
    result_file = options.result_file(step.name)
    log_path = os.path.splitext(result_file)[0] + ".log"
    if os.path.exists(result_file):
        os.unlink(result_file)  # an old result must never stand in for a run that wrote none
    status = _run_client(options, others, calls.start(client.argv(options, step, result_file), log_path))
    try:
        with open(result_file, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError, RecursionError):
        raise RunFailed("no readable result (exit status %d): %s" % (status, _last_line(log_path))) from None
    problems = result.problems(found, step.prompts, options.output_len, bool(options.slo))
    if problems:
        error = result.first_error(found)
        raise RunFailed("; ".join(problems) + (": " + error if error else ""))
    return result.run(found, options.output_len), result.requests(found)


def _run_client(options, others, running):
    """Wait for the client's end; return its exit status. Raise when the server or a node is lost, or the time is over."""
    started = time.monotonic()
    try:
        while running.poll() is None:
            if not processes.is_running(options.server_pid):
                raise RunFailed("the server (pid %d) ended during the run" % options.server_pid)
            lost = others.lost()
            if lost:
                raise RunFailed(lost)
            if time.monotonic() - started > options.timeout_s:
                raise RunFailed("the run did not end within %d s" % options.timeout_s)
            time.sleep(0.1)
    finally:
        status = running.end()
    return status


def _last_line(path):
    """Return the last line that says something in a log."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = [line.strip() for line in stream if line.strip()]
    except OSError as error:
        return str(error)
    return scrub_text(lines[-1])[:300] if lines else "an empty log"
