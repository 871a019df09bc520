"""The protocol that SQLite and etcd implement.

One revision counter for all keys, never repeated, also not after a restart. A transaction is all or
nothing. A change is published, and its commit returns, only once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Put(NamedTuple):
    """Write one key.

    `encode` makes the value once the revision is known, so that it can hold it (`metadata.resourceVersion`).
    `expect` is the revision the key must have now: 0 means it must be absent, None that anything goes.
    """

    key: str
    encode: Callable[[int], bytes]
    expect: int | None


class Delete(NamedTuple):
    """Remove one key, which must exist. `expect` as in Put."""

    key: str
    expect: int | None


Operation = Put | Delete


class Record(NamedTuple):
    """One stored value and the revision that wrote it."""

    key: str
    revision: int
    value: bytes


class Event(NamedTuple):
    """One durable change. `value` is None for a deletion; `previous` is the key's revision before, 0 if none."""

    key: str
    revision: int
    value: bytes | None
    previous: int


class Opened(NamedTuple):
    """What a store holds when it is opened.

    `deletions` has keys that are absent and the revision that removed each, as far as the store remembers: what
    was deleted up to revision `forgotten` need not be among them.
    """

    revision: int
    records: list[Record]
    deletions: dict[str, int]
    forgotten: int


class Conflict(Exception):
    """A transaction found `key` at another revision than it expected; nothing was written."""

    def __init__(self, key: str, expected: int | None, actual: int) -> None:
        super().__init__(f"{key} is at revision {actual}, not {expected}")
        self.key = key
        self.expected = expected
        self.actual = actual


class StoreError(Exception):
    """The store cannot be opened, is closed, or could not make a change durable: nothing of it is visible."""


class Store(Protocol):
    """Every operation of one transaction gets a revision of its own, in order."""

    async def open(self, publish: Callable[[Sequence[Event]], None]) -> Opened:
        """Start; returns the current revision and everything stored.

        `publish` is then called in the event loop with every durable change, in order of revision, and
        before the commit that made it returns.
        """

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Run one transaction; returns the revision of each operation. Raises Conflict, StoreError."""

    async def settled(self) -> None:
        """Wait until all changes accepted so far are published: what a loser of a conflict does first."""

    async def close(self) -> None:
        """Finish what was accepted, then release files and sockets."""
