"""Action plugin: render the report of one run."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plumbline_report
short_description: Renders the report of one run from its run folder
description:
  - Reads C(run.json), C(facts/), C(incidents.json) and C(selection.json) of a run folder, checks every fact
    against its schema, and writes C(facts.json), C(report.md), C(report.html), C(junit.xml) and C(plots/) into it.
  - Writes facts and verdicts for other programs where it is told to.
  - Compares with earlier runs in the folder around it, which an index there makes fast, and reads nothing else. So rendering twice
    writes the same bytes.
  - A bad verdict is a result and not a failure of the module; see RV(overall) and RV(not_proven).
  - Runs on the controller, with the Python that runs Ansible.
options:
  run_dir:
    description: The run folder, C(results/<run id>).
    type: path
    required: true
  template_dir:
    description: The folder with C(report.md.j2) and C(report.html.j2).
    type: path
    required: true
  jsonl:
    description:
      - A file for the facts as JSON lines, one for each fact (C(docs/schema/line.schema.json)); its name ends in C(.jsonl).
      - A path that is not absolute is one in the run folder. Empty is none.
    type: str
    default: ""
  prometheus:
    description:
      - A file for facts and verdicts in Prometheus' text format, as node_exporter's textfile collector reads it; its name ends in C(.prom).
      - A path that is not absolute is one in the run folder. Empty is none.
    type: str
    default: ""
  compare_with:
    description:
      - A run to compare with, by its id in O(results_dir) or by the path of its folder.
      - V("") is for each layout the last earlier run of the same model, layout and SKU, V(none) no run.
    type: str
    default: ""
  fleet_baseline:
    description: A file that O(fleet_baseline_write) wrote. The nodes are compared with it.
    type: path
  fleet_baseline_write:
    description: Write the medians and spreads of this run's nodes by SKU into this file.
    type: path
  results_dir:
    description: The folder with the other runs. The folder around O(run_dir), if it is not given.
    type: path
requirements: ["matplotlib, for plots", "jsonschema, for the place where a fact breaks its schema"]
attributes:
  check_mode:
    support: full
    description: Reads and renders, and writes nothing.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Render the report
  plumbline_report:
    run_dir: results/20261124T120000Z
    template_dir: roles/report/templates
  run_once: true
"""

RETURN = r"""
overall:
  description: The worst verdict of all, C(healthy), C(degraded), C(incomplete), C(failed) or C(skipped).
  type: str
  returned: always
lines:
  description: One verdict line for every node and every layout.
  type: list
  elements: str
  returned: always
nodes:
  description: The verdict on each node.
  type: dict
  returned: always
layouts:
  description: The verdict on each layout.
  type: dict
  returned: always
not_proven:
  description: What is failed or incomplete, with the reason and what to do; empty if nothing is.
  type: list
  elements: str
  returned: always
written:
  description: Files that were written, or would be in check mode, by their path in the run folder.
  type: list
  elements: str
  returned: always
removed:
  description: Plots of an earlier report that no longer apply.
  type: list
  elements: str
  returned: always
report_html:
  description: The path of the page.
  type: str
  returned: always
report_md:
  description: The path of the Markdown report.
  type: str
  returned: always
"""

import os

from ansible.errors import AnsibleActionFail
from ansible.module_utils.plumbline.controller import run_folder
from ansible.module_utils.plumbline.controller.action import ControllerAction
from ansible.module_utils.plumbline.controller.report.data import SCHEMA_DIR, load
from ansible.module_utils.plumbline.controller.report.exports.files import expect_folder, export_paths, exports
from ansible.module_utils.plumbline.controller.report.verdicts import lines, why_list
from ansible.module_utils.plumbline.core.fact import worst


class ActionModule(ControllerAction):
    """The action behind ``plumbline_report:``."""

    ARGUMENTS = {
        "run_dir": {"type": "path", "required": True},
        "template_dir": {"type": "path", "required": True},
        "jsonl": {"type": "str", "default": ""},
        "prometheus": {"type": "str", "default": ""},
        "compare_with": {"type": "str", "default": ""},
        "fleet_baseline": {"type": "path"},
        "fleet_baseline_write": {"type": "path"},
        "results_dir": {"type": "path"},
    }

    def answer(self, arguments, task_vars):
        """Render, write what differs, return the verdicts."""
        run_dir = os.path.abspath(arguments["run_dir"])
        if not os.path.isdir(run_dir):
            raise ValueError("run_dir %s is no folder. Expected results/<run id> of an earlier run: see `ls results`." % run_dir)
        # Here, since drawing takes a moment to import, which only this task needs to wait for.
        from ansible.module_utils.plumbline.controller.report.compare import compared, fleet
        from ansible.module_utils.plumbline.controller.report.render import build_of, differing, stale, write

        wanted = export_paths(arguments)
        lost = run_folder.not_kept() if os.path.abspath(os.environ.get("PLUMBLINE_RUN_DIR", "")) == run_dir else []
        against = compared.Against(
            run_dir,
            SCHEMA_DIR,
            arguments["compare_with"],
            arguments["fleet_baseline"],
            arguments["results_dir"],
            keep=not self._task.check_mode,
        )
        data = load(run_dir, SCHEMA_DIR)
        files, found = build_of(data, arguments["template_dir"], against)
        lost = lost + against.problems
        overall = worst([found["overall"], "incomplete"]) if lost else found["overall"]
        # After the report, which a folder that is missing for them must not cost.
        files.update(exports(data, {**found, "overall": overall}, wanted))
        changed, removed = differing(run_dir, files), stale(run_dir, files)
        if not self._task.check_mode:
            try:
                write(run_dir, files, [path for path in changed if path not in wanted.values()])
                for path in removed:
                    os.unlink(os.path.join(run_dir, path))
                if arguments["fleet_baseline_write"]:
                    fleet.write(arguments["fleet_baseline_write"], fleet.made_of(against.run))
                for path in wanted.values():
                    expect_folder(os.path.dirname(os.path.join(run_dir, path)))
                write(run_dir, files, [path for path in changed if path in wanted.values()])
            except OSError as error:
                raise AnsibleActionFail(
                    "cannot write the report: %s. Is %s writable, with free space?" % (error, error.filename or run_dir)
                ) from error
        return {
            "changed": bool(changed or removed),
            "overall": overall,
            "nodes": {name: verdict["status"] for name, verdict in found["nodes"].items()},
            "layouts": {name: verdict["status"] for name, verdict in found["layouts"].items()},
            "lines": lines(found) + lost,
            "not_proven": lost + why_list(found),
            "written": changed,
            "removed": removed,
            "report_html": os.path.join(run_dir, "report.html"),
            "report_md": os.path.join(run_dir, "report.md"),
        }
