"""Verdicts: one per node, one per layout, one for the run. Standard library only.

Node: the worst of its health, clocks, collective, link and model facts and of its incidents. What several nodes
measured together and missed is the run's, not a node's: it does not say which of them it was.
Layout: the worst of its startup and benchmark facts. Evidence that should be there and is not
counts as ``incomplete``; ``skipped`` is neutral.
"""

from __future__ import annotations

from ...core.fact import PASSING, STATUSES, first_reason, headline, reason, sentence, worst
from ..tally import SHOWN
from .records.asked import asked, lacking
from .records.entries import entry_reasons, entry_status, missed, shared_by
from .records.reading import get, plain, rows, texts

# Column of the node table -> kinds of facts in it.
PHASES = {
    "health": ("health",),
    "clocks": ("clocks",),
    "gpu_baseline": ("gpu_baseline",),
    "fabric": ("collective", "link"),
    "model": ("model",),
}

# Role that stopped -> column in which its incident shows; others show in "other".
ROLE_PHASE = {
    "node_health": "health",
    "gpu_clocks": "clocks",
    "gpu_baseline": "gpu_baseline",
    "fabric_baseline": "fabric",
    "model_sync": "model",
    "vllm_serve": "serve",
    "serve_benchmark": "serve",
}

# Facts that are taken beside a phase's measurements, and stand for none of them: a node that has only these was not measured.
BESIDE = ("ib_counters",)

# How facts of the copy of an image begin, which roles/vllm_serve makes: information, which says nothing of the model or the node. A node
# that did not get its image from another asks the registry, and that is judged.
IMAGE = "plumbline_image_"

# Phases of which every node owes a fact; of the others, every serving node does.
EVERYONE = ("health", "clocks", "gpu_baseline")

# Words in the name of a phase, or in a tag, by which every node is measured.
MEASURING = ("health", "clock", "gpu_baseline")

LOOK = "Read the task's message under Incidents, put it right, and run the playbook again."
REACH = "Check power, network and sshd: `ansible <node> -m ansible.builtin.ping`; then run the playbook again."


# Verdicts that one layout names of those that kept its nodes away; the table of nodes has all.
KEPT_AWAY_SHOWN = 3

NO_REASON = "no reason was recorded"

# Statuses with which there is nothing to look at.
CALM = ("healthy", "skipped")


def verdicts(records):
    """Return ``{overall, nodes, layouts, failed}`` of a run, from its :class:`Records`.

    ``nodes`` is :func:`node_verdicts`; ``layouts`` maps a name to ``{status, phases, reasons}``; ``failed`` lists
    ``{what, name, status, why, remedy}`` for every node, layout and problem that is failed or incomplete.
    """
    data = records.data
    nodes = node_verdicts(data)
    layouts = {layout["name"]: _layout(data, layout) for layout in records.layouts}
    failed = _failed("node", nodes) + _failed("layout", layouts)
    failed += [
        {"what": "run", "name": data["run"]["run_id"], "status": "incomplete", "why": text, "remedy": None} for text in data["problems"]
    ]
    failed += _together(data) + _elsewhere(data)
    overall = worst([verdict["status"] for group in (nodes, layouts) for verdict in group.values()] + [item["status"] for item in failed])
    return {"overall": overall, "nodes": nodes, "layouts": layouts, "failed": failed}


def node_verdicts(data):
    """Return ``{host: {status, role, phases, reasons}}`` of a loaded run folder, for every node in :func:`node_names`.

    ``data`` is what data.py's ``load`` returns: no record of layouts or fabric is made for it. ``role`` is :func:`role_of`.
    ``phases`` maps a column of the node table to its worst status, None where there is no fact; ``status`` is the worst of them.
    ``reasons`` are all reasons of the node, the worst first, each with its ``phase`` and its ``source``, the file that says so.
    """
    by_host = {}
    for entry in data["facts"]:
        by_host.setdefault(entry["host"], []).append(entry)
    examples = _examples(data)
    return {host: _node(data, host, by_host.get(host, []), examples) for host in node_names(data)}


def _failed(what, group):
    """Return what is failed or incomplete in a group of verdicts by name, with the first reason and what to do."""
    bad = {name: verdict for name, verdict in group.items() if missed(verdict["status"])}
    return [
        {
            "what": what,
            "name": name,
            "status": verdict["status"],
            "why": headline(verdict, NO_REASON),
            "remedy": (first_reason(verdict) or {}).get("remedy"),
        }
        for name, verdict in bad.items()
    ]


def node_names(data):
    """Return the target nodes in inventory order, then any other host that has facts."""
    names = data["run"]["hosts"] + sorted({entry["host"] for entry in data["facts"]})
    return list(dict.fromkeys(names))


