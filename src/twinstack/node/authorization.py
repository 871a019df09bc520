"""Who may ask the kubelet API for what: the API server is asked, and its answers are kept for a while.

Clients show a certificate of the cluster's authority or a bearer token; what they may do are verbs on subresources of
this Node, the finest first (KEP-2862). Times and words are kubelet's (authentication and authorization mode Webhook).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from twinstack.api.errors import StatusError
from twinstack.client.rest import Client
from twinstack.node.http import Answer, Request

ALLOWED_SECONDS, DENIED_SECONDS, TOKEN_SECONDS = 300.0, 30.0, 120.0
MOST_KEPT = 4096  # answers of each kind
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# By the path's first segment: the subresource that is enough besides, or instead of, `proxy`.
_FINE = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}
_INSTEAD = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}

Key = TypeVar("Key")
Value = TypeVar("Value")
_REVIEWS = {
    "tokenreviews": ("authentication.k8s.io/v1", "TokenReview"),
    "subjectaccessreviews": ("authorization.k8s.io/v1", "SubjectAccessReview"),
}

JSON = dict[str, Any]
Review = Callable[[str, JSON], Awaitable[JSON]]
"""Sends the spec of a TokenReview or SubjectAccessReview; its status. Raises StatusError, OSError."""

log = logging.getLogger(__name__)


class User(NamedTuple):
    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Gate:
    """Of one node."""

    def __init__(self, review: Review, node_name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._review = review
        self._node_name = node_name
        self._tokens: _Kept[bytes, User | None] = _Kept(clock)
        self._decisions: _Kept[tuple[User, str, str], bool] = _Kept(clock)

    async def refusal(self, request: Request) -> Answer | None:
        """What to answer to a client that may not ask this; None to one that may."""
        try:
            user = await self._user(request)
        except (StatusError, OSError) as error:
            log.warning("who a token belongs to: %s", error or type(error).__name__)
            user = None
        if user is None:
            return Answer(401, b"Unauthorized")
        verb, subresources = asked(request.method, request.path)
        said = f"(user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{{}}])"
        for number, subresource in enumerate(subresources, 1):
            try:
                if await self._may(user, verb, subresource):
                    return None
            except (StatusError, OSError) as error:
                log.warning("what %s may do: %s", user.name, error or type(error).__name__)
                return Answer(500, f"Authorization error {said.format(' '.join(subresources[:number]))}".encode())
        return Answer(403, f"Forbidden {said.format(' '.join(subresources))}".encode())

    async def _user(self, request: Request) -> User | None:
        names = request.subject.get("commonName")
        if names:
            return User(names[0], groups=tuple(request.subject.get("organizationName", ())))
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        key = hashlib.sha256(token.encode()).digest()
        if key not in self._tokens:
            status = await self._review("tokenreviews", {"token": token})
            found = _user(status.get("user") or {}) if status.get("authenticated") else None
            self._tokens.keep(key, found, TOKEN_SECONDS)
        return self._tokens[key]

    async def _may(self, user: User, verb: str, subresource: str) -> bool:
        key = user, verb, subresource
        if key not in self._decisions:
            status = await self._review("subjectaccessreviews", self._question(user, verb, subresource))
            allowed = bool(status.get("allowed"))
            self._decisions.keep(key, allowed, ALLOWED_SECONDS if allowed else DENIED_SECONDS)
        return self._decisions[key]

    def _question(self, user: User, verb: str, subresource: str) -> JSON:
        about = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node_name,
        }
        spec: JSON = {"resourceAttributes": about, "user": user.name, "groups": user.groups}
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = dict(user.extra)
        return spec


class _Kept(Generic[Key, Value]):
    """Answers, each for its time. The oldest go when there are too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: dict[Key, tuple[float, Value]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._answers and self._answers[key][0] > self._clock()

    def __getitem__(self, key: Key) -> Value:
        return self._answers[key][1]

    def keep(self, key: Key, value: Value, seconds: float) -> None:
        self._answers.pop(key, None)
        if len(self._answers) >= MOST_KEPT:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = self._clock() + seconds, value


def _user(told: Mapping[str, Any]) -> User:
    extra = tuple(sorted((name, tuple(values)) for name, values in (told.get("extra") or {}).items()))
    return User(told.get("username", ""), told.get("uid", ""), tuple(told.get("groups") or ()), extra)


def asked(method: str, path: Sequence[str]) -> tuple[str, list[str]]:
    """The verb, and the subresources of nodes of which one that is allowed is enough, in the order to ask. Pure."""
    first = path[0] if path else ""
    if first in _INSTEAD:
        return _VERBS.get(method, ""), [_INSTEAD[first]]
    fine = [_FINE[first]] if first in _FINE else []
    return _VERBS.get(method, ""), [*fine, "proxy"]


def reviewer(client: Client) -> Review:
    """Asks by `client`, who needs to create both reviews."""

    async def review(plural: str, spec: JSON) -> JSON:
        version, kind = _REVIEWS[plural]
        body = msgspec.json.encode({"kind": kind, "apiVersion": version, "spec": spec})
        answer: JSON = msgspec.json.decode(await client.request("POST", f"/apis/{version}/{plural}", body))
        return answer.get("status") or {}

    return review
