"""Keeps every fact the moment it is returned, and shows progress and verdicts."""

from __future__ import annotations

DOCUMENTATION = """
name: plumbline
type: aggregate
author: Plumbline
short_description: keep Plumbline facts and show one verdict line per measurement
description:
  - Checks each fact that a module returns against its schema (C(docs/schema)) and writes it to
    C(results/<run id>/facts/<host>/<kind>.<name>.json) at once, so that nothing measured is lost when a later task, node or the
    run itself dies. A fact that breaks its schema is kept too, and counts as incomplete.
  - Tasks that failed and hosts that stopped answering go to C(incidents.json), what was run to C(run.json).
  - Prints one line per verdict and how long each phase took. Tokens and passwords never reach it; C(no_log) results are skipped.
  - Makes the run's folder before anything is touched, or ends the run there. What could not be kept is named at the end, and fails the run.
  - Where another stdout callback prints data, such as C(json), its own lines go to the standard error.
  - In check mode no run folder is made. What comes back is kept in a temporary folder, for the decisions of that run, and
    goes away with it.
  - Sets E(PLUMBLINE_RUN_ID) and E(PLUMBLINE_RUN_DIR) for the run, from the environment or the time, and E(PLUMBLINE_KEPT_DIR),
    which differs from the run folder in check mode only.
options:
  results_dir:
    description: Folder for the runs; relative to the current directory.
    default: results
    env: [{name: PLUMBLINE_RESULTS_DIR}]
    ini: [{section: plumbline, key: results_dir}]
"""

import atexit
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone

import ansible.module_utils
import ansible.release
from ansible import constants as C
from ansible import context
from ansible.plugins.callback import CallbackBase

# On nodes Ansible finds our module_utils by its own loader; on the controller somebody has to say where they are. The callback
# does, once for all plugins: Ansible loads it before any play and starts its workers from the process that it is in.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
_MODULE_UTILS = os.path.join(_ROOT, "plugins", "module_utils")
_INSTALLED = __name__.startswith("ansible_collections.")  # a collection's code is found by its name
if not _INSTALLED and _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.plumbline.controller import place, run_folder, unreachable
from ansible.module_utils.plumbline.controller.preload import preload
from ansible.module_utils.plumbline.controller.report.data import Schemas, SchemasMissing, entry
from ansible.module_utils.plumbline.controller.report.records.entries import entry_reasons, entry_status
from ansible.module_utils.plumbline.controller.tally import PENDING, Tally
from ansible.module_utils.plumbline.core.fact import headline, kind_of
from ansible.module_utils.plumbline.core.scrub import scrub_text

# Stdout callbacks that print lines for people: ours may stand among them.
TEXTS = (
    "default", "minimal", "oneline", "debug", "yaml", "unixy", "dense", "selective", "diy", "skippy", "actionable", "stderr", "full_skip",
    "awx_display", "timestamp", "tree", "plumbline_fold",
)  # fmt: skip
# Playbooks that measure nothing: they must also run where no results can be kept.
MEASURE_NOTHING = ("reset.yml", "lab_up.yml", "lab_down.yml")
SSH_ARGS = "-o ControlMaster=auto -o ControlPersist=120s -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
FAILED = 2  # the exit status of ansible-playbook for failed hosts

COLOURS = {
    "healthy": C.COLOR_OK,
    "degraded": C.COLOR_WARN,
    "incomplete": C.COLOR_WARN,
    "failed": C.COLOR_ERROR,
    "skipped": C.COLOR_SKIP,
    PENDING: C.COLOR_SKIP,
}


def now():
    """Return the time as the facts write it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def remove_in(pid, folder):
    """Remove a folder at the end of the process that made it, not at the end of one that was forked off."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def version():
    """Return Plumbline's version as pyproject.toml or the collection's manifest has it, or None when it is not there."""
    name, pattern = ("MANIFEST.json", r'"version": "([^"]+)"') if _INSTALLED else ("pyproject.toml", r'^version = "([^"]+)"')
    try:
        with open(os.path.join(_ROOT, name), encoding="utf-8") as stream:
            return re.search(pattern, stream.read(), re.M).group(1)
    except (OSError, AttributeError):
        return None


