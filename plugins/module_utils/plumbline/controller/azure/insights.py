"""Sends an impact and follows its insights to the last one, as Guest Health Reporting gives them.

An insight has ``additionalDetails.statusCode`` and ``additionalDetails.terminalInsight``; after one that is terminal none follows
(learn.microsoft.com, azure-impact-reporting/guest-health-impact-report).
"""

from __future__ import annotations

import time

from . import arm as azure_arm
from .report import IMPACT_API

INSIGHTS_API = "2025-01-01-preview"
TAKEN = "NodeRemovedFromService"
THROTTLED = "TooManyRequests"

ROLE = (
    "the login needs the role Impact Reporter on the subscription:"
    " az role assignment create --assignee <id> --role 'Impact Reporter' --scope /subscriptions/<id>"
)
REGISTER = "register the provider, az provider register --namespace Microsoft.Impact, and wait until it is Registered"
ONBOARD = (
    "the subscription is not onboarded to Guest Health Reporting, a preview: register Microsoft.Impact, send its id and the tenant's to"
    " your contact at Azure, and wait for the confirmation (docs/azure.md)"
)
NOT_ONBOARDED = ("InvalidResourceType", "NoRegisteredProviderFound", "FeatureNotRegistered", "SubscriptionNotRegisteredForFeature")


def remedy(error):
    """Return what to do about a refusal."""
    if error.code in ("MissingSubscriptionRegistration", "SubscriptionNotRegistered"):
        return REGISTER
    if error.code in NOT_ONBOARDED:
        return ONBOARD
    return {
        400: "Azure does not take this request; compare it with what was shown. If it does not know the category, " + ONBOARD,
        401: "log in again (az login)",
        403: "%s. If it has it, %s" % (ROLE, ONBOARD),
        404: "is the subscription right? If it is, " + ONBOARD,
        409: "the impact is being worked on: the same command again follows it and sends nothing twice",
        429: "it stayed so after all repetitions: wait, then the same command again",
        None: "look at the controller's network and login, then the same command again; it sends nothing twice",
    }.get(error.status, "the same command again; it sends nothing twice")


def send(arm, path, body):
    """Send an impact unless it is there already; return whether it was sent. Raises ``arm.Refused``."""
    try:
        arm.ask("GET", path, IMPACT_API)
        return False
    except azure_arm.Refused as error:
        # Of a provider or type that it does not know Azure says 404 too.
        if error.status != 404 or error.code in NOT_ONBOARDED:
            raise
    arm.ask("PUT", path, IMPACT_API, body)
    return True


def of(item):
    """Return an insight as ``{"name", "code", "terminal", "text", "at"}``."""
    inner = item.get("properties") or {}
    details, content = inner.get("additionalDetails") or {}, inner.get("content") or {}
    words = [str(content[key]) for key in ("title", "description") if content.get(key)]
    return {
        "name": str(item.get("name")),
        "code": str(details.get("statusCode") or "no status code"),
        "terminal": details.get("terminalInsight") is True or str(details.get("terminalInsight")).lower() == "true",
        "text": " ".join(" ".join(words).split()),
        "at": str(inner.get("eventTime") or ""),
    }


def follow(arm, path, every_s, limit_s, say, clock=time.monotonic, sleep=time.sleep):
    """Ask until an insight is terminal or ``limit_s`` seconds are over; return all insights. ``say`` gets each new one, once."""
    end, told = clock() + limit_s, set()
    while True:
        found = sorted((of(item) for item in arm.all_of(path + "/insights", INSIGHTS_API)), key=lambda item: (item["terminal"], item["at"]))
        for item in found:
            if item["name"] not in told:
                told.add(item["name"])
                say(item)
        if any(item["terminal"] for item in found) or clock() >= end:
            return found
        sleep(max(0.0, min(every_s, end - clock())))


def judge(found, limit_s):
    """Return ``(good, sentence)`` of where an impact came."""
    last = next((item for item in reversed(found) if item["terminal"]), None)
    if last is None:
        seen = "the last was %s" % found[-1]["code"] if found else "none came"
        return False, (
            "no terminal insight within %g s (azure_report_timeout_s), %s. Azure has the report: the same command again goes on asking and"
            " sends nothing twice. If none comes for a day, give the impact's id to your contact at Azure" % (limit_s, seen)
        )
    said = "%s (%s)" % (last["code"], last["text"] or "no words")
    if last["code"] == TAKEN:
        return (
            True,
            "Azure takes the node back: %s. Deallocate or delete the instance, so that it can be repaired and you get another" % said,
        )
    if last["code"] == THROTTLED:
        return False, "Azure took too many reports and did not take this one: %s. Wait, then report a new run's fault" % said
    return False, "Azure came to an end that is not known here: %s. Read its words; the node may not have been taken" % said
