"""The distributed store: one prefix of an etcd cluster, written by any number of servers.

Compare-and-swap is etcd's own: a transaction is one Txn whose comparisons are the expected revisions. What is
published comes from a watch (`feed`), so the writes of other servers are seen like one's own, and a commit returns
once the watch has told it.

etcd 3.4 can be asked over a watch how far it has told, but its answer may overtake changes; kube-apiserver does not
trust it either. So a consistent read asks for the store's revision, once for all who wait, and waits until that is
told. Where the revision came from somebody else's key, it never is: then a write of our own, the fence, is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence

from twinstack.store.base import (
    Conflict,
    Delete,
    Event,
    Opened,
    Operation,
    Put,
    Record,
    StoreError,
    TimedOut,
    Unavailable,
    no_gap,
)
from twinstack.store.etcd import messages
from twinstack.store.etcd.channel import Channel, Endpoint, RPCError
from twinstack.store.etcd.compaction import compact_now_and_then
from twinstack.store.etcd.feed import FENCE, Compacted, Feed, ForeignData
from twinstack.store.etcd.http2 import Code
from twinstack.store.etcd.protobuf import WireError

log = logging.getLogger(__name__)

HISTORY = 1000  # revisions before the present that are told at the start, so that watches of other servers resume here
_OPEN_SECONDS = 20.0
_WRITE_SECONDS = 10.0  # etcd itself gives up after seven
_TELL_SECONDS = 10.0  # until the watch has told what is known to be there
_FENCE_SECONDS = 0.05  # after which a revision is taken for somebody else's
_MOST_OPERATIONS = 128  # of a transaction: etcd's --max-txn-ops


class EtcdStore:
    """A `Store` under `prefix` (`/registry`). `compaction` is in seconds, 0 leaves it to others.

    `history`: etcd tells what is past in turns of a tenth of a second, so it costs that much at the start.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        prefix: str,
        tls: ssl.SSLContext | None = None,
        *,
        compaction: float = 0.0,
        history: int = HISTORY,
    ) -> None:
        self._prefix = prefix.rstrip("/").encode() + b"/"
        self._channel = Channel(endpoints, tls)
        self._feed = Feed(self._channel, self._prefix)
        self._compaction = compaction
        self._history = history
        self._tasks: list[asyncio.Task[None]] = []
        self._askers: list[asyncio.Future[int]] = []
        self._asking: asyncio.Task[None] | None = None
        self._fencing = asyncio.Lock()
        self._closed = False

    @property
    def live(self) -> bool:
        """Whether changes are being told."""
        return self._feed.live

    async def open(self, publish: Callable[[Sequence[Event]], None], gap: Callable[[int], None] = no_gap) -> Opened:
        """Read everything. Raises StoreError when etcd cannot be reached, or the prefix belongs to another program."""
        where = self._prefix.decode()
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                revision, records = await self._read()
        except ForeignData:
            raise StoreError(f"{where} in etcd holds the data of another program: name another --etcd-prefix") from None
        except TimeoutError:
            raise StoreError("etcd: context deadline exceeded: are --etcd-servers reachable?") from None
        except RPCError as error:
            raise StoreError(f"etcd: {error}") from error
        self._feed.begin(revision, records, publish, gap)
        self._tasks.append(asyncio.create_task(self._feed.follow()))
        if self._compaction:
            self._tasks.append(asyncio.create_task(compact_now_and_then(self._channel, self._compaction)))
        return Opened(revision, records, {}, revision)

    async def _read(self) -> tuple[int, list[Record]]:
        """The state of a while ago: what has happened since is told, and is history then."""
        head = await self._feed.head()
        past = max(head - self._history, 1)
        try:
            return past, await self._feed.read(past)
        except Compacted:
            return head, await self._feed.read(head)

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Raises Conflict, Unavailable, StoreError."""
        revisions: list[int] = []
        for step in _steps(operations):
            known = dict(zip((each.key for each in operations), revisions, strict=False))
            step = [_expecting(each, known.get(each.key)) for each in step]
            revisions += [await self._transact(step)] * len(step)
        if revisions and not await self._feed.reach(revisions[-1], _TELL_SECONDS):
            log.warning("revision %d is stored, but etcd has not told it yet", revisions[-1])
        for operation, revision in zip(operations, revisions, strict=True):
            if isinstance(operation, Put):
                operation.encode(revision)
        return revisions

    async def _transact(self, operations: Sequence[Operation]) -> int:
        """One Txn; returns its revision."""
        if self._closed:
            raise StoreError("the store is closed")
        if len(operations) > _MOST_OPERATIONS:
            raise StoreError("etcdserver: too many operations in txn request")
        compares: list[bytes] = []
        writes: list[bytes] = []
        looks: list[bytes] = []
        compared: list[Operation] = []
        for operation in operations:
            key = self._key(operation.key)
            if operation.expect is not None:
                compares.append(messages.modified_at(key, operation.expect))
            if isinstance(operation, Delete) and not operation.expect:
                compares.append(messages.exists(key))
            if operation.expect is not None or isinstance(operation, Delete):
                compared.append(operation)
                looks.append(messages.range_operation(messages.range_request(key, keys_only=True)))
            if isinstance(operation, Put):
                writes.append(messages.put_operation(key, operation.encode(0)))
            else:
                writes.append(messages.delete_operation(key))
        outcome = await self._write(messages.txn_request(compares, writes, looks))
        if not outcome.succeeded:
            raise _conflict(compared, [found[0].modified if found else 0 for found in outcome.found])
        return outcome.revision

    async def _write(self, request: bytes) -> messages.Outcome:
        try:
            answer = await self._channel.call(messages.TXN, request, seconds=_WRITE_SECONDS, repeat=False)
            return messages.read_txn(answer)
        except (RPCError, WireError) as error:
            raise _told(error) from error

    def _key(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogateescape")

    async def settled(self) -> None:
        """The winner's change may be another server's. Raises Unavailable."""
        await self.current()

    async def current(self) -> None:
        """Raises Unavailable."""
        if self._closed:
            raise Unavailable("the store is closed")
        revision = await self._agreed_revision()
        if await self._feed.reach(revision, _FENCE_SECONDS):
            return
        async with self._fencing:
            if self._feed.revision >= revision:
                return
            fence = await self._transact([Put(FENCE, lambda _: b"", None)])  # which the feed keeps to itself
            if not await self._feed.reach(fence, _TELL_SECONDS):
                raise TimedOut("context deadline exceeded")

    async def _agreed_revision(self) -> int:
        """The store's revision at some time after the call began: all who come while one asks share the next answer."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._askers.append(answer)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        try:
            while self._askers:
                askers, self._askers = self._askers, []
                try:
                    revision = await self._feed.head()
                except (RPCError, WireError) as error:
                    for asker in askers:
                        if not asker.done():
                            asker.set_exception(_told(error))
                    continue
                for asker in askers:
                    if not asker.done():
                        asker.set_result(revision)
        finally:
            self._asking = None

    async def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._channel.close()
        if self._asking is not None:
            await asyncio.wait([self._asking])


def _steps(operations: Sequence[Operation]) -> list[list[Operation]]:
    """As few transactions as there can be when none may write a key twice."""
    steps: list[list[Operation]] = []
    seen: set[str] = set()
    for operation in operations:
        if not steps or operation.key in seen:
            steps.append([])
            seen.clear()
        seen.add(operation.key)
        steps[-1].append(operation)
    return steps


def _expecting(operation: Operation, revision: int | None) -> Operation:
    """With the revision that an earlier step has given the key, where anything goes."""
    return operation if operation.expect is not None or revision is None else operation._replace(expect=revision)


def _conflict(operations: Sequence[Operation], found: Sequence[int]) -> Conflict:
    """The first expectation that was not met."""
    for operation, actual in zip(operations, found, strict=True):
        if operation.expect not in (None, actual) or (isinstance(operation, Delete) and not actual):
            return Conflict(operation.key, operation.expect, actual)
    raise StoreError("etcd refused a transaction whose expectations are met")


def _told(error: RPCError | WireError) -> Unavailable:
    late = isinstance(error, RPCError) and error.code == Code.DEADLINE_EXCEEDED
    return TimedOut(str(error)) if late else Unavailable(str(error))
