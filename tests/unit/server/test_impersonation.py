"""Impersonation: who is asked for, what that needs, and whom one becomes."""

from __future__ import annotations

import pytest

from twinstack.api.errors import StatusError
from twinstack.server.authentication import ANONYMOUS
from twinstack.server.authorization.decisions import Attributes, Decision, Rules, Verdict
from twinstack.server.authorization.modes import AlwaysAllow
from twinstack.server.impersonation import become, impersonated
from twinstack.server.messages import UserInfo

ADMIN = UserInfo("admin", ("system:masters",))


def becomes(headers: dict[str, str]) -> UserInfo:
    wanted = impersonated(headers)
    assert wanted is not None
    return become(AlwaysAllow(), ADMIN, wanted)


def test_whom_one_becomes() -> None:
    assert impersonated({}) is None
    assert impersonated({"impersonate-user": ""}) is None
    headers = {"impersonate-user": "bob", "impersonate-group": "a, b\nc", "impersonate-uid": "5"}
    assert becomes(headers) == UserInfo("bob", ("a, b", "c", "system:authenticated"), "5")
    assert becomes({"impersonate-user": "bob", "impersonate-group": "system:unauthenticated"}).groups == (
        "system:unauthenticated",
    )
    assert becomes({"impersonate-user": "system:anonymous"}) == ANONYMOUS
    account = becomes({"impersonate-user": "system:serviceaccount:ns:robot"})
    assert account.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
    extra = becomes({"impersonate-user": "bob", "impersonate-extra-a%2fb": "x\ny"}).extra
    assert extra == (("a/b", ("x", "y")),)


class Asked:
    """An authorizer that refuses one resource and remembers every question."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.questions: list[tuple[str, str, str, str]] = []

    def authorize(self, attributes: Attributes) -> Decision:
        assert (attributes.user, attributes.verb) == (ADMIN, "impersonate")
        resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
        self.questions.append((attributes.group, resource, attributes.namespace, attributes.name))
        return Decision(Verdict.NO_OPINION if resource == self.refused else Verdict.ALLOW)

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return Rules()


def test_each_part_of_a_user_must_be_allowed() -> None:
    wanted = UserInfo("bob", ("g",), "7", (("scope", ("x", "y")),))
    asked = Asked()
    become(asked, ADMIN, wanted)
    own = "authentication.k8s.io"
    assert asked.questions == [
        ("", "users", "", "bob"),
        ("", "groups", "", "g"),
        (own, "userextras/scope", "", "x"),
        (own, "userextras/scope", "", "y"),
        (own, "uids", "", "7"),
    ]
    asked = Asked()
    become(asked, ADMIN, UserInfo("system:serviceaccount:ns:robot"))
    assert asked.questions == [("", "serviceaccounts", "ns", "robot")]
    for refused, message in (
        ("users", 'users "bob" is forbidden: User "admin" cannot impersonate resource "users" in API group ""'),
        ("groups", 'groups "g" is forbidden: User "admin" cannot impersonate resource "groups" in API group ""'),
        ("uids", 'uids.authentication.k8s.io "7" is forbidden: User "admin" cannot impersonate resource "uids"'),
        (
            "userextras/scope",
            'userextras.authentication.k8s.io "x" is forbidden: User "admin" cannot impersonate resource "userextras/',
        ),
    ):
        with pytest.raises(StatusError) as caught:
            become(Asked(refused), ADMIN, wanted)
        assert caught.value.code == 403
        assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("headers", "printed"),
    [
        ({"impersonate-uid": "x"}, 'UID:"x", Groups:[]string(nil), Extra:map[string][]string(nil)'),
        ({"impersonate-group": "g"}, 'UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)'),
        (
            {"impersonate-extra-foo": "x"},
            'UID:"", Groups:[]string(nil), Extra:map[string][]string{"foo":[]string{"x"}}',
        ),
    ],
)
def test_a_part_of_a_user_is_refused(headers: dict[str, str], printed: str) -> None:
    with pytest.raises(StatusError) as caught:
        impersonated(headers)
    message = f'requested &user.DefaultInfo{{Name:"", {printed}}} without impersonating a user name'
    assert (caught.value.code, caught.value.message) == (400, message)
