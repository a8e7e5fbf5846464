"""Keeps every fact the moment it is returned, and shows progress and verdicts."""

from __future__ import annotations

DOCUMENTATION = """
name: plumbline
type: aggregate
short_description: keep Plumbline facts and show one verdict line per measurement
description:
  - Checks each fact that a module returns against its schema (C(docs/schema)) and writes it to
    C(results/<run id>/facts/<host>/<kind>.<name>.json) at once, so that nothing measured is lost when a later task, node or the
    run itself dies. A fact that breaks its schema is kept too, and counts as incomplete.
  - Tasks that failed and hosts that stopped answering go to C(incidents.json), what was run to C(run.json).
  - Prints one line per verdict and how long each phase took. Tokens and passwords never reach it; C(no_log) results are skipped.
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
import json
import os
import re
import shutil
import tempfile
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
if _MODULE_UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_MODULE_UTILS)

from ansible.module_utils.plumbline.controller.preload import preload
from ansible.module_utils.plumbline.controller.tally import Tally
from ansible.module_utils.plumbline.core.fact import headline
from ansible.module_utils.plumbline.core.files import write_atomically

try:
    from ansible.module_utils.plumbline.controller.report.data import Schemas, SchemasMissing, entry  # noqa: E402
    from ansible.module_utils.plumbline.controller.report.records.entries import entry_reasons, entry_status  # noqa: E402
except ImportError as error:
    # Facts are kept all the same, and preflight says what the controller lacks.
    UNCHECKED = "facts are not checked against their schemas: the controller's Python lacks %s (make setup)" % error.name
else:
    UNCHECKED = None

COLOURS = {
    "healthy": C.COLOR_OK,
    "degraded": C.COLOR_WARN,
    "incomplete": C.COLOR_WARN,
    "failed": C.COLOR_ERROR,
    "skipped": C.COLOR_SKIP,
}


def now():
    """Return the time as the facts write it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write_json(path, data):
    """Write ``data`` to ``path`` so that a reader, or a full disk, never sees half a file."""
    write_atomically(path, json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n")


def remove_in(pid, folder):
    """Remove a folder at the end of the process that made it, not at the end of one that was forked off."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def free_run_id(root):
    """Return the time as a run id that no run under ``root`` has yet; two runs may start in the same second."""
    base = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    run_id, count = base, 1
    while os.path.exists(os.path.join(root, run_id)):
        count += 1
        run_id = "%s-%d" % (base, count)
    return run_id


def version():
    """Return Plumbline's version as pyproject.toml has it, or None when it is not there."""
    try:
        with open(os.path.join(_ROOT, "pyproject.toml"), encoding="utf-8") as stream:
            return re.search(r'^version = "([^"]+)"', stream.read(), re.M).group(1)
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


def kind_of(fact):
    """Return the kind in a fact's schema, ``health`` of ``plumbline.health/1``."""
    return str(fact.get("schema", "") if isinstance(fact, dict) else "").partition(".")[2].partition("/")[0]


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
        self.dir = None  # where this run keeps: its folder, or a temporary one in check mode
        self.kept = 0
        self._schemas = None
        self._tally = Tally()
        self._phase_clock = None
        self._task = ("", time.monotonic())

    # -- the run ---------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook):
        root = os.path.abspath(self.get_option("results_dir"))
        run_id = os.environ.get("PLUMBLINE_RUN_ID") or free_run_id(root)
        if not re.fullmatch(r"[A-Za-z0-9._-]+", run_id):
            self._display.warning("PLUMBLINE_RUN_ID=%r is no folder name; bad characters become '-'" % run_id)
            run_id = re.sub(r"[^A-Za-z0-9._-]+", "-", run_id)
        arguments = context.CLIARGS
        self.dir = os.path.join(root, run_id)
        os.environ["PLUMBLINE_RUN_ID"] = run_id
        os.environ["PLUMBLINE_RUN_DIR"] = self.dir
        if arguments.get("check"):
            self.dir = tempfile.mkdtemp(prefix="plumbline-check-")
            atexit.register(remove_in, os.getpid(), self.dir)
        os.environ["PLUMBLINE_KEPT_DIR"] = self.dir
        self._learn_schemas()
        preload()
        self.run = {
            "run_id": run_id,
            "started_at": now(),
            "finished_at": None,
            "plumbline_version": version(),
            "playbook": os.path.relpath(playbook._file_name),
            "tags": list(arguments.get("tags") or []),
            "skip_tags": list(arguments.get("skip_tags") or []),
            "limit": arguments.get("subset"),
            "inventory": [os.path.relpath(item) for item in arguments.get("inventory") or []],
            "check": bool(arguments.get("check")),
            "ansible_version": ansible.release.__version__,
            "hosts": [],
            "phases": [],
        }

    def _learn_schemas(self):
        problem = UNCHECKED
        if not problem:
            try:
                self._schemas = Schemas()
            except SchemasMissing as error:
                problem = "facts are not checked against their schemas: %s" % error
        if problem:
            self._display.warning(problem)

    def v2_playbook_on_play_start(self, play):
        self._end_phase()
        hosts = play.get_variable_manager()._inventory.get_hosts(play.hosts)
        self.run["hosts"] = sorted(({host.name for host in hosts} | set(self.run["hosts"])) - {"localhost"})
        self._tally.hosts = len(self.run["hosts"])
        self.run["phases"].append({"name": play.get_name(), "started_at": now(), "duration_s": None})
        self._phase_clock = time.monotonic()
        self._save_run()

    def v2_playbook_on_stats(self, stats):
        self._end_phase()
        self.run["finished_at"] = now()
        self._save_run()
        if self.kept and not self.run["check"]:
            self._display.display("plumbline: %d facts kept in %s" % (self.kept, os.path.relpath(self.dir)))

    def _end_phase(self):
        for line in self._tally.lines():
            self._display.display(line, color=C.COLOR_OK)
        if self.run["phases"]:
            self.run["phases"][-1]["duration_s"] = round(time.monotonic() - self._phase_clock, 3)

    def _save_run(self):
        if self.kept or self.incidents:
            write_json(os.path.join(self.dir, "run.json"), self.run)

    # -- what came back --------------------------------------------------------------------

    def v2_runner_on_ok(self, result):
        self._keep(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._keep(result)
        if "results" not in result.result and not any(True for _ in facts_in(result.result, None)):
            self._incident(result, "failed")

    def v2_runner_on_unreachable(self, result):
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
        self._display.display(
            "    %-12s %-50s %4d s so far" % (result.host.get_name(), name[:50], time.monotonic() - started),
            color=C.COLOR_SKIP,
        )

    def _keep(self, result):
        data = result.result
        if data.get("_ansible_no_log"):
            return
        for host, kind, fact in facts_in(data, result.host.get_name()):
            self._keep_fact(host, kind, fact)
        if isinstance(data.get("plumbline_selection"), dict):
            write_json(os.path.join(self.dir, "selection.json"), data["plumbline_selection"])

    def _keep_fact(self, host, kind, fact):
        name = re.sub(r"[^a-z0-9_.]+", "_", str(fact.get("name")))
        write_json(os.path.join(self.dir, "facts", host, "%s.%s.json" % (kind, name)), fact)
        self.kept += 1
        self._save_run()
        status, said = self._judge(host, kind, name, fact)
        if self._tally.folds(status, kind, fact):
            return
        line = "  %-10s %-12s %-10s %-22s %6.1f s" % (status, host, kind, fact.get("name"), fact.get("duration_s") or 0)
        self._display.display(line + ("  " + said if said else ""), color=COLOURS.get(status, C.COLOR_ERROR))

    def _judge(self, host, kind, name, fact):
        """Return a fact's status and the sentence that explains it, as the report will see them."""
        if self._schemas is None:
            return fact.get("status"), headline(fact)
        loaded = entry(host, kind, name, fact, self._schemas.problems(kind, fact))
        status = entry_status(loaded)
        return status, headline({"status": status, "reasons": entry_reasons(loaded)})

    def _incident(self, result, state):
        data = result.result
        secret = data.get("_ansible_no_log")
        message = "hidden: the task is marked no_log" if secret else str(data.get("msg") or data.get("stderr") or "")
        role = result.task._role
        delegate = result.task.delegate_to  # still a template where the task failed before a node was chosen
        self.incidents.append(
            {
                "host": delegate if delegate and "{" not in delegate else result.host.get_name(),
                "task": result.task.get_name(),
                "role": role.get_name() if role else None,
                "state": state,
                "message": message[:2000],
                "at": now(),
            }
        )
        write_json(os.path.join(self.dir, "incidents.json"), self.incidents)
        self._save_run()
