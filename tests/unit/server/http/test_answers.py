"""Which answers are compressed."""

from __future__ import annotations

import gzip

import pytest

from twinstack.server.http.answers import compressed, wants_gzip
from twinstack.server.messages import Response

LIMIT = 128 << 10


@pytest.mark.parametrize(
    ("accepted", "size", "wanted"),
    [
        ("gzip", LIMIT + 1, True),
        ("gzip", LIMIT, False),
        ("deflate, gzip", LIMIT + 1, True),
        ("gzip, br", LIMIT + 1, True),
        ("", LIMIT + 1, False),
        ("identity", LIMIT + 1, False),
        ("x-gzip", LIMIT + 1, False),
        ("gzip;q=0", LIMIT + 1, False),
        ("gzip;q=1.0", LIMIT + 1, False),  # as upstream, which looks for the bare word
    ],
)
def test_who_gets_gzip(accepted: str, size: int, wanted: bool) -> None:
    headers = {"accept-encoding": accepted} if accepted else {}
    whole, parts = Response(status=200, body=b"x" * size), Response(status=200, body=[b"x", b"x" * (size - 1)])
    assert wants_gzip(whole, headers) is wanted
    assert wants_gzip(parts, headers) is wanted


def test_what_gzip_says() -> None:
    answer = compressed(Response(status=200, body=[b"a" * 1000, b"b" * 1000]))
    assert isinstance(answer.body, bytes)
    assert gzip.decompress(answer.body) == b"a" * 1000 + b"b" * 1000
    assert answer.headers == [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
