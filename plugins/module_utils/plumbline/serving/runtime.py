"""Where a layout's programs run: this machine itself, or one container on it.

A container is only the place: ``roles/vllm_serve`` makes one for each node, with the host's network, IPC and devices, and Ray, vLLM and the
benchmark's client are run in it by ``docker exec``. Folders that matter (model, work folder, caches) have the same path inside and outside,
and the node's root sees a container's processes in its own ``/proc``, so everything else is the same for both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid

from ..core import marks, processes
from ..core.scrub import scrub_text

# Tells the processes of one start apart from everything else of the same serving run.
TOKEN = "PLUMBLINE_START_TOKEN"
LABEL = "plumbline.serve"
# How the docker command finds its engine; none of it goes into the container.
CLIENT = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION")
# `docker exec --detach` throws output away; the log lies where the host has it too. The limit is the second mark (core.marks): bash calls
# it -x, dash and busybox -w.
_INTO_LOG = (
    'log=$1 number=$2; shift 2; ulimit -x "$number" 2> /dev/null || ulimit -w "$number" 2> /dev/null || :; '
    'exec "$@" >> "$log" 2>&1 < /dev/null'
)


# Runs $2 and what follows under the Python that the first line of the program $1 names; no other program has one.
_UNDER_ITS_PYTHON = (
    'program=$(command -v -- "$1") && IFS= read -r first < "$program" || exit 1; script=$2; '
    'case $first in "#!"*python*) exec ${first#??} "$script" "$program" ;; esac; exit 1'
)


class RuntimeProblem(Exception):
    """A container or its engine refused; the text is its own words."""


class Client:
    """A program in the foreground: poll it, and end all of it."""

    def __init__(self, process, token, is_program=True):
        """Take the process, which is the program itself or a ``docker exec`` that waits for it."""
        self._process = process
        self._token = token
        self._is_program = is_program
        self._heard = b""
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)

    def poll(self):
        """Return the exit status, None while it runs."""
        return self._process.poll()

    def tell(self, line):
        """Write a line to a program that was started to ``talk``; one that has ended is seen by :meth:`poll`."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def said(self):
        """Return the next whole line of a program that was started to ``talk``, None while there is none."""
        while b"\n" not in self._heard:
            more = self._process.stdout.read(65536)
            if not more:
                return None
            self._heard += more
        line, self._heard = self._heard.split(b"\n", 1)
        return line.decode(errors="replace")

    def end(self):
        """End what still runs, and return the exit status. Ending ``docker exec`` alone would leave the program in the container."""
        if self._process.poll() is None:
            # Its children by descent too: one that gave itself a title has overwritten its environment.
            below = processes.descendants(self._process.pid, processes.table()) if self._is_program else []
            for pid in {*_with_token(self._token), *below}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return self._process.wait()


class Runtime:
    """Runs programs on the node (``container`` empty) or in a running container of that name."""

    def __init__(self, container="", docker="docker"):
        self.container = container
        self.docker = docker

    def _command(self, argv, env, options=()):
        """Return ``(argv, env)`` for Popen. Values go by the client's environment, never by its command line."""
        if not self.container:
            return list(argv), processes.base_environment(env)
        client = {name: os.environ[name] for name in CLIENT if name in os.environ}
        names = [word for key in sorted(env) for word in ("--env", key)]
        return [self.docker, "exec", *options, *names, self.container, *argv], processes.base_environment({**client, **env})

    def start(self, argv, serve_id, env, log_path, patience_s=10.0):
        """Start ``argv`` detached, marked with ``serve_id``, output appended to ``log_path``; return its pid as the node counts.

        Returns None when it ended within ``patience_s`` seconds before it was seen: the log says why. Raises OSError
        when the log cannot be written or the program not be started, :class:`RuntimeProblem` when the container refuses.
        """
        if not self.container:
            return processes.start(argv, serve_id, processes.base_environment(env), log_path)
        os.makedirs(os.path.dirname(log_path), exist_ok=True)
        with open(log_path, "ab"):
            pass  # a folder that cannot be written is found here, with its own error
        token = str(uuid.uuid4())
        marked = {str(k): str(v) for k, v in env.items()}
        marked.update({processes.MARK: serve_id, TOKEN: token})
        inside = ["sh", "-c", _INTO_LOG, "sh", log_path, str(marks.serving(serve_id)), *argv]
        command, client_env = self._command(inside, marked, ["--detach"])
        done = subprocess.run(command, env=client_env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeProblem("docker exec %s: %s" % (self.container, scrub_text(done.stderr or done.stdout).strip()[-300:]))
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            pids = _with_token(token)
            if pids:
                return _oldest(pids)
            time.sleep(0.05)
        return None

    def client(self, argv, env, log, talk=False):
        """Start ``argv`` in the foreground with its output in the open file ``log``; return a :class:`Client`.

        With ``talk`` only its errors go there, and the client can be told lines and says some.
        """
        token = str(uuid.uuid4())
        command, client_env = self._command(argv, dict(env or {}, **{TOKEN: token}), ["--interactive"] if talk else ())
        streams = (subprocess.PIPE, subprocess.PIPE, log) if talk else (subprocess.DEVNULL, log, subprocess.STDOUT)
        process = subprocess.Popen(command, env=client_env, stdin=streams[0], stdout=streams[1], stderr=streams[2], cwd="/")
        return Client(process, token, not self.container)

    def under_its_python(self, script, program, env, log):
        """Run the Python file ``script`` as :meth:`client` with ``talk``, under the Python that ``program`` is for and with its path.

        It ends with 1 where ``program`` is no Python script.
        """
        return self.client(["sh", "-c", _UNDER_ITS_PYTHON, "sh", program, script], env, log, talk=True)

    def run(self, argv, env=None, timeout_s=60.0):
        """Run a short program and return the completed process (text); OSError and TimeoutExpired are the caller's."""
        command, client_env = self._command(argv, env or {})
        return subprocess.run(command, env=client_env, capture_output=True, text=True, timeout=timeout_s, check=False)

    def has_program(self, program):
        """Tell whether ``program`` (a path, or a name on PATH in a container) can be run."""
        if not self.container:
            return os.access(program, os.X_OK)
        done = self.run(["sh", "-c", 'command -v -- "$1" > /dev/null', "sh", program])
        return done.returncode == 0

    def python_beside(self, program):
        """Return the Python that belongs to a program: in its folder, or the container's ``python3``."""
        folder = os.path.dirname(program)
        return os.path.join(folder, "python") if folder else "python3"


def _with_token(token):
    """Return the running pids that carry a start's token, the docker client left out."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            env = processes.environment_of(int(entry))
            if env.get(TOKEN) == token and not _is_client(int(entry)) and processes.is_running(int(entry)):
                found.append(int(entry))
    return found


def _is_client(pid):
    """Tell whether ``pid`` is ``docker exec`` itself, which carries the environment that it hands on."""
    words = processes.command_of(pid).split(" ")
    return len(words) > 1 and os.path.basename(words[0]) == "docker" and words[1] == "exec"


def _oldest(pids):
    """Return the pid whose parent is none of ``pids``: the program itself, not one of its children."""
    for pid in sorted(pids):
        if processes.parent_of(pid) not in pids:
            return pid
    return min(pids)
