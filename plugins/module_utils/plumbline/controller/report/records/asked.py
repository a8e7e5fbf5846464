"""What a run was asked for: phases by its tags and plays, layouts by its selection. Standard library only."""

from __future__ import annotations

from .reading import get, rows, texts, whole

# Roles whose incident shows that the run came to serving.
SERVING_ROLES = {"vllm_serve", "serve_benchmark"}


def asked(data, *words):
    """Return whether this run was to come to a phase whose name has one of these words.

    A play's name is in ``run.json`` even where ``--tags`` left none of its tasks: the tags decide then.
    """
    run = data["run"]
    tags = [str(tag).lower() for tag in run["tags"] if str(tag).lower() != "all"]
    names = tags or [str(phase.get("name") or "").lower() for phase in run["phases"]]
    skipped = " ".join(str(tag).lower() for tag in run["skip_tags"])
    return not run["check"] and any(word in name and word not in skipped for word in words for name in names)


def selected_layouts(data):
    """Return the names of the selection's layouts, each once."""
    names = [item.get("name") for item in rows(get(data["selection"], "layouts"))]
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def owed_layouts(data, served):
    """Return the layouts of the selection, if this run came to serving: each of them owes a fact.

    ``served`` says that some layout has a fact.
    """
    roles = {incident.get("role") for incident in data["incidents"]}
    if data["run"]["check"] or not (served or roles & SERVING_ROLES or asked(data, "bench", "serve")):
        return []
    return selected_layouts(data)


def lacking(data, name):
    """Return ``(needed, missing, excluded)`` of a layout that the selection could not give all its nodes, else None.

    ``needed`` and ``missing`` are numbers of nodes, ``excluded`` is ``{node: why}`` of those that are out because of their verdicts.
    """
    excluded = get(data["selection"], "excluded")
    for item in rows(get(data["selection"], "layouts")):
        missing = whole(item.get("missing"))
        if item.get("name") == name and missing:
            return len(texts(item.get("nodes"))) + missing, missing, excluded if isinstance(excluded, dict) else {}
    return None
