"""What everybody changes under a prefix, in order: one etcd watch, opened again wherever it broke off.

A transaction's events come in one message, so a revision is told whole or not at all, and a watch that begins
after the last revision told neither misses nor repeats any. Where etcd has compacted what was missed, the state is
read anew and the difference told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from twinstack.store.base import Event, Record
from twinstack.store.etcd import messages
from twinstack.store.etcd.channel import Channel, RPCError
from twinstack.store.etcd.http2 import Code, Enough
from twinstack.store.etcd.protobuf import WireError
from twinstack.store.etcd.stamps import stamped

log = logging.getLogger(__name__)

FENCE = "fence"  # a key below the prefix that readers write, and that is told to nobody

_PAGE = 5000  # keys of one answer
_SECONDS = 20.0  # for one page
_HEAD_SECONDS = 10.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


class Compacted(Exception):
    """A revision is too old to be read."""


class ForeignData(Exception):
    """The prefix holds what another program has stored."""


class Feed:
    """`revision` is the last one told; `live` whether etcd is telling."""

    def __init__(self, channel: Channel, prefix: bytes) -> None:
        self._channel = channel
        self._prefix = prefix
        self._end = messages.end_of(prefix)
        self._fence = prefix + FENCE.encode()
        self._publish: Callable[[Sequence[Event]], None] = lambda events: None
        self._gap: Callable[[int], None] = lambda revision: None
        self._revisions: dict[str, int] = {}  # of every key
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._compacted = False
        self.revision = 0
        self.live = False

    async def read(self, revision: int) -> list[Record]:
        """Everything as of a revision. Raises RPCError, Compacted, ForeignData."""
        records: list[Record] = []
        start, more = self._prefix, True
        while more:
            request = messages.range_request(start, self._end, limit=_PAGE, revision=revision)
            try:
                answer = await self._channel.call(messages.RANGE, request, seconds=_SECONDS, repeat=True)
            except RPCError as error:
                if error.code == Code.OUT_OF_RANGE:
                    raise Compacted from error
                raise
            found = messages.read_range(answer)
            for each in found.records:
                if each.value.startswith(b"k8s\0"):
                    raise ForeignData
                if each.key != self._fence:
                    records.append(Record(self._name(each.key), each.modified, stamped(each.value, each.modified)))
            more = found.more and bool(found.records)
            if more:
                start = found.records[-1].key + b"\0"
        return records

    def begin(
        self,
        revision: int,
        records: Sequence[Record],
        publish: Callable[[Sequence[Event]], None],
        gap: Callable[[int], None],
    ) -> None:
        """What `follow` goes on from, and whom it tells."""
        self.revision = revision
        self._revisions = {record.key: record.revision for record in records}
        self._publish, self._gap = publish, gap

    async def follow(self) -> None:
        """For as long as the store is open; cancel to stop. Whoever waits is told what was missed."""
        pause = _FIRST_PAUSE
        while True:
            before = self.revision
            try:
                if self._compacted:
                    await self._catch_up()
                request = messages.watch_request(self._prefix, self._end, self.revision + 1)
                how = await self._channel.stream(messages.WATCH, request, self._take)
                log.warning("the watch of etcd has ended: %s", how.message or "without a reason")
            except (RPCError, WireError) as error:
                log.warning("etcd cannot be watched: %s", error)
            except Compacted:  # between two pages: read again
                log.warning("etcd has compacted what is being read")
            finally:
                was_live, self.live = self.live, False
            if was_live or self.revision > before:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def reach(self, revision: int, seconds: float) -> bool:
        """Wait until a revision has been told; false if it is not in time."""
        if revision <= self.revision:
            return True
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (revision, reached)
        self._waiters.append(waiter)
        try:
            await asyncio.wait([reached], timeout=seconds)
        finally:
            if not reached.done():
                self._waiters.remove(waiter)
        return revision <= self.revision

    def _take(self, message: bytes) -> None:
        """One answer of the watch, in the turn of the loop in which it comes. Raises WireError."""
        watched = messages.read_watch(message)
        if watched.compacted:
            self._compacted = True
        if watched.canceled:
            raise Enough(watched.reason or "etcd has cancelled it")
        self.live = True
        last = self.revision
        events = [
            self._event(record.key, record.modified, None if gone else record.value)
            for record, gone in watched.events
            if record.modified > last and record.key != self._fence
        ]
        if watched.events:
            self._tell(events, watched.events[-1][0].modified)

    def _event(self, key: bytes, revision: int, value: bytes | None) -> Event:
        name = self._name(key)
        if value is None:
            return Event(name, revision, None, self._revisions.pop(name, 0))
        previous = self._revisions.get(name, 0)
        self._revisions[name] = revision
        return Event(name, revision, stamped(value, revision), previous)

    def _name(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode("utf-8", "surrogateescape")

    def _tell(self, events: list[Event], revision: int) -> None:
        """Everything up to a revision."""
        first, self.revision = self.revision + 1, max(self.revision, revision)
        try:
            if events:
                self._publish(events)
        except Exception:
            log.exception("a reader of the store failed on revisions %d to %d", first, self.revision)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter[0] > self.revision:
                self._waiters.append(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)

    async def _catch_up(self) -> None:
        """Tell the difference between what was told and what is. Raises RPCError, Compacted."""
        revision = await self.head()
        try:
            records = await self.read(revision)
        except ForeignData:
            raise RPCError(Code.UNKNOWN, "another program has written under the prefix") from None
        log.warning("etcd has compacted changes that were not told: the state is compared at revision %d", revision)
        self._gap(revision)
        kept = {record.key for record in records}
        events = [
            Event(each.key, each.revision, each.value, self._revisions.get(each.key, 0))
            for each in sorted(records, key=lambda record: record.revision)
            if self._revisions.get(each.key) != each.revision
        ]
        events += [Event(key, revision, None, old) for key, old in self._revisions.items() if key not in kept]
        self._revisions = {record.key: record.revision for record in records}
        self._compacted = False
        self._tell(events, revision)

    async def head(self) -> int:
        """The store's revision now, agreed by a majority: a linearizable read of one key. Raises RPCError."""
        request = messages.range_request(self._prefix, count_only=True, limit=1)
        answer = await self._channel.call(messages.RANGE, request, seconds=_HEAD_SECONDS, repeat=True)
        return messages.read_range(answer).revision
