"""Who asks: client certificates, static bearer tokens, impersonation. Pure but for reading the token file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from twinstack.api.errors import StatusError, bad_request
from twinstack.server.messages import UserInfo

ANONYMOUS = UserInfo(name="system:anonymous", groups=("system:unauthenticated",))
AUTHENTICATED = "system:authenticated"

_SERVICE_ACCOUNT = "system:serviceaccount:"


class TokenFileError(ValueError):
    """A token file that cannot be used; the message names file and line."""


def certificate_user(certificate: Mapping[str, Any] | None) -> UserInfo:
    """The user that a verified certificate names: CN, and every O as a group.

    `certificate` is what `ssl.SSLSocket.getpeercert` gives; without one, or without a CN, anonymous.
    """
    if not certificate:
        return ANONYMOUS
    subject = [pair for name in certificate.get("subject", ()) for pair in name]
    names = [value for kind, value in subject if kind == "commonName"]
    if not names or not names[-1]:
        return ANONYMOUS
    groups = tuple(value for kind, value in subject if kind == "organizationName")
    return UserInfo(name=names[-1], groups=(*groups, AUTHENTICATED))


def read_tokens(path: str) -> dict[str, UserInfo]:
    """Read `--token-auth-file`: CSV lines `token,user,uid[,"group1,group2"]`. Raises TokenFileError, OSError."""
    tokens: dict[str, UserInfo] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, fields in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not fields or fields[0].startswith("#"):
                continue
            if len(fields) < 3 or not fields[0] or not fields[1]:
                raise TokenFileError(
                    f"{path}:{number}: a line is token,user,uid with groups as an optional fourth field"
                )
            groups = tuple(group.strip() for group in fields[3].split(",")) if len(fields) > 3 and fields[3] else ()
            if fields[0] not in tokens:
                tokens[fields[0]] = UserInfo(name=fields[1], groups=(*groups, AUTHENTICATED), uid=fields[2])
    return tokens


class Authenticator:
    """Decides who a request is from. The certificate's user, if any, comes first, then the bearer token."""

    def __init__(self, tokens: Mapping[str, UserInfo]) -> None:
        self._tokens = tokens

    def authenticate(self, certificate: UserInfo, headers: Mapping[str, str]) -> UserInfo:
        """The user of a request. Raises StatusError 401 for a token that nobody has."""
        user = certificate
        if user is ANONYMOUS:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and token:
                known = self._tokens.get(token.strip())
                if known is None:
                    raise StatusError(401, "Unauthorized", "Unauthorized")
                user = known
        return user


def impersonated(headers: Mapping[str, str]) -> UserInfo | None:
    """The user that `Impersonate-` headers ask for, if any. Raises StatusError 400 when only a part is given."""
    if not any(key.startswith("impersonate-") for key in headers):
        return None
    name = headers.get("impersonate-user", "")
    uid = headers.get("impersonate-uid", "")
    groups = tuple(part.strip() for part in headers.get("impersonate-group", "").split(",") if part.strip())
    extra = {
        key.removeprefix("impersonate-extra-"): value
        for key, value in headers.items()
        if key.startswith("impersonate-extra-")
    }
    if not name:
        if uid or groups or extra:
            raise bad_request(f"requested {_go_user(uid, groups, extra)} without impersonating a user name")
        return None
    if not groups and name.startswith(_SERVICE_ACCOUNT):
        namespace = name.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    if name == ANONYMOUS.name:
        groups = groups or ANONYMOUS.groups
    elif AUTHENTICATED not in groups and "system:unauthenticated" not in groups:
        groups = (*groups, AUTHENTICATED)
    return UserInfo(name=name, groups=groups, uid=uid)


def _go_user(uid: str, groups: tuple[str, ...], extra: Mapping[str, str]) -> str:
    """A user without a name as upstream's message prints it."""
    group_text = "[]string{" + ", ".join(f'"{group}"' for group in groups) + "}" if groups else "[]string(nil)"
    extra_text = "map[string][]string(nil)"
    if extra:
        entries = ", ".join(f'"{key}":[]string{{"{value}"}}' for key, value in sorted(extra.items()))
        extra_text = f"map[string][]string{{{entries}}}"
    return f'&user.DefaultInfo{{Name:"", UID:"{uid}", Groups:{group_text}, Extra:{extra_text}}}'
