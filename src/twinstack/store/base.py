"""The protocol that SQLite and etcd implement.

One revision counter for all keys, never going back, also not after a restart. A transaction is all or
nothing, but for one that writes a key twice: etcd takes that in two steps. A change is published, and its commit
returns, only once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Put(NamedTuple):
    """Write one key.

    `encode` makes the value for a revision, so that it can hold it: an API object does, as the first field of its
    metadata. A store that learns the revision only from its commit calls it twice, first with 0.
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


class Unavailable(StoreError):
    """The store does not answer, or refuses: its own words. Whether a change was made is not known."""


class TimedOut(Unavailable):
    """The store has not answered in time."""


def no_gap(revision: int) -> None:
    """What a reader does about changes it has not been told of, when it does nothing."""


class Store(Protocol):
    """Operations of one transaction have one revision, or ascending ones in their order."""

    @property
    def live(self) -> bool:
        """Whether the store can be reached, as far as it knows."""

    async def open(self, publish: Callable[[Sequence[Event]], None], gap: Callable[[int], None] = no_gap) -> Opened:
        """Start; returns a revision and everything stored at it.

        `publish` is then called in the event loop with every durable change since, in order of revision, and
        before the commit that made it returns. Before what it is called with only makes the state right, changes
        up to a revision having been missed, `gap` is called with that revision.
        """

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Run one transaction; returns the revision of each operation. Raises Conflict, StoreError."""

    async def settled(self) -> None:
        """Wait until all changes accepted so far are published: what a loser of a conflict does first."""

    async def current(self) -> None:
        """Wait until everything is published that anybody was told is stored: what a consistent read does first.

        Raises Unavailable.
        """

    async def close(self) -> None:
        """Finish what was accepted, then release files and sockets."""