def to_look_at(verdict):
    """Return the reason that explains a verdict with something to look at; None where it is healthy or skipped."""
    return None if verdict["status"] in CALM else first_reason(verdict)


def against_baseline(item):
    """Say how a number stands against its baseline (its reason, or None); no baseline is never a pass."""
    if item is None or item["status"] == "skipped":
        return "no baseline"
    return "%s: %s" % (item["status"], item["threshold"] or item["seen"])


def role_of(data, host):
    """Return ``serving``, ``spare``, ``excluded`` or None (no selection was made)."""
    selection = data["selection"] or {}
    if host in texts(selection.get("serving")):
        return "serving"
    if host in texts(selection.get("spares")):
        return "spare"
    excluded = selection.get("excluded")
    return "excluded" if isinstance(excluded, (dict, list)) and host in excluded else None


def _node(data, host, mine, examples):
    cells = {}
    reasons = []
    mine = [entry for entry in mine if not _of_an_image(entry)]
    for phase, kinds in PHASES.items():
        entries = [entry for entry in mine if entry["kind"] in kinds]
        cells[phase] = ["skipped" if _not_its_own(entry) else entry_status(entry) for entry in entries]
        for entry in entries:
            if _not_its_own(entry):
                continue
            reasons += [dict(item, phase=phase, source=entry["file"]) for item in _explained(entry)]
    for incident in (item for item in data["incidents"] if item.get("host") == host):
        phase = ROLE_PHASE.get(incident.get("role"), "other")
        cells.setdefault(phase, []).append("failed")
        reasons.append(dict(_incident(incident), phase=phase, source="incidents.json"))
    for phase, item in _missing(data, host, mine, cells, examples):
        cells.setdefault(phase, []).append(item["status"])
        reasons.append(dict(item, phase=phase, source=None))
    # No fact at all for a phase is no status, not "skipped": the table says "not run".
    status = {phase: worst(found) if found else None for phase, found in cells.items()}
    return {
        "status": worst(value for value in status.values() if value),
        "role": role_of(data, host),
        "phases": status,
        "reasons": sorted(reasons, key=lambda item: -STATUSES.index(item["status"])),
    }


def _explained(entry):
    """Return a fact's reasons; where none has the fact's own status, one that says so."""
    found = entry_reasons(entry)
    status = entry_status(entry)
    if status != "healthy" and not any(item["status"] == status for item in found):
        found.append(reason(entry["kind"], status, "%s says %s and gives no reason" % (entry["file"], status)))
    return found


def _incident(incident):
    lost = incident.get("state") == "unreachable"
    seen = "%s at task %r: %s" % (
        "stopped answering" if lost else "failed",
        str(incident.get("task") or "unknown"),
        str(incident.get("message") or "no message"),
    )
    return reason(
        "unreachable" if lost else "task", "failed", " ".join(seen.split()), None, incident.get("remedy") or (REACH if lost else LOOK)
    )


def _missing(data, host, mine, cells, examples):
    """Yield ``(phase, reason)`` for evidence that this node should have left and did not."""
    # A node that was excluded or lost is not measured further: its own verdict says why.
    if role_of(data, host) == "excluded" or "failed" in sum(cells.values(), []):
        return
    owed = [(phase, examples[phase]) for phase in PHASES if not _measured(mine, phase, cells) and _owes(data, host, phase, examples)]
    if not mine and (owed or asked(data, *MEASURING)):
        yield (
            "other",
            reason(
                "evidence",
                "incomplete",
                "no fact and no incident at all",
                "at least one fact of every node",
                "Did the run stop early? Run the playbook again on this node.",
            ),
        )
        return
    for phase, example in owed:
        yield (
            phase,
            reason(
                "evidence",
                "incomplete",
                "no %s fact, though %s has one" % (phase, example),
                "one of every node" if phase in EVERYONE else "one of every serving node",
                "Run this phase again: `ansible-playbook site.yml --tags %s`" % phase,
            ),
        )


def _measured(mine, phase, cells):
    """Return whether a node left anything of a phase: a measurement's fact, or an incident."""
    beside = sum(1 for entry in mine if entry["kind"] in PHASES[phase] and entry["name"] in BESIDE)
    return len(cells[phase]) > beside


def _examples(data):
    """Return for each phase the first node, by name, that has a measurement's fact of it, None where none has."""
    measured = [entry for entry in data["facts"] if entry["name"] not in BESIDE and not _of_an_image(entry) and not _of_a_group(entry)]
    hosts = {phase: {entry["host"] for entry in measured if entry["kind"] in kinds} for phase, kinds in PHASES.items()}
    return {phase: min(found, default=None) for phase, found in hosts.items()}


