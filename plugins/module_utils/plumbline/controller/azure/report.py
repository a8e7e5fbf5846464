"""A node's fault as Guest Health Reporting takes it: what a kept run says of it, what it is called, and the request made of both.

Fields: learn.microsoft.com, azure-impact-reporting/guest-health-impact-report (2025-09 with later edits): startDateTime, impactCategory,
impactDescription, impactedResourceId, and under additionalProperties PhysicalHostName, VmUniqueId, LogUrl, for a GPU also Manufacturer,
SerialNumber, ModelNumber, Location, and UCE for a row that could not be remapped.
"""

from __future__ import annotations

import copy
import re
import uuid

from ...core.scrub import HIDDEN
from ...health import remedy
from ..report.records.entries import entry_reasons, entry_status, shared_by
from ..report.records.reading import get
from ..report.verdicts import node_verdicts
from . import categories

IMPACT_API = "2023-02-01-preview"
IMPACTS = "/subscriptions/%s/providers/Microsoft.Impact/workloadImpacts/%s"
IN_THE_REQUEST = "(in the request only)"

RESOURCE_ID = re.compile(
    r"/subscriptions/([0-9a-fA-F-]{36})/resourceGroups/[^/]+/providers/Microsoft\.Compute"
    r"/(?:virtualMachines|virtualMachineScaleSets/[^/]+/virtualMachines)/[^/]+",
    re.IGNORECASE,
)
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_LETTERS = 1000  # of a description: the causes, not the log


def faults(data, host):
    """Return what a loaded run says of a node: ``{"status", "found", "without", "physical_host", "measured"}``.

    ``found`` are failed checks with a ``category``, the one to report first; ``without`` are the others, with ``why``.
    ``physical_host`` is what the machine below was called when they were found; ``measured`` is of the health.
    """
    verdict = node_verdicts(data).get(host)
    found, without, seen_host, measured = [], [], None, {}
    for entry in (entry for entry in data["facts"] if entry["host"] == host and not shared_by(entry)):
        if entry["kind"] == "health" and not entry["problems"]:
            seen_host = get(entry["fact"], "context", "physical_host") or seen_host
            measured = get(entry["fact"], "measured") or measured
        if entry_status(entry) == "failed":
            for item in entry_reasons(entry):
                if item["status"] == "failed":
                    _sort_in(item, entry, found, without)
    for incident in data["incidents"]:
        if incident.get("host") == host:
            check = "unreachable" if incident.get("state") == "unreachable" else "task"
            without.append({"check": check, "seen": str(incident.get("task")), "why": categories.category(check, "")[1]})
    # What takes the node comes before what a reset may mend, and a part before a general category; then as they were found.
    found.sort(key=lambda item: (-remedy.CLASSES.index(item["class"]), categories.rank(item["category"])))
    status = verdict["status"] if verdict else None
    return {"status": status, "found": found, "without": without, "physical_host": seen_host, "measured": measured}


def _sort_in(item, entry, found, without):
    name, why = categories.category(item["check"], item["seen"])
    about = {"check": item["check"], "seen": item["seen"]}
    if name is None:
        without.append(dict(about, why=why))
        return
    kind, code = remedy.classify(item)
    started = str(get(entry["fact"], "started_at") or "")
    found.append(dict(about, category=name, fault_code=code, at=started, **{"class": kind}))


def named(identity, inventory, seen_host):
    """Return ``(names, problems)``: physical host, resource id and VM id from the node itself, the inventory and the run's own facts.

    ``identity`` is of the module azure_identity, None where the node does not answer; ``inventory`` has ``id`` and ``vmid``. Where two of
    them differ nothing can be reported: the fault belongs to the machine on which it was seen.
    """
    told = identity or {}
    problems = []
    both = (
        ("physical_host", told.get("physical_host"), seen_host, "the node now", "the run"),
        ("resource_id", told.get("resource_id"), inventory.get("id"), "the node", "the inventory"),
        ("vm_id", told.get("vm_id"), inventory.get("vmid"), "the node", "the inventory"),
    )
    names = {}
    for name, first, second, one, other in both:
        names[name] = first or second
        if first and second and first.lower() != second.lower():
            text = "its %s is %s by %s and %s by %s" % (name.replace("_", " "), first, one, second, other)
            problems.append(text + ": the fault was seen on another machine. Measure again (playbooks/health.yml), then report that run")
    if not names["resource_id"] or not RESOURCE_ID.fullmatch(names["resource_id"]):
        problems.append("its resource id is %s, expected a machine's of Azure: use inventory/azure" % (names["resource_id"] or "not known"))
    # Azure wants one of the two, and prefers the host's name.
    if not names["physical_host"] and not names["vm_id"]:
        problems.append("neither its physical host nor its VM id is known, expected one: the node does not tell, nor the run or inventory")
    for name, pattern in (("physical_host", HOST_NAME), ("vm_id", GUID)):
        if names[name] and not pattern.fullmatch(names[name]):
            problems.append("its %s is %r, which Azure would not take" % (name.replace("_", " "), names[name]))
    return names, problems


