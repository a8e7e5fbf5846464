#!/usr/bin/python
"""Ansible module: render the report of one run. Runs on the controller only."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plumbline_report
short_description: Renders the report of one run from its run folder
description:
  - Reads C(run.json), C(facts/), C(incidents.json) and C(selection.json) of a run folder, checks every fact
    against its schema, and writes C(facts.json), C(report.md), C(report.html) and C(plots/) into it.
  - Reads nothing else, so that rendering twice writes the same bytes.
  - A bad verdict is a result and not a failure of the module; see RV(overall) and RV(not_proven).
  - Runs on the controller, with the Python that runs Ansible.
options:
  run_dir:
    description: The run folder, C(results/<run id>).
    type: path
    required: true
  schema_dir:
    description: The folder of fact schemas, the project's C(docs/schema).
    type: path
    required: true
  template_dir:
    description: The folder with C(report.md.j2) and C(report.html.j2).
    type: path
    required: true
requirements: [jinja2, jsonschema, matplotlib]
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
    schema_dir: docs/schema
    template_dir: roles/report/templates
  delegate_to: localhost
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
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from ansible.module_utils.plumbline.controller.report.data import NotARunFolder, SchemasMissing
    from ansible.module_utils.plumbline.controller.report.render import build, differing, stale, write
    from ansible.module_utils.plumbline.controller.report.verdicts import lines, why_list
except ImportError as error:
    MISSING_LIBRARY = error.name or str(error)
    MISSING_TRACEBACK = traceback.format_exc()
else:
    MISSING_LIBRARY = MISSING_TRACEBACK = None


def main():
    """Render, write what differs, return the verdicts."""
    module = AnsibleModule(
        argument_spec={
            "run_dir": {"type": "path", "required": True},
            "schema_dir": {"type": "path", "required": True},
            "template_dir": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if MISSING_LIBRARY:
        module.fail_json(
            msg=missing_required_lib(MISSING_LIBRARY) + " Install the project's dependencies: `make setup`.",
            exception=MISSING_TRACEBACK,
        )
    run_dir = os.path.abspath(module.params["run_dir"])
    if not os.path.isdir(run_dir):
        module.fail_json(msg="run_dir %s is no folder. Expected results/<run id> of an earlier run: see `ls results`." % run_dir)
    try:
        files, found = build(run_dir, module.params["schema_dir"], module.params["template_dir"])
    except (NotARunFolder, SchemasMissing) as error:
        module.fail_json(msg=str(error))
    changed = differing(run_dir, files)
    removed = stale(run_dir, files)
    if not module.check_mode:
        try:
            write(run_dir, files, changed)
            for path in removed:
                os.unlink(os.path.join(run_dir, path))
        except OSError as error:
            module.fail_json(msg="cannot write the report: %s. Is %s writable, with free space?" % (error, run_dir))
    module.exit_json(
        changed=bool(changed or removed),
        overall=found["overall"],
        lines=lines(found),
        not_proven=why_list(found),
        written=changed,
        removed=removed,
        report_html=os.path.join(run_dir, "report.html"),
        report_md=os.path.join(run_dir, "report.md"),
    )


if __name__ == "__main__":
    main()
