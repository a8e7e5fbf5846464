"""Services that a SKU wants running, and those that it wants out of the way."""

from __future__ import annotations

from ...core.fact import reason

RUNS = ("active", "reloading")


def check_services(evidence, expect):
    """Services by name, where the SKU names any. One that is not installed is said and not judged: what it does has its own check."""
    wanted, unwanted = expect.get("services_active") or [], expect.get("services_inactive") or []
    seen = evidence["services"]
    if not wanted and not unwanted:
        return []
    if seen["absent"]:
        return [reason("services", "skipped", seen["absent"], "systemd runs")]
    if seen["error"]:
        return [reason("services", "incomplete", seen["error"], "systemctl show answers", "look at systemctl on the node")]
    found = [_judge("services.active", seen["units"], wanted, True)] if wanted else []
    return found + ([_judge("services.inactive", seen["units"], unwanted, False)] if unwanted else [])


def _judge(check, units, names, runs):
    """Return one reason for all services of a kind; ``runs`` says whether they should."""
    threshold = "%s: %s" % (", ".join(names), "running" if runs else "not running")
    there = [name for name in names if units[name].get("LoadState") != "not-found"]
    bad = [name for name in there if (units[name].get("ActiveState") in RUNS) != runs]
    absent = [name for name in names if name not in there]
    tail = "; not installed: %s" % ", ".join(absent) if absent else ""
    if bad:
        text = ", ".join("%s is %s" % (name, _state(units[name])) for name in bad)
        remedy = "systemctl status says why; systemctl start" if runs else "systemctl disable --now"
        return reason(check, "degraded", text + tail, threshold, "%s %s" % (remedy, " ".join(bad)))
    if not there:
        return reason(check, "healthy" if not runs else "skipped", tail[2:], threshold)
    return reason(check, "healthy", "%s as it should be%s" % (", ".join(there), tail), threshold)


def _state(unit):
    """Return a unit's state as systemctl words it: ``failed (exit-code)``, ``inactive (dead)``, ``masked``."""
    if unit.get("LoadState") == "masked":
        return "masked"
    state = unit.get("ActiveState") or "in no known state"
    return "%s (%s)" % (state, unit.get("Result") if state == "failed" else unit.get("SubState"))