def chosen(about, category, description):
    """Return ``(fault, problem)`` to report: the first of the run, or the operator's own ``category`` with the ``description``."""
    if about["status"] is None:
        return None, "the run has nothing of it"
    if about["status"] != "failed":
        return None, "the run says %s of it, expected failed: nothing is reported of a node that was not proven bad" % about["status"]
    if category:
        if category.removeprefix(categories.PREFIX) not in categories.CATEGORIES or not category.startswith(categories.PREFIX):
            known = ", ".join(categories.PREFIX + name for name in categories.CATEGORIES)
            return None, "azure_report_category is %r, expected one of %s" % (category, known)
        if not description:
            return None, "azure_report_category is set and azure_report_description is not: say what Azure should look for"
        same = next((item for item in about["found"] if item["category"] == category), {})
        return dict({"check": None, "class": None, "at": "", "seen": ""}, **dict(same, category=category)), None
    if not about["found"]:
        why = "; ".join("%s: %s" % (item["check"], item["why"]) for item in about["without"]) or "no check failed"
        return None, "nothing of it has a category of Azure's (%s). To report it all the same set azure_report_category" % why
    return about["found"][0], None


def request(about, fault, names, identity, options):
    """Return the body to send. ``options`` has ``run_id``, ``run_started_at``, ``description`` and ``log_url``."""
    properties = {
        "startDateTime": fault["at"] or options["run_started_at"],
        "impactCategory": fault["category"],
        "impactDescription": (options["description"] or _description(about, fault))[:MOST_LETTERS],
        "impactedResourceId": names["resource_id"],
        "additionalProperties": {
            key: value
            for key, value in (
                ("PhysicalHostName", names["physical_host"]),
                ("VmUniqueId", names["vm_id"]),
                ("LogUrl", options["log_url"]),
            )
            if value
        },
    }
    if categories.of_a_gpu(fault["category"]):
        properties["additionalProperties"].update(_gpu(about, fault, identity or {}))
    return {"properties": properties}


def _description(about, fault):
    others = ["%s: %s" % (item["check"], item["seen"]) for item in about["found"] if item is not fault]
    return "; also ".join(["%s: %s" % (fault["check"], fault["seen"]), *others])


def _gpu(about, fault, identity):
    """Return what is known of the first GPU that the fault names: its place always, its serial number where the driver shows it."""
    addresses = categories.gpus_behind(fault["check"], fault["seen"])
    if not addresses:
        return {}
    gpu = next((gpu for gpu in identity.get("gpus") or [] if gpu["address"] == addresses[0]), {})
    found = {"Manufacturer": "NVIDIA", "SerialNumber": gpu.get("serial"), "ModelNumber": gpu.get("product")}
    found["Location"] = gpu.get("location") or addresses[0]
    if fault["category"].endswith(".HpcRowRemapFailure"):
        count = get(about["measured"], "gpus", addresses[0], "remap_uncorrected_count")
        found["UCE"] = None if count is None else str(count)
    return {key: value for key, value in found.items() if value}


def impact_name(run_id, body):
    """Return the impact's name: the same one for the same fault of the same run, so that it is never reported twice."""
    properties = body["properties"]
    text = "\n".join(("plumbline", run_id, properties["impactedResourceId"].lower(), properties["impactCategory"]))
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def subscription(resource_id):
    """Return the subscription of a resource's id."""
    return RESOURCE_ID.fullmatch(resource_id).group(1)


def shown(body):
    """Return a body as it may be seen: without serial numbers."""
    body = copy.deepcopy(body)
    more = body["properties"]["additionalProperties"]
    if "SerialNumber" in more:
        more["SerialNumber"] = IN_THE_REQUEST
    return body


def without_serials(text, identity):
    """Return a text of Azure's without the node's serial numbers, which it may quote."""
    for gpu in (identity or {}).get("gpus") or []:
        if gpu.get("serial"):
            text = text.replace(gpu["serial"], HIDDEN)
    return text
