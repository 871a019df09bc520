"""The embedded store: one SQLite file, one writer thread, group commit.

Compare-and-swap runs in the event loop on revisions held in memory, the accepted but not yet durable ones
included, so revisions are handed out in order and a conflict costs no disk access. What is accepted while
one SQLite transaction runs goes into the next one: one fsync serves many commits.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from twinstack.store.base import Conflict, Event, Opened, Operation, Put, StoreError, no_gap
from twinstack.store.database import Database, advice
from twinstack.store.worker import Worker

log = logging.getLogger(__name__)

R = TypeVar("R")

_BATCH_EVENTS = 2000  # bounds how long one SQLite transaction takes


class _Transaction(NamedTuple):
    """An accepted transaction: what it publishes, and the revisions to go back to if it fails."""

    events: list[Event]
    done: asyncio.Future[None]  # cancelled if its caller gives up
    followers: list[asyncio.Future[None]]  # who only waits for its end

    def settle(self, error: StoreError | None = None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        for follower in self.followers:
            if not follower.done():
                follower.set_result(None)


class SQLiteStore:
    """A `Store` in the file `path`, which this process alone may have open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._revision = 0
        self._revisions: dict[str, int] = {}  # of every key, accepted transactions included
        self._waiting: deque[_Transaction] = deque()
        self._running: list[_Transaction] = []
        self._publish: Callable[[Sequence[Event]], None] = lambda events: None
        self._database: Database | None = None
        self._writer: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Future[None] | None = None  # there while something is written or about to be

    @property
    def live(self) -> bool:
        """Whether the file is open."""
        return self._database is not None

    async def open(self, publish: Callable[[Sequence[Event]], None], gap: Callable[[int], None] = no_gap) -> Opened:
        """Open or create the file; there are no gaps. Raises StoreError when it is locked, foreign or damaged."""
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._writer = Worker("store")
        try:
            self._database = await self._on_writer(Database, self._path)
            opened = await self._on_writer(self._database.load)
        except (sqlite3.Error, OSError) as error:
            await self._release()
            raise StoreError(f"the store {self._path}: {advice(error)}") from error
        self._revision = opened.revision
        self._revisions = {record.key: record.revision for record in opened.records}
        return opened

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Raises Conflict, or StoreError when the change could not be made durable."""
        if self._database is None or self._loop is None:
            raise StoreError("the store is closed")
        events = self._accept(operations)
        if not events:
            return []
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(_Transaction(events, done, []))
        if self._idle is None:
            self._idle = self._loop.create_future()
            self._loop.call_soon(self._write_waiting)  # with what else this turn of the loop brings
        await done  # a caller who gives up does not stop the write
        return [event.revision for event in events]

    async def settled(self) -> None:
        last = self._waiting[-1] if self._waiting else self._running[-1] if self._running else None
        if last is not None and self._loop is not None:
            follower: asyncio.Future[None] = self._loop.create_future()
            last.followers.append(follower)
            await follower

    async def current(self) -> None:
        """Nobody else writes, and nobody is told of a change before it is published."""

    async def copy(self) -> int:
        """A descriptor of a nameless file with all that is stored now; writes wait meanwhile, half a second for 100 MB.

        Raises StoreError.
        """
        if self._database is None:
            raise StoreError("the store is closed")
        try:
            return await self._on_writer(self._database.copy)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot copy the store {self._path}: {advice(error)}") from error

    async def close(self) -> None:
        while self._idle is not None:
            await asyncio.wait([self._idle])
        await self._release()

    def _accept(self, operations: Sequence[Operation]) -> list[Event]:
        """Check every expectation, assign revisions, make the values. All or nothing."""
        revision = self._revision
        events: list[Event] = []
        try:
            for operation in operations:
                key, expect = operation.key, operation.expect
                actual = self._revisions.get(key, 0)
                if expect is not None and expect != actual:
                    raise Conflict(key, expect, actual)
                revision += 1
                if isinstance(operation, Put):
                    events.append(Event(key, revision, operation.encode(revision), actual))
                    self._revisions[key] = revision
                else:
                    if not actual:
                        raise Conflict(key, expect, 0)
                    events.append(Event(key, revision, None, actual))
                    del self._revisions[key]
        except BaseException:
            self._take_back(events)
            raise
        self._revision = revision
        return events

    def _take_back(self, events: Sequence[Event]) -> None:
        for event in reversed(events):
            if event.previous:
                self._revisions[event.key] = event.previous
            else:
                self._revisions.pop(event.key, None)

    def _write_waiting(self) -> None:
        assert self._writer is not None
        assert self._database is not None
        events = self._next_batch()
        self._writer.run(self._database.write, events, then=functools.partial(self._written, events))

    def _written(self, events: list[Event], _: None, error: BaseException | None) -> None:
        """Tell, and write the next batch until nothing waits."""
        if error is None:
            self._succeed(events)
        else:
            self._fail(error)
        if self._waiting:
            self._write_waiting()
        elif self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _next_batch(self) -> list[Event]:
        events: list[Event] = []
        while self._waiting and len(events) < _BATCH_EVENTS:
            transaction = self._waiting.popleft()
            self._running.append(transaction)
            events += transaction.events
        return events

    def _succeed(self, events: list[Event]) -> None:
        running, self._running = self._running, []
        try:
            self._publish(events)
        except Exception:
            log.exception("a reader of the store failed on revisions %d to %d", events[0].revision, events[-1].revision)
        for transaction in running:
            transaction.settle()

    def _fail(self, error: BaseException) -> None:
        """Whatever waits was checked against what has just failed, so it fails too."""
        log.error("cannot write the store %s: %s", self._path, error)
        failed = [*self._running, *self._waiting]
        self._running = []
        self._waiting.clear()
        for transaction in reversed(failed):
            self._take_back(transaction.events)
        for transaction in failed:
            transaction.settle(StoreError(f"the change was not stored: {error}"))

    def _on_writer(self, function: Callable[..., R], *arguments: object) -> asyncio.Future[R]:
        assert self._writer is not None
        return self._writer.call(function, *arguments)

    async def _release(self) -> None:
        database, self._database = self._database, None
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if database is not None:
            await writer.call(database.close)
        writer.close()
