"""Channels over a WebSocket: every form of messages, both ways; what ends a connection."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.node.streaming.wires import Wire

from twinstack.api.websocket import Decoder, Message, Opcode, close_frame, frame
from twinstack.node.streaming.channels import SUBPROTOCOLS, WebSocketChannels, WebSocketTunnel

MASK = b"\x05\x06\x07\x08"


def messages(data: bytes) -> list[Message]:
    return list(Decoder(masked=False).feed(data))


def serve(wire: Wire, protocol: str) -> list[tuple[int, bytes]]:
    got: list[tuple[int, bytes]] = []

    async def receive(channel: int, data: bytes) -> None:
        got.append((channel, data))

    asyncio.run(WebSocketChannels(wire, SUBPROTOCOLS[protocol], receive).serve())
    return got


@pytest.mark.parametrize("opcode", [Opcode.BINARY, Opcode.TEXT])
@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", ""])
def test_the_first_byte_is_the_channel(protocol: str, opcode: Opcode) -> None:
    """Of text, too: the Python client sends str as text."""
    sent = [frame(opcode, b"\x00ls\n", MASK), frame(opcode, b"\x04{}", MASK), frame(opcode, b"", MASK)]
    assert serve(Wire(*sent), protocol) == [(0, b"ls\n"), (4, b"{}")]


def test_base64_is_text() -> None:
    protocol = "v4.base64.channel.k8s.io"
    assert serve(Wire(frame(Opcode.TEXT, b"0bHMK", MASK)), protocol) == [(0, b"ls\n")]
    broken = Wire(frame(Opcode.TEXT, b"0b*", MASK))
    assert serve(broken, protocol) == []
    assert broken.sent == close_frame(1002)

    async def main() -> bytes:
        wire = Wire()
        await WebSocketChannels(wire, SUBPROTOCOLS[protocol], receive).send(2, b"oops")
        return wire.sent

    async def receive(channel: int, data: bytes) -> None:
        raise AssertionError

    assert messages(asyncio.run(main())) == [Message(Opcode.TEXT, b"2b29wcw==")]


def test_pings_are_answered_and_a_close_is_returned() -> None:
    wire = Wire(
        frame(Opcode.PING, b"1", MASK) + frame(Opcode.PONG, b"", MASK), close_frame(1000, "bye", MASK), ends=False
    )
    assert serve(wire, "v5.channel.k8s.io") == []
    assert wire.sent == frame(Opcode.PONG, b"1") + close_frame(1000)


def test_who_breaks_the_protocol_is_told() -> None:
    wire = Wire(frame(Opcode.BINARY, b"\x00x", MASK) + frame(Opcode.BINARY, b"not masked"), ends=False)
    assert serve(wire, "v5.channel.k8s.io") == [(0, b"x")]
    assert wire.sent == close_frame(1002)


def test_long_data_is_sent_in_pieces_and_none_as_an_empty_message() -> None:
    async def receive(channel: int, data: bytes) -> None:
        raise AssertionError

    async def main() -> list[Message]:
        wire = Wire()
        channels = WebSocketChannels(wire, SUBPROTOCOLS["v5.channel.k8s.io"], receive)
        await channels.send(1, b"")
        await channels.send(2, b"y" * 70_000)
        channels.close(1000)
        channels.close(1000)
        return messages(wire.sent)

    first, *pieces, last = asyncio.run(main())
    assert first == Message(Opcode.BINARY, b"\x01")
    assert b"".join(piece.payload[1:] for piece in pieces) == b"y" * 70_000
    assert [piece.payload[0] for piece in pieces] == [2, 2, 2]
    assert last.opcode is Opcode.CLOSE


def test_a_tunnel_shows_the_bytes_within() -> None:
    async def main() -> None:
        wire = Wire(
            frame(Opcode.BINARY, b"ab", MASK) + frame(Opcode.PING, b"?", MASK),
            frame(Opcode.BINARY, b"", MASK),
            frame(Opcode.BINARY, b"cd", MASK) + close_frame(1000, "", MASK) + frame(Opcode.BINARY, b"late", MASK),
            ends=False,
        )
        tunnel = WebSocketTunnel(wire)
        assert [await tunnel.read() for _ in range(4)] == [b"ab", b"cd", b"", b""]
        tunnel.write(b"answer")
        pong, closing, answer = messages(wire.sent)
        assert (pong, closing.opcode) == (Message(Opcode.PONG, b"?"), Opcode.CLOSE)
        assert answer == Message(Opcode.BINARY, b"answer")

    asyncio.run(main())
