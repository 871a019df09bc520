"""Header blocks, with the examples of RFC 7541 that need no dynamic table."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.store.etcd import hpack

_token = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)


@given(st.dictionaries(_token, _token, max_size=5))
def test_what_is_encoded_is_decoded(headers: dict[str, str]) -> None:
    assert hpack.decode(hpack.encode(headers.items())) == headers


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        ("040c2f73616d706c652f70617468", {":path": "/sample/path"}),  # C.2.2
        ("100870617373776f726406736563726574", {"password": "secret"}),  # C.2.3
        ("82", {":method": "GET"}),  # C.2.4
        # C.4.1: literals with Huffman code; they would be added to a table, which has no room
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            {":method": "GET", ":scheme": "http", ":path": "/", ":authority": "www.example.com"},
        ),
        (  # C.6.1, behind an update of the table's size to nothing
            (
                "20488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82"
                "ae43d3"
            ),
            {
                ":status": "302",
                "cache-control": "private",
                "date": "Mon, 21 Oct 2013 20:13:21 GMT",
                "location": "https://www.example.com",
            },
        ),
    ],
)
def test_examples(block: str, headers: dict[str, str]) -> None:
    assert hpack.decode(bytes.fromhex(block)) == headers


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # beyond the static table
        "3f01",  # a dynamic table
        "ffffffffffff",  # an endless number
        "0003",  # a string is cut off
        "00816102",  # and so
        "00817f8100",  # padding of zeros
    ],
)
def test_malformed(block: str) -> None:
    with pytest.raises(hpack.HeaderError):
        hpack.decode(bytes.fromhex(block))


@given(st.binary(max_size=80))
def test_nothing_else_is_raised(block: bytes) -> None:
    with contextlib.suppress(hpack.HeaderError):
        hpack.decode(block)
