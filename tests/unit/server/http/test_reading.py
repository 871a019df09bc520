"""Requests out of bytes, whole, in pieces and broken."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.server.http.limits import Limits
from twinstack.server.http.reading import Exchange, Refused, RequestReader
from twinstack.server.messages import UserInfo

USER = UserInfo(name="u")


class Taker:
    """Takes what a reader reads."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.continues = 0

    def head_begun(self) -> None: ...

    def head_read(self, *, wants_continue: bool) -> None:
        self.continues += wants_continue

    def request_read(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def read(*pieces: bytes, limits: Limits | None = None) -> Taker:
    taker = Taker()
    reader = RequestReader(taker, limits or Limits(), USER)
    for piece in pieces:
        reader.feed(piece)
    return taker


PIPELINE = (
    b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\nX-Multi: 1\r\nx-multi: 2\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n"
    b"GET /d HTTP/1.0\r\n\r\n"
)


def seen(taker: Taker) -> list[tuple[str, str, bytes, bool, bool]]:
    return [(e.request.method, e.request.path, e.request.body, e.keep_alive, e.old) for e in taker.exchanges]


@given(st.lists(st.integers(0, len(PIPELINE)), max_size=30))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(PIPELINE)]
    pieces = [PIPELINE[a:b] for a, b in pairwise(bounds) if a < b]
    taker = read(*pieces)
    assert seen(taker) == [
        ("GET", "/a", b"", True, False),
        ("POST", "/b", b"hello", True, False),
        ("PUT", "/c", b"abcde", True, False),
        ("GET", "/d", b"", False, True),
    ]
    assert taker.continues == 1
    assert taker.exchanges[0].request.headers == {"host": "h", "x-multi": "1, 2"}
    assert "x-trailer" not in taker.exchanges[2].request.headers


@given(st.binary(max_size=200), st.integers(0, len(PIPELINE)))
def test_garbage_is_refused_or_waited_for(garbage: bytes, at: int) -> None:
    """Nothing but Refused comes out, and what was whole before the garbage is there."""
    taker, code = Taker(), 0
    reader = RequestReader(taker, Limits(), USER)
    try:
        reader.feed(PIPELINE[:at] + garbage)
    except Refused as refused:
        code = refused.error.code
    assert code in (0, 400, 413, 431)
    whole = seen(read(PIPELINE[:at]))
    assert seen(taker)[: len(whole)] == whole


@given(st.integers(0, 3000))
def test_limits_hold_at_their_edge(size: int) -> None:
    limits = Limits(body=1000, head=2000)
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * size
    length = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    chunk = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (size, b"x" * size)
    for data, code, fits in ((head, 431, len(head) <= 2000), (length, 413, size <= 1000), (chunk, 413, size <= 1000)):
        refusal = 0
        try:
            read(data, limits=limits)
        except Refused as refused:
            refusal = refused.error.code
        assert refusal == (0 if fits else code)


def test_header_lines_are_counted_anew_for_each_request() -> None:
    limits = Limits(header_lines=4)
    fits = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 3 + b"\r\n"
    assert len(read(fits * 3, limits=limits).exchanges) == 3
    with pytest.raises(Refused) as caught:
        read(fits.replace(b"\r\n\r\n", b"\r\nA: b\r\n\r\n"), limits=limits)
    assert (caught.value.error.code, caught.value.error.reason) == (431, "RequestHeaderFieldsTooLarge")


def test_what_follows_an_upgrade_waits_for_the_answer() -> None:
    taker = Taker()
    reader = RequestReader(taker, Limits(), USER)
    asks = b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    reader.feed(asks + b"ra")
    reader.feed(b"w")
    assert taker.exchanges[0].upgrade
    assert reader.take_held() == b"raw"
    reader = RequestReader(taker, Limits(), USER)
    reader.feed(asks + b"GET /next HTTP/1.1\r\nHost: h\r\n")
    reader.feed(b"\r\n")
    reader.resume()
    assert [each.request.path for each in taker.exchanges] == ["/up", "/up", "/next"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "missing required Host header"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", "too many Host headers"),
        (b"GET /a%zz/b HTTP/1.1\r\nHost: h\r\n\r\n", 'invalid URL escape "%zz"'),
        (b"GET /a% HTTP/1.1\r\nHost: h\r\n\r\n", 'invalid URL escape "%"'),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "malformed",
        ),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "malformed"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n", "malformed"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n", "malformed"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x00c\r\n\r\n", "malformed"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(Refused, match=problem) as caught:
        read(data)
    assert (caught.value.error.code, caught.value.error.reason) == (400, "BadRequest")


def test_http_1_0_needs_no_host() -> None:
    assert [each.request.path for each in read(b"GET /a HTTP/1.0\r\n\r\n").exchanges] == ["/a"]