def facts_in(result, host):
    """Yield ``(host, kind, fact)`` for every Plumbline fact in a task result.

    A module returns facts about its own host, ``{"ansible_facts": {"plumbline": {kind: fact}}}``, loops included. What the controller
    finds out about several hosts at once comes as ``{"plumbline_facts": {host: [fact, ...]}}``.
    """
    for item in result.get("results") or [result]:
        if not isinstance(item, dict):
            continue
        own = (item.get("ansible_facts") or {}).get("plumbline") or {}
        found = [(host, kind, fact) for kind, fact in own.items()]
        for other, facts in (item.get("plumbline_facts") or {}).items():
            found += [(other, kind_of(fact), fact) for fact in facts]
        for about, kind, fact in found:
            if isinstance(fact, dict) and str(fact.get("schema", "")).startswith("plumbline."):
                yield about, kind, fact


def stdout_is_text(name):
    """Tell whether the stdout callback of that name prints lines for people; any other may print data that others parse."""
    return str(name).rpartition(".")[2] in TEXTS


def started_without_config(argv, config=None, folders=None):
    """Return how to start what was started without the project's settings, None where there are some.

    The links in C(playbooks/) let Ansible find the code from anywhere; settings, such as that nodes log no arguments, are found by
    ansible.cfg alone. Somebody with a configuration of their own names the callback in it.
    """
    ours = os.path.join(_ROOT, "ansible.cfg")
    if _INSTALLED:  # found by its name from anywhere; settle() brings what a run needs of the settings
        return None
    if config and os.path.realpath(config) == ours:
        return None
    if os.path.join(_ROOT, "plugins", "callback") in [os.path.realpath(folder) for folder in folders or ()]:
        return None
    command = scrub_text(" ".join(shlex.quote(word) for word in [os.path.basename(argv[0]), *argv[1:]]))
    return (
        "the project's settings are not in use (Ansible read %s), so nothing was touched. Start it from %s, or from here with\n"
        "  ANSIBLE_CONFIG=%s %s" % (config or "no ansible.cfg", _ROOT, shlex.quote(ours), command)
    )


# Settings of the project's ansible.cfg that a collection has no file for: option, plugin that has it, environment variable, value.
SETTINGS = (
    ("DEFAULT_NO_TARGET_SYSLOG", None, None, "ANSIBLE_NO_TARGET_SYSLOG", "true"),  # modules get vllm_serve_env, which may hold tokens
    ("pipelining", "connection", "ssh", "ANSIBLE_PIPELINING", "true"),
    ("ssh_args", "connection", "ssh", "ANSIBLE_SSH_ARGS", SSH_ARGS),  # a lost node is noticed
)


def settle(config=C.config, environ=None):
    """Make what nobody has configured as the project's ansible.cfg has it, for this process and its workers."""
    for option, plugin_type, plugin, variable, value in SETTINGS:
        _value, origin = config.get_config_value_and_origin(option, plugin_type=plugin_type, plugin_name=plugin)
        if origin == "default":
            (os.environ if environ is None else environ)[variable] = value


def connection_of(host, name):
    """Return address, port and user that the inventory gives a host; of one that a task was delegated to only the name is known."""
    given = getattr(host, "vars", None) or {}
    if host.get_name() != name:
        return name, None, None
    port, user = given.get("ansible_port"), given.get("ansible_user")
    address = given.get("ansible_host") or name
    return [None if "{" in str(item) else item for item in (address, port, user)]


def shortened(names, most=8):
    """Return names as a list for people, the first ``most`` of them."""
    return ", ".join(names[:most]) + (" and %d more" % (len(names) - most) if len(names) > most else "")


