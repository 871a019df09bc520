"""SPDY framing: any frames in any cut of the bytes; the header compression; what breaks the protocol."""

from __future__ import annotations

import hashlib
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.node.streaming.spdy import (
    DICTIONARY,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Open,
    Ping,
    ProtocolError,
    Reply,
    Reset,
    ResetStatus,
)

STREAMS = st.integers(1, 0x7FFFFFFF)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
HEADERS = st.dictionaries(NAMES, st.text(st.characters(max_codepoint=255), max_size=20), max_size=4)
FRAMES = st.one_of(
    st.builds(Open, STREAMS, HEADERS, st.booleans()),
    st.builds(Reply, STREAMS, HEADERS, st.just(False)),
    st.builds(Data, STREAMS, st.binary(max_size=60), st.booleans()),
    st.builds(Reset, STREAMS, st.sampled_from(list(ResetStatus))),
    st.builds(Ping, st.integers(0, 0xFFFFFFFF)),
    st.builds(GoAway, STREAMS),
)
IGNORED = (
    b"\x80\x03\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x01\x04\x00\x00\x03\x00\x00\x00\x64",  # SETTINGS
    b"\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x01\x00\x01\x00\x00",  # WINDOW_UPDATE
    b"\x80\x03\x00\x0b\x00\x00\x00\x02ab",  # one that nobody knows
)


def encode(encoder: Encoder, frame: Frame) -> bytes:
    match frame:
        case Open(stream, headers, finished):
            return encoder.open(stream, headers, finished=finished)
        case Reply(stream, headers):
            return encoder.reply(stream, headers)
        case Data(stream, data, finished):
            return encoder.data(stream, data, finished=finished)
        case Reset(stream, status):
            return encoder.reset(stream, ResetStatus(status))
        case Ping(number):
            return encoder.ping(number)
    return encoder.go_away(frame.last)


def joined(frames: list[Frame]) -> list[Frame]:
    """With neighbouring pieces of one stream as one."""
    result: list[Frame] = []
    for frame in frames:
        before = result[-1] if result else None
        if (
            isinstance(frame, Data)
            and isinstance(before, Data)
            and before.stream == frame.stream
            and not before.finished
        ):
            result[-1] = Data(frame.stream, before.data + frame.data, frame.finished)
        else:
            result.append(frame)
    return result


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 40), max_size=30))
def test_frames_survive_the_wire_in_any_pieces(sent: list[Frame], sizes: list[int]) -> None:
    encoder, decoder = Encoder(), Decoder()
    wire = b"".join(encode(encoder, frame) + IGNORED[n % 3] for n, frame in enumerate(sent))
    found: list[Frame] = []
    position = 0
    for size in [*sizes, len(wire)]:
        found += decoder.feed(wire[position : position + size])
        position += size
    assert joined(found) == joined(sent)


def test_the_dictionary_is_the_standards() -> None:
    assert hashlib.sha256(DICTIONARY).hexdigest() == "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02"


def test_header_names_are_lower_case_on_the_wire() -> None:
    (frame,) = Decoder().feed(Encoder().open(1, {"streamType": "Error"}))
    assert frame == Open(1, {"streamtype": "Error"}, False)


def block(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


def syn_stream(headers: bytes) -> bytes:
    return struct.pack("!HHIIIH", 0x8003, 1, 10 + len(headers), 1, 0, 0) + headers


@pytest.mark.parametrize(
    "wire",
    [
        b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01",  # SPDY/2
        b"\x80\x03\x00\x01\x00\x01\x00\x01",  # longer than any control frame may be
        b"\x80\x03\x00\x06\x00\x00\x00\x02ab",  # too short for a ping
        syn_stream(b"no headers"),
        syn_stream(block(b"")),
        syn_stream(block(struct.pack("!I", 1))),
        syn_stream(block(struct.pack("!II", 1, 0xFFFFFFFF))),
        syn_stream(block(bytes(1 << 20))),  # a bomb
    ],
)
def test_what_breaks_the_protocol(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Decoder().feed(wire))


@given(st.binary(max_size=100))
def test_noise_never_fails_otherwise(noise: bytes) -> None:
    decoder = Decoder()
    with suppress(ProtocolError):
        list(decoder.feed(noise))
        list(decoder.feed(b"\x80\x03" + noise))