def _of_an_image(entry):
    """Return whether a fact is of an image's copy."""
    return entry["kind"] == "model" and str(entry["name"]).startswith(IMAGE)


def _of_a_group(entry):
    """Return whether a fact says nothing of what other nodes owe: its host left it for a group, of which a fleet has one or a few.

    With one GPU a node there is no collective within it, and the nodes beside the head leave none at all.
    """
    context = plain(entry["fact"].get("context"))
    if entry["kind"] == "link":
        return len(texts(context.get("nodes"))) > 1 and not context.get("node")
    return entry["kind"] == "collective" and (context.get("scope") == "across" or entry["name"] == "serving_all_reduce")


def _owes(data, host, phase, examples):
    """Return whether this node has to have a fact of this phase: others have, and it is one of those that should."""
    return examples[phase] is not None and (phase in EVERYONE or role_of(data, host) == "serving")


def _layout(data, layout):
    reasons = []
    status = {}
    for kind in ("startup", "benchmark"):
        entries = layout["entries"][kind]
        status[kind] = worst(entry_status(entry) for entry in entries) if entries else None
        for entry in entries:
            reasons += [dict(item, phase=kind, source=entry["file"]) for item in _explained(entry)]
    for kind, item in _layout_missing(data, layout, status):
        status[kind] = worst([status[kind] or "skipped", item["status"]])
        reasons.append(dict(item, phase=kind, source=None))
    return {
        "status": worst(value for value in status.values() if value),
        "phases": status,
        "reasons": sorted(reasons, key=lambda item: -STATUSES.index(item["status"])),
    }


def _layout_missing(data, layout, status):
    again = "See the incidents of this run and server.log on the head node, then run the playbook again."
    if not any(status.values()):
        lack = lacking(data, layout["name"])
        if lack:
            yield "startup", _not_started(data, *lack)
            return
        kept_away = _kept_away(data, layout["name"])
        yield "startup", kept_away or reason("evidence", "incomplete", "asked for, and left no fact", "a startup fact", again)
        return
    if status["startup"] is None:
        yield "startup", reason("evidence", "incomplete", "benchmark without a startup fact", "a startup fact", again)
    wanted = any(entry["kind"] == "benchmark" for entry in data["facts"]) or asked(data, "bench", "serve")
    if status["benchmark"] is None and status["startup"] in PASSING and wanted:
        yield "benchmark", reason("evidence", "incomplete", "served, but left no benchmark fact", "one", again)
    # "It spans two nodes" is a claim that Ray's own node list has to support.
    if status["benchmark"] in PASSING and layout["executor"] == "ray" and (layout["nodes"] or 0) > 1:
        if len(layout["ray_addresses"]) < layout["nodes"]:
            yield (
                "benchmark",
                reason(
                    "ray.nodes",
                    "incomplete",
                    "Ray named %d address(es): %s" % (len(layout["ray_addresses"]), ", ".join(layout["ray_addresses"]) or "none"),
                    "%d different addresses" % layout["nodes"],
                    "Check `ray status` on the head node and that every node joined before the server started.",
                ),
            )


def _not_started(data, needed, missing, excluded):
    """Return the reason of a layout that had too few nodes: which verdict kept which node away."""
    examples = _examples(data)
    bad = [(host, item) for host in excluded for item in _worst_by_phase(_node(data, host, _of_host(data, host), examples))]
    told = ["%s by its %s: %s" % (host, item["phase"], sentence(item)) for host, item in bad[:KEPT_AWAY_SHOWN]]
    told += ["and %d more" % (len(bad) - KEPT_AWAY_SHOWN)] if len(bad) > KEPT_AWAY_SHOWN else []
    told = told or ["%s by its %s" % pair for pair in excluded.items()]
    seen = "not started, %d of %d node(s) left" % (needed - missing, needed)
    return reason(
        "selection",
        "incomplete",
        "%s; kept away: %s" % (seen, "; ".join(told)) if told else "%s, and no node was kept away: there are too few" % seen,
        "%d node(s) whose verdicts are neither failed nor incomplete" % needed,
        next((item["remedy"] for _host, item in bad if item["remedy"]), "Put right what those verdicts name, and run the playbook again."),
    )