class CallbackModule(CallbackBase):
    """The ``plumbline`` callback; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "plumbline"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self):
        super().__init__()
        self.run = {}
        self.incidents = []
        self.keeper = run_folder.Keeper(None)
        self.kept = 0
        self._verdicts = {}  # by what a fact is called: the line that shows it
        self._busy = set()  # the hosts whose task has not come back
        self._over = False
        self._to_stderr = not stdout_is_text(C.config.get_config_value("DEFAULT_STDOUT_CALLBACK"))
        self._schemas = None
        self._tally = Tally()
        self._phase_clock = None
        self._task = ("", time.monotonic())

    # -- the run ---------------------------------------------------------------------------

    @property
    def dir(self):
        """Where this run keeps: its folder, or a temporary one in check mode; None where nothing is kept."""
        return self.keeper.folder

    @dir.setter
    def dir(self, folder):
        self.keeper = run_folder.Keeper(folder)

    def _say(self, text, color=None):
        self._display.display(text, color=color, **({"stderr": True} if self._to_stderr else {}))

    def v2_playbook_on_start(self, playbook):
        arguments = context.CLIARGS
        self._over = False
        if self.run:  # a second playbook of the same command: one run
            self.run["playbook"] += " " + place.playbook_of(playbook._file_name)
            return
        how = started_without_config(sys.argv, C.CONFIG_FILE, C.config.get_config_value("DEFAULT_CALLBACK_PLUGIN_PATH"))
        if how:
            self._refuse(how)
        if _INSTALLED:
            settle()
        run_id = self._make_folder(os.path.basename(playbook._file_name), bool(arguments.get("check")))
        atexit.register(self._at_exit, os.getpid())
        self._also_at_sigterm(os.getpid())
        self._learn_schemas()
        preload()
        self.run = {
            "run_id": run_id,
            "started_at": now(),
            "finished_at": None,
            "plumbline_version": version(),
            "playbook": place.playbook_of(playbook._file_name),
            "tags": list(arguments.get("tags") or []),
            "skip_tags": list(arguments.get("skip_tags") or []),
            "limit": arguments.get("subset"),
            "inventory": [os.path.relpath(item) for item in arguments.get("inventory") or []],
            "check": bool(arguments.get("check")),
            "ansible_version": ansible.release.__version__,
            "hosts": [],
            "phases": [],
        }

    def _make_folder(self, playbook, check):
        """Make the folder that this run keeps in and tell everybody; return the run's id. End the run where that cannot be."""
        root = os.path.abspath(self.get_option("results_dir"))
        wanted = os.environ.get("PLUMBLINE_RUN_ID")
        if wanted and run_folder.slug(wanted) != wanted:
            self._display.warning("PLUMBLINE_RUN_ID=%r is no folder name; bad characters become '-'" % wanted)
            wanted = run_folder.slug(wanted)
        try:
            if check:
                run_id = wanted or datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
                folder, self.dir = os.path.join(root, run_id), tempfile.mkdtemp(prefix="plumbline-check-")
                atexit.register(remove_in, os.getpid(), self.dir)
            else:
                folder = self.dir = run_folder.claim(root, wanted)
        except (run_folder.CannotKeep, OSError) as error:
            said = "no results can be kept: %s" % error
            if playbook not in MEASURE_NOTHING:
                self._refuse("%s. Nothing was touched." % said)
            self._display.warning(said)
            folder, self.dir = os.path.join(root, wanted or "none"), None
        os.environ["PLUMBLINE_RUN_ID"] = os.path.basename(folder)
        os.environ["PLUMBLINE_RUN_DIR"] = folder
        os.environ["PLUMBLINE_KEPT_DIR"] = self.dir or ""
        os.environ.pop(run_folder.NOT_KEPT, None)
        return os.path.basename(folder)

    def _refuse(self, why):
        """End the run before anything is touched. An exception that is none of Ansible's would only be a warning here."""
        self._display.error("plumbline: %s" % why, wrap_text=False)
        raise SystemExit(1)

    def _learn_schemas(self):
        try:
            self._schemas = Schemas()
        except SchemasMissing as error:
            self._display.warning("facts are not checked against their schemas: %s" % error)

    def v2_playbook_on_play_start(self, play):
        self._end_phase()
        hosts = play.get_variable_manager()._inventory.get_hosts(play.hosts)
        self.run["hosts"] = sorted(({host.name for host in hosts} | set(self.run["hosts"])) - {"localhost"})
        self._tally.hosts = len(self.run["hosts"])
        self.run["phases"].append({"name": play.get_name(), "started_at": now(), "duration_s": None})
        self._phase_clock = time.monotonic()
        self._save_run()
        self.keeper.look()

    def v2_playbook_on_stats(self, stats):
        self._end_phase()
        self.run["finished_at"] = now()
        self._save_run()
        self.keeper.look()
        self._over = True
        if self.kept and not self.run["check"] and self.dir:
            kept = sum(1 for path in self.keeper.kept if path.startswith("facts" + os.sep))
            self._say("plumbline: %d facts kept in %s" % (kept, os.path.relpath(self.dir)))
        if self.keeper.lost:
            self._say_lost()
            # Ansible takes no status from a callback. This is the last thing that it does before it cleans up.
            raise SystemExit(FAILED)

    def _say_lost(self):
        self._say("plumbline: not everything could be kept, so this run fails, whatever else it says:", C.COLOR_ERROR)
        for text in self.keeper.sentences():
            self._say("  " + text, C.COLOR_ERROR)
        shown = [line for what, line in sorted(self._verdicts.items()) if what in self.keeper.lost]
        if shown:
            self._say("plumbline: what was measured and not kept:")
        for line, color in shown:
            self._say(line, color)

    def _at_exit(self, pid):
        """Say what a run that was cut short leaves behind; remove the folder of one that kept nothing."""
        if os.getpid() != pid:
            return
        if not self._over and self.run:
            for text in self.left_behind():
                sys.stderr.write("plumbline: %s\n" % text)
            sys.stderr.flush()
            self._over = True
        if self.dir and not self.run.get("check"):
            run_folder.leave_if_empty(self.dir)

    def _also_at_sigterm(self, pid):
        """Say it also where a job's manager ends the run: Ansible then ends itself by the signal, and nothing runs at exit."""
        before = signal.getsignal(signal.SIGTERM)

        def handle(number, frame):
            self._at_exit(pid)
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handle)

    def left_behind(self):
        """Return sentences: where the run was cut short, what may still run, how to end it, and where the facts are."""
        phase = self.run["phases"][-1]["name"] if self.run["phases"] else "the start"
        busy, nodes = sorted(self._busy - {"localhost"}), self.run["hosts"]
        on = " on %s" % shortened(busy) if busy else ""
        found = ["the run was cut short in the phase %r, at the task %r%s." % (phase, self._task[0] or "none", on)]
        if nodes and not self.run["check"]:
            inventory = " ".join("-i %s" % shlex.quote(item) for item in self.run["inventory"])
            limit = " --limit %s" % shlex.quote(self.run["limit"]) if self.run["limit"] else ""
            reset = place.playbook("reset")
            found.append(
                "What it started on %s may still run: the task itself, servers and containers of a layout, locked clocks. This ends them:\n"
                "  ansible-playbook %s%s%s" % (shortened(nodes), inventory + " " if inventory else "", reset, limit)
            )
        facts = sum(1 for path in self.keeper.kept if path.startswith("facts" + os.sep))
        if facts and not self.run["check"]:
            report = place.playbook("report")
            found.append(
                "%d facts are kept in %s. A report on them:\n  ansible-playbook %s -e report_run_dir=%s"
                % (facts, os.path.relpath(self.dir), report, shlex.quote(self.dir))
            )
        elif not self.run["check"]:
            found.append("No fact was kept.")
        return found + self.keeper.sentences()

    def _end_phase(self):
        for line in self._tally.lines():
            self._say(line, C.COLOR_OK)
        if self.run["phases"]:
            self.run["phases"][-1]["duration_s"] = round(time.monotonic() - self._phase_clock, 3)

    def _save_run(self):
        if self.kept or self.incidents:
            self.keeper.write("run.json", self.run)

    # -- what came back --------------------------------------------------------------------

    def v2_runner_on_start(self, host, task):
        self._busy.add(host.get_name())

    def v2_runner_on_skipped(self, result):
        self._busy.discard(result.host.get_name())

    def v2_runner_on_ok(self, result):
        self._busy.discard(result.host.get_name())
        self._keep(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._busy.discard(result.host.get_name())
        self._keep(result)
        if "results" not in result.result and not any(True for _ in facts_in(result.result, None)):
            self._incident(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._busy.discard(result.host.get_name())
        if "results" not in result.result:
            self._incident(result, "unreachable")

    def v2_runner_item_on_failed(self, result):
        # A loop over nodes is one task of its first node: only its items say which node it was, and what that node said.
        if not any(True for _ in facts_in(result.result, None)):
            self._incident(result, "unreachable" if result.result.get("unreachable") else "failed")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._task = (task.get_name(), time.monotonic())

    def v2_runner_on_async_poll(self, result):
        name, started = self._task  # the polled result calls itself async_status
        self._say("    %-12s %-50s %4d s so far" % (result.host.get_name(), name[:50], time.monotonic() - started), C.COLOR_SKIP)

    def _keep(self, result):
        data = result.result
        if data.get("_ansible_no_log"):
            return
        for host, kind, fact in facts_in(data, result.host.get_name()):
            self._keep_fact(host, kind, fact, pending=data.get("pending") is True)
        if isinstance(data.get("plumbline_selection"), dict):
            self.keeper.write("selection.json", data["plumbline_selection"])

    def _keep_fact(self, host, kind, fact, pending=False):
        """Keep a fact and show it; ``pending``: what it lacks is the work of a later task, so that it is no verdict yet."""
        name = re.sub(r"[^a-z0-9_.]+", "_", str(fact.get("name")))
        what = os.path.join("facts", host, "%s.%s.json" % (kind, name))
        self.kept += 1
        self.keeper.write(what, fact)  # before anything is made of it: a fact may hold anything
        self._save_run()
        try:
            status, said = self._judge(host, kind, name, fact)
        except Exception as error:  # whatever it is: the fact is kept, and Ansible would drop what else came with it
            status, said = "incomplete", "%s cannot be checked: %s: %s" % (what, type(error).__name__, error)
        took = fact.get("duration_s")
        took = took if isinstance(took, (int, float)) else 0
        about = "%-12s %-10s %-22s %6.1f s" % (host, kind, fact.get("name"), took)
        self._verdicts[what] = shown = self._line(status, about, said)
        if pending and status == "incomplete":
            status = PENDING
            shown = self._line(status, about, said)
        if not self._tally.folds(status, kind, dict(fact, duration_s=took)):
            self._say(*shown)

    @staticmethod
    def _line(status, about, said):
        """Return the line of a fact and its colour."""
        return "  %-10s %s%s" % (status, about, "  " + said if said else ""), COLOURS.get(status, C.COLOR_ERROR)

    def _judge(self, host, kind, name, fact):
        """Return a fact's status and the sentence that explains it, as the report will see them."""
        if self._schemas is None:
            return str(fact.get("status")), headline(fact)
        loaded = entry(host, kind, name, fact, self._schemas.problems(kind, fact))
        status = entry_status(loaded)
        return status, headline({"status": status, "reasons": entry_reasons(loaded)})

    def _incident(self, result, state):
        data = result.result
        secret = data.get("_ansible_no_log")
        message = "hidden: the task is marked no_log" if secret else scrub_text(str(data.get("msg") or data.get("stderr") or ""))
        role = result.task._role
        delegate = result.task.delegate_to  # still a template where the task failed before a node was chosen
        host, remedy = delegate if delegate and "{" not in delegate else result.host.get_name(), None
        if state == "unreachable" and not secret:
            message, remedy = unreachable.explain(message, *connection_of(result.host, host))
            self._say("  unreachable %-12s %s → %s" % (host, message, remedy), C.COLOR_UNREACHABLE)
        self.incidents.append(
            {
                "host": host,
                "task": result.task.get_name(),
                "role": place.short(role.get_name()) if role else None,
                "state": state,
                "message": message[:2000],
                "at": now(),
                **({"remedy": remedy} if remedy else {}),
            }
        )
        self.keeper.write("incidents.json", self.incidents)
        self._save_run()
