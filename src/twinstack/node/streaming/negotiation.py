"""Which protocol a client and this node speak after an upgrade: WebSocket with a subprotocol, or SPDY. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twinstack.api import websocket

SPDY_UPGRADE = "SPDY/3.1"
STREAM_PROTOCOL = "X-Stream-Protocol-Version"
ACCEPTED_PROTOCOLS = "X-Accepted-Stream-Protocol-Versions"


class Transport(enum.Enum):
    """What carries the streams."""

    WEBSOCKET = "websocket"
    SPDY = "spdy"


class Choice(NamedTuple):
    """What was agreed on; `headers` belong to the 101 answer. No protocol: the client named none."""

    transport: Transport
    protocol: str
    headers: list[tuple[str, str]]


class Refusal(Exception):
    """No upgrade: the status of the answer, its text, and headers."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = list(headers)


def choose(headers: Mapping[str, str], *, websocket_protocols: Sequence[str], spdy_protocols: Sequence[str]) -> Choice:
    """Agree with a request's headers (names in lower case, repeated ones joined by commas). Raises Refusal.

    An empty name among the WebSocket protocols says that a client need not name one.
    """
    upgrade = headers.get("upgrade", "").lower()
    if "upgrade" in _words(headers.get("connection", "").lower()):
        if upgrade == "websocket":
            return _websocket(headers, websocket_protocols)
        if upgrade == SPDY_UPGRADE.lower():
            return _spdy(headers, spdy_protocols)
    raise Refusal(400, "unable to upgrade: missing upgrade headers in request")


def _websocket(headers: Mapping[str, str], known: Sequence[str]) -> Choice:
    key = headers.get("sec-websocket-key", "")
    if not key or headers.get("sec-websocket-version") != "13":
        raise Refusal(400, "bad WebSocket handshake", [("Sec-WebSocket-Version", "13")])
    offered = _words(headers.get("sec-websocket-protocol", ""))
    protocol = _first(offered or [""], known)
    if protocol is None:
        raise Refusal(400, f"unable to negotiate a WebSocket protocol: client supports {offered}, server {list(known)}")
    answer = [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", websocket.accept_key(key))]
    if protocol:
        answer.append(("Sec-WebSocket-Protocol", protocol))
    return Choice(Transport.WEBSOCKET, protocol, answer)


def _spdy(headers: Mapping[str, str], known: Sequence[str]) -> Choice:
    offered = _words(headers.get(STREAM_PROTOCOL.lower(), ""))
    if not offered:
        raise Refusal(400, f"unable to upgrade: {STREAM_PROTOCOL} header is required")
    protocol = _first(offered, known)
    if protocol is None:
        text = (
            f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {list(known)}"
        )
        raise Refusal(403, text, [(ACCEPTED_PROTOCOLS, each) for each in known])
    return Choice(Transport.SPDY, protocol, [("Upgrade", SPDY_UPGRADE), (STREAM_PROTOCOL, protocol)])


def _words(value: str) -> list[str]:
    return [word for part in value.split(",") if (word := part.strip())]


def _first(offered: Sequence[str], known: Sequence[str]) -> str | None:
    """The client's order counts."""
    return next((protocol for protocol in offered if protocol in known), None)
