"""The HTTP/2 connection against a peer that is played byte by byte."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

import pytest

from twinstack.store.etcd import hpack
from twinstack.store.etcd.channel import RPCError, endpoints_of
from twinstack.store.etcd.http2 import Code, Connection, Ended, Enough

HEADERS = hpack.encode([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = hpack.encode([("grpc-status", "0"), ("grpc-message", "")])


def frame(kind: int, flags: int, identity: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, identity) + payload


def message(data: bytes) -> bytes:
    return struct.pack(">BI", 0, len(data)) + data


class Peer:
    """A transport that keeps what is written."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.closed = False
        self._written = bytearray()
        connection.connection_made(cast("asyncio.Transport", self))

    def write(self, data: bytes) -> None:
        self._written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of what was written since the last call."""
        data = bytes(self._written).removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._written.clear()
        found = []
        while data:
            length = int.from_bytes(data[:3], "big")
            kind, flags, identity = struct.unpack_from(">BBI", data, 3)
            found.append((kind, flags, identity, data[9 : 9 + length]))
            data = data[9 + length :]
        return found


class Call:
    """What a call has got."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ended: list[Ended] = []


def play(scenario: Callable[[Peer, Callable[..., Call]], None]) -> None:
    async def main() -> None:
        connection = Connection("http", "etcd:2379")
        peer = Peer(connection)

        def call(data: bytes = b"", *, last: bool = True) -> Call:
            it = Call()
            connection.open("/a/b", data, it.messages.append, it.ended.append, last=last)
            return it

        scenario(peer, call)
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_call_and_its_answer_in_pieces() -> None:
    def scenario(peer: Peer, call: Callable[..., Call]) -> None:
        peer.frames()
        one = call(b"question")
        (kind, flags, identity, block), data = peer.frames()
        assert (kind, flags, identity) == (1, 4, 1)
        assert hpack.decode(block)[":path"] == "/a/b"
        assert data == (0, 1, 1, message(b"question"))
        answer = message(b"x" * 20)
        stream = (
            frame(4, 0, 0)
            + frame(1, 0, 1, HEADERS[:5])
            + frame(9, 4, 1, HEADERS[5:])
            + frame(0, 0, 1, answer[:3])
            + frame(0, 8, 1, b"\x02" + answer[3:] + b"\0\0")
            + frame(1, 5, 1, TRAILERS)
        )
        for at in range(len(stream)):
            peer.connection.data_received(stream[at : at + 1])
        assert one.messages == [b"x" * 20]
        assert one.ended == [Ended(0, "")]
        assert peer.frames() == [(4, 1, 0, b"")]  # the settings are acknowledged

    play(scenario)


def test_what_the_peer_has_no_window_for_waits() -> None:
    def scenario(peer: Peer, call: Callable[..., Call]) -> None:
        peer.connection.data_received(frame(4, 0, 0, struct.pack(">HI", 4, 100)))
        peer.frames()
        call(b"x" * 250)
        call(b"y")
        sent = [(identity, len(payload), flags) for kind, flags, identity, payload in peer.frames() if kind == 0]
        assert sent == [(1, 100, 0), (3, 6, 1)]  # the second call passes the first
        peer.connection.data_received(frame(8, 0, 1, struct.pack(">I", 1000)))
        assert [(len(payload), flags) for _, flags, _, payload in peer.frames()] == [(155, 1)]

    play(scenario)


def test_pings_are_answered_and_refusals_told() -> None:
    def scenario(peer: Peer, call: Callable[..., Call]) -> None:
        peer.frames()
        peer.connection.data_received(frame(6, 0, 0, b"12345678"))
        assert peer.frames() == [(6, 1, 0, b"12345678")]
        refused, reset, odd = call(), call(), call()
        status = [(":status", "200"), ("grpc-status", "14"), ("grpc-message", "etcdserver: no%20leader")]
        peer.connection.data_received(frame(1, 5, 1, hpack.encode(status)))
        peer.connection.data_received(frame(3, 0, 3, struct.pack(">I", 7)))
        peer.connection.data_received(frame(1, 4, 5, hpack.encode([(":status", "502")])))
        assert refused.ended == [Ended(14, "etcdserver: no leader")]
        assert [each.ended[0].code for each in (reset, odd)] == [Code.UNAVAILABLE] * 2

    play(scenario)


def test_a_peer_that_goes_says_what_it_has_not_begun() -> None:
    def scenario(peer: Peer, call: Callable[..., Call]) -> None:
        begun, unsent = call(), call()
        peer.connection.data_received(frame(7, 0, 0, struct.pack(">II", 1, 0) + b"bye"))
        assert peer.closed
        assert unsent.ended[0].unsent
        assert not begun.ended
        peer.connection.connection_lost(None)
        assert begun.ended == [Ended(Code.UNAVAILABLE, "the server closes the connection bye")]
        assert call().ended[0].unsent  # afterwards nothing is begun

    play(scenario)


def test_a_reader_that_has_had_enough_leaves_the_others_alone() -> None:
    def scenario(peer: Peer, call: Callable[..., Call]) -> None:
        ended: list[Ended] = []

        def enough(data: bytes) -> None:
            raise Enough("compacted")

        peer.connection.open("/w", b"", enough, ended.append, last=False)
        other = call()
        peer.frames()
        peer.connection.data_received(frame(0, 0, 1, message(b"x")))
        assert ended == [Ended(Code.CANCELLED, "compacted")]
        assert peer.frames() == [(3, 0, 1, struct.pack(">I", 8))]
        assert not other.ended
        assert not peer.closed

    play(scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\0\0\0\0\0\0",  # a frame of 16 MB
        frame(9, 4, 1, b""),  # a continuation of nothing
        frame(1, 4, 1, b"\x80"),  # a header of index 0
        frame(0, 8, 1, b"\x05ab"),  # more padding than payload
        frame(0, 0, 1, b"\1\0\0\0\0"),  # a compressed message
        frame(8, 0, 0, b"\0"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_left(data: bytes) -> None:
    def scenario(peer: Peer, call: Callable[..., Call]) -> None:
        call()
        peer.connection.data_received(data)
        assert peer.closed

    play(scenario)


def test_endpoints() -> None:
    first, second, third = endpoints_of("https://10.0.0.1:2379,http://[fd00::1]:79, etcd-3")
    assert (first.authority, first.secure) == ("10.0.0.1:2379", True)
    assert (second.authority, second.secure) == ("[fd00::1]:79", False)
    assert third.authority == "etcd-3:2379"
    for wrong in ("", "https://", "unix:///run/etcd", "https://a:1/path"):
        with pytest.raises(ValueError, match="is no URL of an etcd member"):
            endpoints_of(wrong)


def test_what_etcd_says_is_told_as_it_is() -> None:
    assert str(RPCError(14, "etcdserver: request timed out")) == "etcdserver: request timed out"
    assert str(RPCError(4, "context deadline exceeded")) == "context deadline exceeded"
    assert str(RPCError(14, "transport is closing")) == "rpc error: code = Unavailable desc = transport is closing"
