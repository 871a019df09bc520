"""What passes between the HTTP engine and the handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from twinstack.api.resources import Resource


class UserInfo(msgspec.Struct, frozen=True):
    """Who asks, as authentication found out. `extra` are further facts, each a key with its values."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """authentication.k8s.io/v1 UserInfo; what is empty is left out."""
        fields = {
            "username": self.name,
            "uid": self.uid,
            "groups": list(self.groups),
            "extra": {key: list(values) for key, values in self.extra},
        }
        return {name: value for name, value in fields.items() if value}


class Request(msgspec.Struct):
    """One request, its body read whole.

    `path` is percent-decoded; `query` keeps every value of a repeated parameter; header names are lower case.
    `target` is path and query as they came.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    user: UserInfo
    target: bytes = b""

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default


def wants_upgrade(headers: Mapping[str, str]) -> bool:
    """Whether a request asks for another protocol on its connection."""
    words = headers.get("connection", "").lower().split(",")
    return "upgrade" in headers and any(word.strip() == "upgrade" for word in words)


class Response(msgspec.Struct):
    """A whole answer. A body of several parts is written without joining them."""

    status: int
    body: bytes | Sequence[bytes] = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = []
    warnings: list[str] = []  # each becomes a `Warning: 299` header
    measured: bool = False  # `headers` say how long the body would be: an answer to HEAD


class StreamWriter(Protocol):
    """The body of a streamed answer: one chunk a call, headers already on the wire."""

    def write(self, data: bytes) -> None:
        """Queue a chunk without waiting; dropped after the peer has gone."""

    def pending(self) -> int:
        """Bytes queued and not yet taken by the kernel, 0 while they are few: the measure of a slow reader."""

    async def drain(self) -> None:
        """Wait until the queue is short again."""

    def closed(self) -> Awaitable[None]:
        """Wait until the peer has gone or the server stops."""


class BrokenOff(Exception):
    """What a stream is made of has ended before its end: the client is to see that, too."""


class StreamResponse(msgspec.Struct):
    """An answer whose body `produce` writes; returning ends it. Cancelled when the peer goes. May raise BrokenOff."""

    status: int
    produce: Callable[[StreamWriter], Awaitable[None]]
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = []
    warnings: list[str] = []
    patient: bool = False  # a client that pauses is not cut off: a person may be reading


class Duplex(Protocol):
    """The raw connection after `101 Switching Protocols`."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""

    def write(self, data: bytes) -> None:
        """Queue bytes without waiting; dropped after the peer has gone."""

    def pending(self) -> int:
        """As `StreamWriter.pending`."""

    async def drain(self) -> None:
        """Wait until the queue is short again."""

    def closed(self) -> Awaitable[None]:
        """Wait until the peer has gone or the server stops."""


class Upgrade(msgspec.Struct):
    """`101 Switching Protocols`, then `run` speaks the new protocol; returning closes the connection."""

    run: Callable[[Duplex], Awaitable[None]]
    headers: list[tuple[str, str]] = []  # with `Upgrade` and what the protocol wants; `Connection` is added


Answer = Response | StreamResponse | Upgrade
Handler = Callable[[Request], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True):
    """What a resource URL means. No name: the collection; no namespace on a namespaced kind: all of them."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    tail: str = ""  # what follows `/proxy`
