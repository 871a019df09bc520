"""What client and node agree on, and how a node refuses."""

from __future__ import annotations

import pytest

from twinstack.node.streaming.negotiation import Choice, Refusal, Transport, choose

WEBSOCKET = ["v5.channel.k8s.io", "v4.channel.k8s.io", ""]
SPDY = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
SOCKET = {
    "connection": "keep-alive, Upgrade",
    "upgrade": "WebSocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}
STREAMS = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}


def agree(headers: dict[str, str]) -> Choice:
    return choose(headers, websocket_protocols=WEBSOCKET, spdy_protocols=SPDY)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("v5.channel.k8s.io", "v5.channel.k8s.io"),
        ("v6.channel.k8s.io, v4.channel.k8s.io,v5.channel.k8s.io", "v4.channel.k8s.io"),
        ("", ""),
    ],
)
def test_a_websocket(offered: str, chosen: str) -> None:
    choice = agree(SOCKET | {"sec-websocket-protocol": offered})
    assert (choice.transport, choice.protocol) == (Transport.WEBSOCKET, chosen)
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in choice.headers
    assert dict(choice.headers).get("Sec-WebSocket-Protocol", "") == chosen


def test_spdy_in_the_order_of_the_client() -> None:
    """kubectl 1.30 and later offer five versions, one header line each."""
    offered = "v9.channel.k8s.io, v4.channel.k8s.io, v5.channel.k8s.io"
    choice = agree(STREAMS | {"x-stream-protocol-version": offered})
    assert choice == Choice(
        Transport.SPDY,
        "v4.channel.k8s.io",
        [("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")],
    )


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({}, 400, "missing upgrade headers"),
        (SOCKET | {"connection": "close"}, 400, "missing upgrade headers"),
        (STREAMS | {"upgrade": "h2c"}, 400, "missing upgrade headers"),
        (SOCKET | {"sec-websocket-version": "8"}, 400, "bad WebSocket handshake"),
        (SOCKET | {"sec-websocket-key": ""}, 400, "bad WebSocket handshake"),
        (SOCKET | {"sec-websocket-protocol": "mqtt"}, 400, "unable to negotiate a WebSocket protocol"),
        (STREAMS, 400, "X-Stream-Protocol-Version header is required"),
        (STREAMS | {"x-stream-protocol-version": "v1"}, 403, "client supports ['v1']"),
    ],
)
def test_refusals(headers: dict[str, str], status: int, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        agree(headers)
    assert (caught.value.status, words in str(caught.value)) == (status, True)
    if status == 403:
        assert caught.value.headers == [("X-Accepted-Stream-Protocol-Versions", name) for name in SPDY]
