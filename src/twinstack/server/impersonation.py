"""Acting as somebody else: `Impersonate-` headers, and what one needs to be allowed for each of them. Pure.

A header that is repeated comes here as its values with line feeds between, which no header can hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from urllib.parse import unquote

from twinstack.api.errors import bad_request, go_value
from twinstack.server.authentication import ANONYMOUS, AUTHENTICATED
from twinstack.server.authorization.decisions import Attributes, Authorizer
from twinstack.server.authorization.refusals import forbidden
from twinstack.server.messages import UserInfo

_PREFIX = "impersonate-"
_EXTRA = f"{_PREFIX}extra-"
_SERVICE_ACCOUNT = "system:serviceaccount:"
_UNAUTHENTICATED = "system:unauthenticated"


def impersonated(headers: Mapping[str, str]) -> UserInfo | None:
    """The user that the headers ask for, with just what they name. Raises StatusError 400 without a name."""
    if not any(key.startswith(_PREFIX) for key in headers):
        return None
    name = headers.get(f"{_PREFIX}user", "")
    uid = headers.get(f"{_PREFIX}uid", "")
    groups = tuple(_values(headers.get(f"{_PREFIX}group", "")))
    extra = tuple(
        (unquote(key.removeprefix(_EXTRA)), tuple(_values(value)))
        for key, value in sorted(headers.items())
        if key.startswith(_EXTRA)
    )
    if name:
        return UserInfo(name=name, groups=groups, uid=uid, extra=extra)
    if uid or groups or extra:
        shown = _go_user(uid, groups, extra)
        raise bad_request(f"requested {shown} without impersonating a user name")
    return None


def become(authorizer: Authorizer, user: UserInfo, wanted: UserInfo) -> UserInfo:
    """Who `user` is from now on, with the groups that go without saying. Raises StatusError 403 unless allowed."""
    for attributes in _questions(user, wanted):
        decision = authorizer.authorize(attributes)
        if not decision.allowed:
            raise forbidden(attributes, decision.reason)
    namespace, account = _account(wanted.name)
    groups = wanted.groups
    if account and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    if wanted.name == ANONYMOUS.name:
        groups = groups if _UNAUTHENTICATED in groups else (*groups, _UNAUTHENTICATED)
    elif AUTHENTICATED not in groups and _UNAUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return UserInfo(name=wanted.name, groups=groups, uid=wanted.uid, extra=wanted.extra)


def forget(headers: dict[str, str]) -> None:
    """Take the headers out: whoever the request is passed on to must not act on them again."""
    for key in [key for key in headers if key.startswith(_PREFIX)]:
        del headers[key]


def _questions(user: UserInfo, wanted: UserInfo) -> Iterator[Attributes]:
    """One for each part of the user that is wanted."""
    namespace, account = _account(wanted.name)
    ask = partial(Attributes, user=user, verb="impersonate")
    if account:
        yield ask(resource="serviceaccounts", namespace=namespace, name=account)
    else:
        yield ask(resource="users", name=wanted.name)
    for group in wanted.groups:
        yield ask(resource="groups", name=group)
    ask = partial(ask, group="authentication.k8s.io", version="v1")
    for key, values in wanted.extra:
        for value in values:
            yield ask(resource="userextras", subresource=key, name=value)
    if wanted.uid:
        yield ask(resource="uids", name=wanted.uid)


def _account(name: str) -> tuple[str, str]:
    """Namespace and name of the service account that a user is; empty if it is none."""
    namespace, _, account = name.removeprefix(_SERVICE_ACCOUNT).partition(":")
    known = name.startswith(_SERVICE_ACCOUNT) and namespace and account and ":" not in account
    return (namespace, account) if known else ("", "")


def _values(text: str) -> list[str]:
    return text.split("\n") if text else []


def _go_user(uid: str, groups: tuple[str, ...], extra: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """A user without a name as upstream's message prints it."""
    extra_text = "map[string][]string(nil)"
    if extra:
        entries = ", ".join(f"{go_value(key)}:{_go_slice(values)}" for key, values in extra)
        extra_text = f"map[string][]string{{{entries}}}"
    return f'&user.DefaultInfo{{Name:"", UID:{go_value(uid)}, Groups:{_go_slice(groups)}, Extra:{extra_text}}}'


def _go_slice(values: tuple[str, ...]) -> str:
    return "[]string{" + ", ".join(map(go_value, values)) + "}" if values else "[]string(nil)"
