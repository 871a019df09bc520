"""What requests ask for, the words of refusals, and modes in a row."""

from __future__ import annotations

import pytest

from twinstack.api.errors import StatusError
from twinstack.server.authentication import ANONYMOUS
from twinstack.server.authorization.decisions import Attributes, Authorizer, Decision, Rules, Union, Verdict
from twinstack.server.authorization.modes import AlwaysAllow, AlwaysDeny, in_order
from twinstack.server.authorization.refusals import forbidden, require
from twinstack.server.authorization.requests import attributes_of
from twinstack.server.messages import Request, UserInfo

BOB = UserInfo("bob")
ADMIN = UserInfo("admin", ("system:masters",))


def asked(method: str, target: str) -> Attributes:
    path, _, query = target.partition("?")
    pairs = [pair.split("=", 1) for pair in query.split("&") if pair]
    parameters = {name: [value] for name, value in pairs}
    return attributes_of(Request(method, path, parameters, {}, b"", BOB), BOB)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/pods", "list /pods"),
        ("GET", "/api/v1/namespaces/n/pods?watch=1", "watch n/pods"),
        ("GET", "/api/v1/namespaces/n/pods?watch=false", "list n/pods"),
        ("HEAD", "/api/v1/namespaces/n/pods/p", "get n/pods p"),
        ("GET", "/api/v1/namespaces/n/pods?fieldSelector=metadata.name=p", "list n/pods p"),
        ("GET", "/api/v1/namespaces/n/pods?fieldSelector=metadata.name!=p", "list n/pods"),
        ("DELETE", "/api/v1/namespaces/n/pods", "deletecollection n/pods"),
        ("DELETE", "/api/v1/namespaces/n/pods/p", "delete n/pods p"),
        ("POST", "/api/v1/namespaces/n/pods/p/exec", "create n/pods/exec p"),
        ("GET", "/api/v1/namespaces/n/services/s/proxy/a/b", "get n/services/proxy s"),
        ("GET", "/api/v1/namespaces", "list /namespaces"),
        ("GET", "/api/v1/namespaces/n", "get n/namespaces n"),
        ("PUT", "/api/v1/namespaces/n/finalize", "update n/namespaces/finalize n"),
        ("POST", "/apis/apps/v1/namespaces/n/deployments", "create n/deployments.apps"),
        ("PATCH", "/apis/apps/v1/namespaces/n/deployments/d/scale", "patch n/deployments/scale.apps d"),
        ("GET", "/apis/unknown.io/v7/things/t/", "get /things.unknown.io t"),
        ("GET", "/api/v1/watch/namespaces/n/pods", "watch n/pods"),
        ("GET", "/api/v1/proxy/nodes/n/x", "proxy /nodes n"),
        ("GET", "/api/v1", "get path /api/v1"),
        ("GET", "/apis/apps/v1", "get path /apis/apps/v1"),
        ("POST", "/healthz/x", "post path /healthz/x"),
    ],
)
def test_what_a_request_asks_for(method: str, target: str, expected: str) -> None:
    found = asked(method, target)
    if not found.resource_request:
        assert f"{found.verb} path {found.path}" == expected
        return
    resource = "/".join(filter(None, (found.resource, found.subresource))) + (f".{found.group}" if found.group else "")
    assert f"{found.verb} {found.namespace}/{resource} {found.name}".rstrip() == expected


def test_fields_that_a_list_demands() -> None:
    assert asked("GET", "/api/v1/pods?fieldSelector=spec.nodeName=n1,status.phase!=Failed").fields == {
        "spec.nodeName": "n1"
    }
    assert asked("GET", "/api/v1/pods?fieldSelector=nonsense").fields == {}


def test_refusals() -> None:
    error = forbidden(asked("GET", "/apis/apps/v1/namespaces/n/deployments/<d>"), "because <of that>")
    assert error.message == (
        'deployments.apps "<d>" is forbidden: User "bob" cannot get resource "deployments" in API group "apps" '
        'in the namespace "n": because <of that>'
    )
    assert error.details == {"name": "<d>", "group": "apps", "kind": "deployments"}
    assert forbidden(asked("GET", "/a&b"), "").message == 'forbidden: User "bob" cannot get path "/a&amp;b"'


class Says:
    """An authorizer with one opinion."""

    def __init__(self, decision: Decision, rules: Rules | None = None) -> None:
        self.decision = decision
        self.rules = rules or Rules()

    def authorize(self, attributes: Attributes) -> Decision:
        return self.decision

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return self.rules


ALLOWS, DENIES = Says(Decision(Verdict.ALLOW, "yes")), Says(Decision(Verdict.DENY, "no"))
SILENT, OTHER = Says(Decision(Verdict.NO_OPINION, "a")), Says(Decision(Verdict.NO_OPINION, "b", "broken"))


@pytest.mark.parametrize(
    ("members", "decision"),
    [
        ([], Decision(Verdict.NO_OPINION)),
        ([SILENT, OTHER], Decision(Verdict.NO_OPINION, "a\nb", "broken")),
        ([SILENT, ALLOWS, DENIES], ALLOWS.decision),
        ([SILENT, DENIES, ALLOWS], DENIES.decision),
    ],
)
def test_modes_in_a_row(members: list[Authorizer], decision: Decision) -> None:
    assert Union(members).authorize(asked("GET", "/x")) == decision


def test_an_authorizer_that_cannot_tell_is_an_internal_error() -> None:
    with pytest.raises(StatusError) as caught:
        require(OTHER, asked("GET", "/x"))
    assert (caught.value.code, caught.value.message) == (500, "Internal error occurred: broken")
    require(ALLOWS, asked("GET", "/x"))


def test_rules_of_all_modes_together() -> None:
    some = Says(SILENT.decision, Rules([{"verbs": ["get"]}], True, "not all"))
    more = Says(SILENT.decision, Rules([{"verbs": ["list"]}], False, "nor these"))
    expected = Rules([{"verbs": ["get"]}, {"verbs": ["list"]}], True, "[not all, nor these]")
    assert Union([some, more]).rules_for(BOB, "n") == expected


def test_masters_may_do_everything_and_always_deny_says_so() -> None:
    authorizer = in_order(["AlwaysDeny"], {"AlwaysDeny": AlwaysDeny})
    question = asked("GET", "/x")
    assert authorizer.authorize(question) == Decision(Verdict.NO_OPINION, "Everything is forbidden.")
    masters = Attributes(user=ADMIN, verb="get", path="/x", resource_request=False)
    assert authorizer.authorize(masters).allowed


def test_always_allow_keeps_strangers_to_health_and_version() -> None:
    for path, allowed in (
        ("/livez", True),
        ("/readyz/x", True),
        ("/version", True),
        ("/api", False),
        ("/livezz", False),
    ):
        question = Attributes(user=ANONYMOUS, verb="get", path=path, resource_request=False)
        assert AlwaysAllow().authorize(question).allowed is allowed
    assert AlwaysAllow().rules_for(BOB, "n").rules
    assert not AlwaysAllow().rules_for(ANONYMOUS, "n").rules
