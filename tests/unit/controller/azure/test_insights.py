"""Insights are followed to the last one; what no end came of, and what Azure refuses, says what to do."""

from __future__ import annotations

import sys

import pytest
from ansible.module_utils.plumbline.controller.azure import arm, insights
from ansible.module_utils.plumbline.controller.azure.arm import Refused

PATH = "/subscriptions/a/providers/Microsoft.Impact/workloadImpacts/b"


class MockArm:
    """Stands in for Azure's resource manager: hands out the answers one by one, the last for ever."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def _next(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, method, path, version, body=None):
        self.asked.append((method, version, body))
        return 200, self._next()

    def all_of(self, path, version):
        self.asked.append((path, version))
        return self._next()


class Clock:
    """A clock that goes on when somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def insight(name, terminal, at, **more):
    details = {"statusCode": name, "terminalInsight": terminal}
    return {
        "name": name,
        "properties": {"additionalDetails": details, "content": {"title": "t", "description": "d"}, "eventTime": at, **more},
    }


FIRST, LAST = insight("AcknowledgedUnhealthy", False, "2026-01-01"), insight("NodeRemovedFromService", True, "2026-01-02")


def followed(arm, limit_s=100):
    clock, said = Clock(), []
    found = insights.follow(arm, PATH, 30, limit_s, said.append, clock, clock.sleep)
    return found, [item["code"] for item in said], clock.slept


def test_asked_until_one_is_terminal_and_each_is_told_once():
    azure = MockArm([], [FIRST], [LAST, FIRST])
    found, said, slept = followed(azure)
    assert said == ["AcknowledgedUnhealthy", "NodeRemovedFromService"] and slept == [30, 30]
    assert azure.asked == [(PATH + "/insights", "2025-01-01-preview")] * 3
    good, text = insights.judge(found, 100)
    assert good and text.startswith("Azure takes the node back: NodeRemovedFromService (t d)")


def test_time_is_up_after_the_limit_and_the_last_question_comes_at_it():
    found, said, slept = followed(MockArm([FIRST]))
    assert slept == [30, 30, 30, 10] and said == ["AcknowledgedUnhealthy"]
    good, text = insights.judge(found, 100)
    assert not good and "no terminal insight within 100 s" in text and "sends nothing twice" in text
    assert "none came" in insights.judge([], 100)[1]


@pytest.mark.parametrize("terminal", [True, "true", "True"])
def test_what_azure_calls_the_end(terminal):
    assert insights.of(insight("x", terminal, ""))["terminal"] is True


@pytest.mark.parametrize("item", [{}, {"name": None, "properties": None}, {"properties": {"content": None, "additionalDetails": None}}])
def test_an_insight_with_holes_is_no_end(item):
    assert insights.of(item)["terminal"] is False and insights.of(item)["code"] == "no status code"


@pytest.mark.parametrize(("code", "words"), [("TooManyRequests", "did not take this one"), ("Odd", "an end that is not known here")])
def test_another_end_is_no_success(code, words):
    good, text = insights.judge([insights.of(insight(code, True, ""))], 1)
    assert not good and words in text


def test_what_is_there_already_is_not_sent_again():
    there, absent = MockArm({}), MockArm(Refused("no", 404, "ResourceNotFound"), {})
    assert insights.send(there, PATH, {"a": 1}) is False and [item[0] for item in there.asked] == ["GET"]
    assert insights.send(absent, PATH, {"a": 1}) is True
    assert absent.asked[1] == ("PUT", "2023-02-01-preview", {"a": 1})


@pytest.mark.parametrize("error", [Refused("no", 403, "AuthorizationFailed"), Refused("no", 404, "InvalidResourceType"), Refused("no")])
def test_nothing_is_sent_where_azure_does_not_say_whether_it_is_there(error):
    azure = MockArm(error)
    with pytest.raises(Refused):
        insights.send(azure, PATH, {})
    assert [item[0] for item in azure.asked] == ["GET"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "InvalidAuthenticationToken", "az login"),
        (403, "AuthorizationFailed", "Impact Reporter"),
        (409, "MissingSubscriptionRegistration", "az provider register"),
        (400, "NoRegisteredProviderFound", "not onboarded"),
        (400, "BadRequest", "compare it"),
        (409, "Conflict", "sends nothing twice"),
        (429, "TooManyRequests", "wait"),
        (503, "ServerBusy", "sends nothing twice"),
        (None, "", "network and login"),
    ],
)
def test_every_refusal_has_a_remedy(status, code, words):
    assert words in insights.remedy(Refused("no", status, code))


def test_without_the_sdk_it_says_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.core", None)
    with pytest.raises(Refused, match="make azure"):
        arm.Arm()
