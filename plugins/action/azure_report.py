"""Action plugin: tell Azure of a node that a run has proven bad, or show what it would be told."""

from __future__ import annotations

DOCUMENTATION = r"""
module: azure_report
short_description: report a bad node to Azure, so that it is taken back
description:
  - Takes from a kept run what failed on this node and which of Azure's categories that is, asks the node what it is called
    (M(azure_identity)), and shows the request. A node that does not answer is named by the run and the inventory.
  - Sends it only where O(confirmed) names the nodes of the play, all of them and no other, and never in check mode. Then it asks for the
    insights until the last one has come.
  - A GPU's serial number is in the request alone, in no result, log or output.
  - The same fault of the same run is never sent twice. To repeat the task goes on asking.
  - Fails for a node that is not proven bad, of which nothing has a category, or that is another machine than the run saw.
options:
  run_dir:
    description: The run folder that says what is wrong.
    type: path
    required: true
  limited:
    description: Whether the nodes were named with C(--limit); without, nothing is done.
    type: bool
    required: true
  confirmed:
    description: Names of the nodes to report, which have to be those of the play; nothing is sent without.
    type: list
    elements: str
    default: []
  category:
    description: Azure's category where the run's is not wanted or there is none; O(description) belongs to it.
    type: str
    default: ""
  description:
    description: What Azure should know, in place of what the checks saw.
    type: str
    default: ""
  log_url:
    description: Address of a log that Azure can read; without its signature.
    type: str
    default: ""
  subscription:
    description: Subscription that is onboarded and reports; the node's own where it is empty.
    type: str
    default: ""
  poll_s:
    description: Seconds between two questions for the insights.
    type: float
    default: 30
  timeout_s:
    description: Seconds after which the task no longer waits for the last insight.
    type: float
    default: 3600
  auth_source:
    description: How to log in, as azure.azcollection's option of that name; its own way where it is empty.
    type: str
    default: ""
  identity:
    description: Arguments of M(azure_identity), to replay a recorded node.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Shows the request and sends nothing.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Show what Azure would be told of this node
  azure_report:
    run_dir: results/20261127T190912Z
    limited: "{{ ansible_limit is defined }}"
"""

RETURN = r"""
request: {description: "What is sent, without serial numbers.", type: dict, returned: success}
impact: {description: The impact's path in Azure., type: str, returned: success}
sent: {description: "Whether it was sent, now.", type: bool, returned: success}
insights: {description: "What Azure said of it, the last one at the end.", type: list, elements: dict, returned: when confirmed}
"""

import json
import re

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.plumbline.controller.action import ControllerAction
from ansible.module_utils.plumbline.controller.azure import arm as azure_arm
from ansible.module_utils.plumbline.controller.azure import insights, report
from ansible.module_utils.plumbline.controller.report import data as run_data


