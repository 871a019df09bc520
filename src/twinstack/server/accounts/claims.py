"""The claims of service-account tokens: how they are made, and whether they still hold. Pure.

KEP-1205 (bound tokens) and KEP-4193 (node and credential id); what earlier releases wrote into Secrets is read, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from twinstack.api.resources import Resource, resource
from twinstack.server.authentication import AUTHENTICATED, InvalidToken
from twinstack.server.messages import UserInfo

JSON = dict[str, Any]

ACCOUNTS = resource("", "serviceaccounts")
PODS = resource("", "pods")
SECRETS = resource("", "secrets")
NODES = resource("", "nodes")
LEGACY_ISSUER = "kubernetes/serviceaccount"
USER_PREFIX = "system:serviceaccount:"
_GROUP = "system:serviceaccounts"
_EXTRA = "authentication.kubernetes.io/"
_LEEWAY = 60  # seconds: clocks differ, and what was deleted just now may still say good-bye
_INVALIDATED = "service account token has been invalidated"


class Ref(msgspec.Struct, frozen=True):
    name: str = ""
    uid: str = ""

    def as_json(self) -> JSON:
        return {"name": self.name, "uid": self.uid} if self.uid else {"name": self.name}


class Found(msgspec.Struct, frozen=True):
    """What is asked of a stored object: whose it is, and until when it counts."""

    uid: str
    deleted_at: float | None = None  # Unix seconds; None: it stays


Lookup = Callable[[Resource, str, str], Found | None]


class _Kubernetes(msgspec.Struct):
    namespace: str = ""
    serviceaccount: Ref = Ref()
    pod: Ref | None = None
    secret: Ref | None = None
    node: Ref | None = None
    warnafter: int | None = None


class BoundClaims(msgspec.Struct):
    """A token that somebody asked for. Times are Unix seconds."""

    iss: str = ""
    sub: str = ""
    aud: str | list[str] = []
    exp: float | None = None
    nbf: float | None = None
    iat: float | None = None
    jti: str = ""
    kubernetes: _Kubernetes = msgspec.field(default_factory=_Kubernetes, name="kubernetes.io")

    @property
    def audiences(self) -> list[str]:
        return [self.aud] if isinstance(self.aud, str) else self.aud


class LegacyClaims(msgspec.Struct):
    """A token that stands in a Secret and has no end."""

    sub: str = ""
    namespace: str = msgspec.field(default="", name="kubernetes.io/serviceaccount/namespace")
    secret: str = msgspec.field(default="", name="kubernetes.io/serviceaccount/secret.name")
    account: str = msgspec.field(default="", name="kubernetes.io/serviceaccount/service-account.name")
    uid: str = msgspec.field(default="", name="kubernetes.io/serviceaccount/service-account.uid")


class Binding(msgspec.Struct, frozen=True):
    """What a token is bound to besides its account."""

    pod: Ref | None = None
    secret: Ref | None = None
    node: Ref | None = None


def bound_claims(
    issuer: str,
    namespace: str,
    account: Ref,
    audiences: Sequence[str],
    *,
    binding: Binding,
    token_id: str,
    now: int,
    seconds: int,
    warn_after: int = 0,
) -> JSON:
    """Claims of a token that counts for `seconds`; `warn_after`: in how many it should have been renewed."""
    private: JSON = {"namespace": namespace}
    for kind in ("node", "pod", "secret"):
        ref: Ref | None = getattr(binding, kind)
        if ref is not None:
            private[kind] = ref.as_json()
    private["serviceaccount"] = account.as_json()
    if warn_after:
        private["warnafter"] = now + warn_after
    return {
        "aud": list(audiences),
        "exp": now + seconds,
        "iat": now,
        "iss": issuer,
        "jti": token_id,
        "kubernetes.io": private,
        "nbf": now,
        "sub": f"{USER_PREFIX}{namespace}:{account.name}",
    }


def account_user(namespace: str, account: Ref, extra: Sequence[tuple[str, str]] = ()) -> UserInfo:
    return UserInfo(
        name=f"{USER_PREFIX}{namespace}:{account.name}",
        groups=(_GROUP, f"{_GROUP}:{namespace}", AUTHENTICATED),
        uid=account.uid,
        extra=tuple((f"{_EXTRA}{key}", (value,)) for key, value in extra if value),
    )


def check_times(claims: BoundClaims, now: float) -> None:
    """Raises InvalidToken."""
    if claims.nbf is not None and now + _LEEWAY < claims.nbf:
        raise InvalidToken("service account token is not valid yet")
    if claims.exp is not None and now - _LEEWAY > claims.exp:
        raise InvalidToken("service account token has expired")
    if claims.iat is not None and now + _LEEWAY < claims.iat:
        raise InvalidToken("service account token is issued in the future")


def check_objects(claims: BoundClaims, lookup: Lookup, now: float) -> None:
    """The account, and what the token is bound to, are still those that they were. Raises InvalidToken."""
    private = claims.kubernetes
    account, namespace = private.serviceaccount, private.namespace
    found = lookup(ACCOUNTS, namespace, account.name)
    if found is None:
        raise InvalidToken(f'serviceaccounts "{account.name}" not found')
    if _is_gone(found, now):
        raise InvalidToken(f"service account {namespace}/{account.name} has been deleted")
    if found.uid != account.uid:
        raise InvalidToken(f"service account UID ({found.uid}) does not match claim ({account.uid})")
    node = private.node if private.pod is None else None  # of a pod's token, the node is told only
    for row, ref, where, what in (
        (SECRETS, private.secret, namespace, "secret UID ({}) does not match service account secret ref claim ({})"),
        (PODS, private.pod, namespace, "pod UID ({}) does not match service account pod ref claim ({})"),
        (NODES, node, "", "node UID ({}) does not match service account node ref claim ({})"),
    ):
        if ref is None:
            continue
        bound = lookup(row, where, ref.name)
        if bound is None or _is_gone(bound, now):
            raise InvalidToken(_INVALIDATED)
        if bound.uid != ref.uid:
            raise InvalidToken(what.format(bound.uid, ref.uid))


def bound_user(claims: BoundClaims) -> UserInfo:
    private = claims.kubernetes
    pod, node = private.pod or Ref(), private.node or Ref()
    credential = f"JTI={claims.jti}" if claims.jti else ""
    extra = (
        ("credential-id", credential),
        ("node-name", node.name),
        ("node-uid", node.uid),
        ("pod-name", pod.name),
        ("pod-uid", pod.uid),
    )
    return account_user(private.namespace, private.serviceaccount, extra)


def _is_gone(found: Found, now: float) -> bool:
    return found.deleted_at is not None and found.deleted_at < now - _LEEWAY
