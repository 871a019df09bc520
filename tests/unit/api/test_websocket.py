"""WebSocket framing: any message in any fragments and any cut of the bytes; what breaks the protocol."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.websocket import (
    PROTOCOL_ERROR,
    TOO_BIG,
    Decoder,
    Message,
    Opcode,
    ProtocolError,
    accept_key,
    close_frame,
    frame,
)

MASK = b"\x01\x80\xff\x7e"
KINDS = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG, Opcode.CLOSE])


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(KINDS)
    size = 125 if kind >= Opcode.CLOSE else draw(st.sampled_from([0, 1, 125, 126, 300, 65535, 65536, 70000]))
    return Message(kind, draw(st.binary(max_size=min(size, 40))) + bytes(max(0, size - 125)))


def cuts(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, position = [], 0
    for size in sizes:
        pieces.append(data[position : position + size])
        position += size
    return [*pieces, data[position:]]


def decode(decoder: Decoder, pieces: list[bytes]) -> list[Message]:
    return [message for piece in pieces for message in decoder.feed(piece)]


@given(st.lists(messages(), max_size=6), st.booleans(), st.lists(st.integers(0, 200), max_size=30))
def test_messages_survive_the_wire_in_any_pieces(sent: list[Message], masked: bool, sizes: list[int]) -> None:
    wire = b"".join(frame(m.opcode, m.payload, MASK if masked else b"") for m in sent)
    assert decode(Decoder(masked=masked), cuts(wire, sizes)) == sent


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=6), st.lists(st.integers(0, 60), max_size=20))
def test_fragments_are_joined_with_control_frames_between(parts: list[bytes], sizes: list[int]) -> None:
    wire = b""
    for number, part in enumerate(parts):
        one = bytearray(frame(Opcode.BINARY if number == 0 else Opcode.CONTINUATION, part, MASK))
        if number < len(parts) - 1:
            one[0] &= 0x7F
        wire += frame(Opcode.PING, b"?", MASK) + bytes(one)
    found = decode(Decoder(), cuts(wire, sizes))
    assert [m for m in found if m.opcode is not Opcode.PING] == [Message(Opcode.BINARY, b"".join(parts))]
    assert len(found) == len(parts) + 1


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(Opcode.BINARY, b"x"), PROTOCOL_ERROR),  # not masked
        (b"\xc2\x80" + MASK, PROTOCOL_ERROR),  # a reserved bit
        (b"\x83\x80" + MASK, PROTOCOL_ERROR),  # an unknown opcode
        (b"\x80\x80" + MASK, PROTOCOL_ERROR),  # a continuation of nothing
        (b"\x02\x80" + MASK + b"\x82\x80" + MASK, PROTOCOL_ERROR),  # a message within another one
        (b"\x09\x80" + MASK, PROTOCOL_ERROR),  # a control frame in fragments
        (b"\x89\xfe\x00\x7e" + MASK, PROTOCOL_ERROR),  # a long control frame
        (b"\x82\xff" + struct.pack("!Q", 101), TOO_BIG),
        (b"\x02\xbc" + MASK + bytes(60) + b"\x80\xa9", TOO_BIG),  # in the sum of fragments
    ],
)
def test_what_breaks_the_protocol(wire: bytes, code: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(Decoder(limit=100), [wire])
    assert caught.value.code == code


@given(st.binary(max_size=100))
def test_noise_never_fails_otherwise(noise: bytes) -> None:
    with suppress(ProtocolError):
        decode(Decoder(limit=50), [noise])


def test_handshake_of_the_standard() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_close_frame() -> None:
    assert close_frame(1000, "over") == b"\x88\x06\x03\xe8over"
    assert close_frame(1002) == b"\x88\x02\x03\xea"
