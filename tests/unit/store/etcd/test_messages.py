"""etcd's messages, byte by byte where it matters, and whatever else may come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.store.etcd import messages
from twinstack.store.etcd.protobuf import WireError, exact_bytes, fields, number, octets, varint
from twinstack.store.etcd.stamps import stamped


@given(st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_fields_come_back(value: int, data: bytes) -> None:
    message = number(3, value) + octets(200, data) + exact_bytes(1, data)
    wanted = [(3, value)] * bool(value) + [(200, data)] * bool(data) + [(1, data)]
    assert list(fields(message)) == wanted


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    for read in (messages.read_range, messages.read_txn, messages.read_watch):
        with contextlib.suppress(WireError):
            read(message)


def test_a_watch_answer() -> None:
    """As etcd 3.4 writes it: a put and a deletion of one transaction."""
    put = octets(1, b"/r/a") + number(2, 7) + number(3, 9) + number(4, 2) + octets(5, b"v")
    gone = number(1, 1) + exact_bytes(2, octets(1, b"/r/b") + number(3, 9))
    header = number(1, 11) + number(2, 12) + number(3, 9) + number(4, 2)
    found = messages.read_watch(exact_bytes(1, header) + exact_bytes(11, exact_bytes(2, put)) + exact_bytes(11, gone))
    (first, first_gone), (second, second_gone) = found.events
    assert (first, first_gone) == (messages.KeyValue(b"/r/a", b"v", 7, 9, 2), False)
    assert (second.key, second.modified, second_gone) == (b"/r/b", 9, True)
    assert not found.canceled


def test_a_transaction() -> None:
    request = messages.txn_request([messages.modified_at(b"k", 0)], [messages.put_operation(b"k", b"v")], [])
    # compare { target: MOD, key: k, mod_revision: 0 (written, for it is one of several) }, success { put { k, v } }
    assert request.hex() == "0a0710021a016b3000" + "12081206" + "0a016b" + "120176"


def test_the_end_of_a_prefix() -> None:
    assert messages.end_of(b"/registry/") == b"/registry0"


def test_numbers_that_do_not_end() -> None:
    for message in (b"\x80", b"\x08" + b"\xff" * 11, b"\x0a\x05ab", b"\x0b"):
        with pytest.raises(WireError):
            list(fields(message))
    assert varint(300) == b"\xac\x02"


HEAD = b'{"kind":"Service","apiVersion":"v1","metadata":{"resourceVersion":"'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (HEAD + b'0","name":"a"}}', HEAD + b'42","name":"a"}}'),
        (
            b'{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"0"}}',
            b'{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"42"}}',
        ),
        (HEAD + b'7"}}', HEAD + b'7"}}'),  # somebody else's
        (
            b'{"kind":"X","apiVersion":"v1","metadata":{"labels":{"resourceVersion":"0"}}}',
            b'{"kind":"X","apiVersion":"v1","metadata":{"labels":{"resourceVersion":"0"}}}',
        ),
        (b'{"namespace":"a","name":"b"}', b'{"namespace":"a","name":"b"}'),
        (b"", b""),
    ],
)
def test_the_revision_is_put_where_it_belongs(value: bytes, shown: bytes) -> None:
    assert stamped(value, 42) == shown