def _kept_away(data, name):
    """Return the reason of a layout that had its nodes and was not served: what went wrong on them before; None where nothing did."""
    nodes = next((texts(item.get("nodes")) for item in rows(get(data["selection"], "layouts")) if item.get("name") == name), [])
    examples = _examples(data)
    bad = [(host, item) for host in nodes for item in _worst_by_phase(_node(data, host, _of_host(data, host), examples))]
    if not bad:
        return None
    told = ["%s by its %s: %s" % (host, item["phase"], sentence(item)) for host, item in bad[:KEPT_AWAY_SHOWN]]
    told += ["and %d more" % (len(bad) - KEPT_AWAY_SHOWN)] if len(bad) > KEPT_AWAY_SHOWN else []
    return reason(
        "evidence",
        "incomplete",
        "not served; its nodes were kept away: %s" % "; ".join(told),
        "a startup fact",
        next((item["remedy"] for _host, item in bad if item["remedy"]), "Put right what those verdicts name, and run the playbook again."),
    )


def _of_host(data, host):
    return [entry for entry in data["facts"] if entry["host"] == host]


def _worst_by_phase(verdict):
    """Return for each phase of a node that is failed or incomplete its worst reason."""
    found = {}
    for item in verdict["reasons"]:
        if missed(item["status"]):
            found.setdefault(item["phase"], item)
    return list(found.values())


def _not_its_own(entry):
    """Return whether a fact is a failure of several nodes together, which accuses none of them."""
    return missed(entry_status(entry)) and bool(shared_by(entry))


def _together(data):
    """Return the failures that several nodes share, each once, whichever of them kept a fact of it."""
    found = {}
    for entry in data["facts"]:
        if not _not_its_own(entry):
            continue
        reasons = sorted(_explained(entry), key=lambda item: -STATUSES.index(item["status"]))
        item = {
            "what": entry["kind"],
            "name": entry["name"],
            "status": entry_status(entry),
            "why": "%s; between %s" % (sentence(reasons[0]), ", ".join(shared_by(entry))),
            "remedy": reasons[0]["remedy"],
        }
        key = entry["kind"], entry["name"], get(entry["fact"], "context", "tool")
        if key not in found or STATUSES.index(item["status"]) > STATUSES.index(found[key]["status"]):
            found[key] = item
    return list(found.values())


def _elsewhere(data):
    """Return failures of hosts that are no target node, such as work on the controller."""
    known = set(node_names(data))
    return [
        {
            "what": "host",
            "name": str(incident.get("host") or "unknown"),
            "status": "failed",
            "why": sentence(_incident(incident)),
            "remedy": LOOK,
        }
        for incident in data["incidents"]
        if incident.get("host") not in known
    ]


# Of more nodes than SHOWN, those with nothing to look at are counted, and those that tell the same are named together, up to so many.
NAMED = 8


def lines(found):
    """Return the verdicts for the end of the run: a line per layout and per node, the worst nodes first.

    Of a fleet of more than :data:`SHOWN` nodes one line counts those with nothing to look at.
    """
    nodes = sorted(found["nodes"].items(), key=lambda item: -STATUSES.index(item[1]["status"]))
    large = len(nodes) > SHOWN
    result, calm = [], {}
    for name, verdict in nodes:
        if large and verdict["status"] in CALM:
            calm.setdefault(verdict["status"], []).append(name)
        else:
            result.append(("node", name, verdict["status"], _why(verdict)))
    told = ["%-6s %-14s %s%s" % (what, _names(names), status, why) for what, names, status, why in _grouped(result, large)]
    told += ["%d nodes are %s: %s" % (len(names), status, _names(names)) for status, names in calm.items()]
    told += ["%-6s %-14s %s%s" % ("layout", name, item["status"], _why(item)) for name, item in found["layouts"].items()]
    return told


def _why(verdict):
    return "" if verdict["status"] in CALM else ": " + headline(verdict, NO_REASON)


def _grouped(items, large):
    """Return ``(what, [names], status, why)`` of ``(what, name, status, why)``: of a large fleet, those that tell the same together."""
    found = {}
    for place, (what, name, status, why) in enumerate(items):
        found.setdefault((what, status, why, None if large else place), []).append(name)
    return [(what, names, status, why) for (what, status, why, _place), names in found.items()]


def _names(names):
    """Name the nodes of a group: all, or the first and how many more."""
    return ", ".join(names[:NAMED]) + (" and %d more" % (len(names) - NAMED) if len(names) > NAMED else "")


def why_list(found):
    """Return the failed and incomplete as sentences with what to do; of a large fleet, nodes that tell the same together."""
    large = len(found["nodes"]) > SHOWN
    items = [
        (item["what"], item["name"], item["status"], item["why"] + (" → %s" % item["remedy"] if item["remedy"] else ""))
        for item in sorted(found["failed"], key=lambda item: -STATUSES.index(item["status"]))
    ]
    return [
        "%s %s %s %s: %s" % (what if len(names) == 1 else what + "s", _names(names), "is" if len(names) == 1 else "are", status, why)
        for what, names, status, why in _grouped(items, large)
    ]