class ActionModule(ControllerAction):
    """The action behind ``azure_report:``."""

    _requires_connection = True
    ARGUMENTS = {
        "run_dir": {"type": "path", "required": True},
        "limited": {"type": "bool", "required": True},
        "confirmed": {"type": "list", "elements": "str", "default": []},
        "category": {"type": "str", "default": ""},
        "description": {"type": "str", "default": ""},
        "log_url": {"type": "str", "default": ""},
        "subscription": {"type": "str", "default": ""},
        "poll_s": {"type": "float", "default": 30.0},
        "timeout_s": {"type": "float", "default": 3600.0},
        "auth_source": {"type": "str", "default": ""},
        "identity": {"type": "dict", "default": {}},
    }

    def answer(self, arguments, task_vars):
        """Return the request, and where it was confirmed what became of it; raises ValueError with what is wrong."""
        node = task_vars["inventory_hostname"]
        _allowed(arguments, task_vars["ansible_play_hosts_all"])
        data = run_data.load(arguments["run_dir"])
        about = report.faults(data, node)
        fault, problem = report.chosen(about, arguments["category"], arguments["description"])
        if problem:
            raise ValueError("%s: %s (%s)" % (node, problem, arguments["run_dir"]))
        identity, why = self._identity(arguments["identity"], task_vars)
        names, problems = report.named(identity, {key: task_vars.get(key) for key in ("id", "vmid")}, about["physical_host"])
        if problems:
            raise ValueError("%s: %s" % (node, "; ".join(problems + why)))
        run = data["run"]
        body = report.request(about, fault, names, identity, dict(arguments, run_id=run["run_id"], run_started_at=run["started_at"]))
        if not body["properties"]["startDateTime"]:
            raise ValueError("%s: the run does not say when it was, expected started_at in run.json" % node)
        subscription = arguments["subscription"] or report.subscription(names["resource_id"])
        path = report.IMPACTS % (subscription, report.impact_name(run["run_id"], body))
        self._show(node, path, body, about, fault, why)
        result = {"changed": False, "request": report.shown(body), "impact": path, "sent": False}
        if not arguments["confirmed"] or self._task.check_mode:
            names = ",".join(task_vars["ansible_play_hosts_all"])
            how = "check mode" if self._task.check_mode else "to send it: -e azure_report_confirm=%s" % names
            return dict(result, msg="%s: nothing was sent (%s). %s" % (node, how, AFTER))
        result.update(self._report(node, path, body, identity, arguments))
        return result

    def _report(self, node, path, body, identity, arguments):
        """Send the request and follow its insights; return the result's keys."""
        sent, found = False, []

        def say(item):
            found.append(dict(item, text=report.without_serials(item["text"], identity)))
            self._display.display("%s: Azure: %s %s" % (node, item["code"], found[-1]["text"]))

        try:
            arm = azure_arm.Arm(arguments["auth_source"] or None)
            sent = insights.send(arm, path, body)
            self._display.display(
                "%s: %s; now its insights are waited for" % (node, "sent" if sent else "was sent before, and is not again")
            )
            good, said = insights.judge(
                insights.follow(arm, path, arguments["poll_s"], arguments["timeout_s"], say), arguments["timeout_s"]
            )
        except azure_arm.Refused as error:
            good, said = False, "%s; %s" % (error, insights.remedy(error))
        said = report.without_serials("%s: %s" % (node, said), identity)
        return {"changed": sent, "sent": sent, "insights": found, "failed": not good, "msg": "%s [%s]" % (said, path)}

    def _identity(self, arguments, task_vars):
        """Return ``(what the node says it is, sentences about what it does not)``; None where it does not answer.

        Its answer holds serial numbers: neither Ansible's output nor that of the connection (-vvv) may show it.
        """
        # The connection may have settings of its own, made of the task's before this.
        hushed = (self._task, self._play_context, self._connection._play_context)
        was = [item.no_log for item in hushed]
        for item in hushed:
            item.no_log = True
        try:
            found = self._execute_module(module_name="azure_identity", module_args=dict(arguments, serials=True), task_vars=task_vars)
        except AnsibleConnectionFailure:
            return None, ["the node does not answer: it is named by the run and the inventory, and no serial number is known"]
        finally:
            for item, no_log in zip(hushed, was, strict=True):
                item.no_log = no_log
        if found.get("failed") or "problems" not in found:
            # Its msg alone: the rest of a failure quotes what the module printed.
            return None, ["the node could not be asked what it is: %s" % (str(found.get("msg") or "no message").splitlines()[0])]
        return found, list(found["problems"])

    def _show(self, node, path, body, about, fault, why):
        """Show the request, what else is wrong, and what is not known."""
        lines = ["%s: PUT %s?api-version=%s" % (node, path, report.IMPACT_API)]
        lines += json.dumps(report.shown(body), indent=2, ensure_ascii=False).splitlines()
        lines += ["%s: also failed: %s (%s)" % (node, item["check"], item["category"]) for item in about["found"] if item is not fault]
        lines += ["%s: has no category: %s (%s)" % (node, item["check"], item["why"]) for item in about["without"]]
        if fault["class"] in MENDED:
            lines.append("%s: %s" % (node, MENDED[fault["class"]]))
        lines += ["%s: %s" % (node, line) for line in why]
        for line in lines:
            self._display.display(line)


AFTER = "Reboot nothing before it is sent: what the node is called, and its GPUs' serial numbers, are read from it then"
MENDED = {
    "reset_gpu": "a reset of the GPU may mend this without Azure; the report takes the machine away",
    "reboot": "a reboot may mend this without Azure; the report takes the machine away",
}


def _allowed(arguments, nodes):
    """Raise ValueError where the nodes were not chosen, or others confirmed than were chosen."""
    if not arguments["limited"]:
        raise ValueError("a report takes machines away, so name them: --limit <node>[,<node>]")
    if not arguments["run_dir"]:
        raise ValueError("which run says what is wrong with them: -e azure_report_run_dir=results/<run id>")
    confirmed = [name.strip() for name in arguments["confirmed"]]
    if confirmed and sorted(confirmed) != sorted(nodes):
        said = "azure_report_confirm names %s and --limit chose %s, expected the same nodes: nothing was sent"
        raise ValueError(said % (", ".join(sorted(confirmed)), ", ".join(sorted(nodes))))
    address = arguments["log_url"]
    if address and (not address.startswith("https://") or re.search(r"[?&]sig=|@", address)):
        raise ValueError("azure_report_log_url has to be an https address without its signature (?…sig=…), which is a secret")
    for key in ("poll_s", "timeout_s"):
        if not 0 < arguments[key] < float("inf"):
            raise ValueError("azure_report_%s is %g, expected a number of seconds above 0" % (key, arguments[key]))
