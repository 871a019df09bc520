"""etcd's messages (etcd API v3, as of 3.4: rpc.proto, kv.proto), the fields that are used here. Pure.

Keys and values are bytes, revisions numbers. Decoders raise WireError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twinstack.store.etcd.protobuf import as_bytes, as_number, exact_bytes, exact_number, fields, number, octets

RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
COMPACT = "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"
STATUS = "/etcdserverpb.Maintenance/Status"

_EQUAL, _GREATER = 0, 1
_VERSION, _CREATE, _MOD = 0, 1, 2
_RANGE_OP, _PUT_OP, _DELETE_OP = 1, 2, 3
_DELETED = 1  # mvccpb.Event.type


class KeyValue(NamedTuple):
    """One key as of one revision. `version` counts its changes since it was made."""

    key: bytes
    value: bytes
    created: int
    modified: int
    version: int


class Found(NamedTuple):
    """A RangeResponse. `revision` is the store's."""

    revision: int
    records: list[KeyValue]
    more: bool


class Outcome(NamedTuple):
    """A TxnResponse: `found` has what the range operations of the branch that ran have found, in order."""

    revision: int
    succeeded: bool
    found: list[list[KeyValue]]


class Watched(NamedTuple):
    """A WatchResponse. An event is a key and whether it is gone."""

    created: bool
    canceled: bool
    compacted: int
    reason: str
    events: list[tuple[KeyValue, bool]]


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`, whose last octet must not be 255."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def range_request(
    key: bytes,
    end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    keys_only: bool = False,
    count_only: bool = False,
) -> bytes:
    return b"".join(
        (
            octets(1, key),
            octets(2, end),
            number(3, limit),
            number(4, revision),
            number(8, keys_only),
            number(9, count_only),
        )
    )


def range_operation(request: bytes) -> bytes:
    return exact_bytes(_RANGE_OP, request)


def put_operation(key: bytes, value: bytes) -> bytes:
    return exact_bytes(_PUT_OP, octets(1, key) + octets(2, value))


def delete_operation(key: bytes) -> bytes:
    return exact_bytes(_DELETE_OP, octets(1, key))


def modified_at(key: bytes, revision: int) -> bytes:
    """A comparison: the last change of the key was that revision; 0: it is absent."""
    return number(1, _EQUAL) + number(2, _MOD) + octets(3, key) + exact_number(6, revision)


def exists(key: bytes) -> bytes:
    return number(1, _GREATER) + number(2, _CREATE) + octets(3, key) + exact_number(5, 0)


def version_is(key: bytes, version: int) -> bytes:
    return number(1, _EQUAL) + number(2, _VERSION) + octets(3, key) + exact_number(4, version)


def txn_request(compares: Sequence[bytes], success: Sequence[bytes], failure: Sequence[bytes]) -> bytes:
    return b"".join(
        (
            *(exact_bytes(1, compare) for compare in compares),
            *(exact_bytes(2, operation) for operation in success),
            *(exact_bytes(3, operation) for operation in failure),
        )
    )


def compaction_request(revision: int) -> bytes:
    return number(1, revision)


def watch_request(key: bytes, end: bytes, start: int) -> bytes:
    return exact_bytes(1, octets(1, key) + octets(2, end) + number(3, start))


def read_range(message: bytes) -> Found:
    revision, records, more = 0, [], False
    for field, value in fields(message):
        if field == 2:
            records.append(_key_value(as_bytes(value)))
        elif field == 1:
            revision = _revision(as_bytes(value))
        elif field == 3:
            more = bool(value)
    return Found(revision, records, more)


def read_txn(message: bytes) -> Outcome:
    revision, succeeded, found = 0, False, []
    for field, value in fields(message):
        if field == 1:
            revision = _revision(as_bytes(value))
        elif field == 2:
            succeeded = bool(value)
        elif field == 3:
            found += [read_range(as_bytes(inner)).records for kind, inner in fields(as_bytes(value)) if kind == 1]
    return Outcome(revision, succeeded, found)


def read_watch(message: bytes) -> Watched:
    created, canceled, compacted, reason, events = False, False, 0, "", []
    for field, value in fields(message):
        if field == 11:
            events.append(_event(as_bytes(value)))
        elif field == 3:
            created = bool(value)
        elif field == 4:
            canceled = bool(value)
        elif field == 5:
            compacted = as_number(value)
        elif field == 6:
            reason = as_bytes(value).decode("utf-8", "replace")
    return Watched(created, canceled, compacted, reason, events)


def _event(message: bytes) -> tuple[KeyValue, bool]:
    gone, record = False, KeyValue(b"", b"", 0, 0, 0)
    for field, value in fields(message):
        if field == 2:
            record = _key_value(as_bytes(value))
        elif field == 1:
            gone = value == _DELETED
    return record, gone


def _key_value(message: bytes) -> KeyValue:
    found: dict[int, int | bytes] = dict(fields(message))
    return KeyValue(
        key=as_bytes(found.get(1, b"")),
        value=as_bytes(found.get(5, b"")),
        created=as_number(found.get(2, 0)),
        modified=as_number(found.get(3, 0)),
        version=as_number(found.get(4, 0)),
    )


def _revision(header: bytes) -> int:
    return next((as_number(value) for field, value in fields(header) if field == 3), 0)
