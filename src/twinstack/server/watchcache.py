"""Everything stored, in memory, with the recent past: what gets, lists and watches are answered from.

The store publishes durable changes in order of revision; a write returns only after that. So the state here
contains every acknowledged write, and needs no question to the store.

The history of a collection serves three things: watches that resume, lists of an exact revision, and the
later pages of a list, which repeat the state of the first (they take the present state and undo what has
happened since). What is older than the history is gone: 410.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from twinstack.api.resources import RESOURCES, Resource
from twinstack.server.versions import Version
from twinstack.server.watchers import Change, WatchGroups
from twinstack.store import Event, Opened, Record

HISTORY_CHANGES = 10_000
HISTORY_BYTES = 64 << 20
HISTORY_SECONDS = 300.0


class Collection:
    """The objects under one storage prefix. Keys are whole storage keys."""

    def __init__(self, prefix: str, revision: int) -> None:
        self.prefix = prefix
        self.floor = revision  # changes up to here are forgotten
        self.watches = WatchGroups()
        self._observers: list[Callable[[Change], None]] = []
        self._versions: dict[str, Version] = {}
        self._keys: list[str] = []  # sorted
        self._history: deque[Change] = deque()
        self._history_bytes = 0

    def load(self, records: Iterable[Record]) -> None:
        """Fill with what the store held when it was opened."""
        self._versions = {record.key: Version(*record) for record in records}
        self._keys = sorted(self._versions)

    def observe(self, observer: Callable[[Change], None]) -> None:
        """Call `observer`, which must not fail, with every change from now on."""
        self._observers.append(observer)

    def end_watches(self) -> None:
        ended, self.watches = self.watches, WatchGroups()
        ended.end()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: str) -> Version | None:
        return self._versions.get(key)

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """Those whose key begins with `prefix` and is greater than `after`, in order of keys."""
        return (self._versions[key] for key in _between(self._keys, prefix, after))

    def versions_at(self, revision: int, prefix: str, after: str = "") -> Iterator[Version] | None:
        """The same as of an earlier revision; None if that is too long ago."""
        if revision < self.floor:
            return None
        undone: dict[str, Version | None] = {}
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            undone[change.key] = change.old  # the earliest change since then decides
        if not undone:
            return self.versions(prefix, after)
        state = {key: self._versions[key] for key in _between(self._keys, prefix, after)}
        for key in _between(sorted(undone), prefix, after):
            old = undone[key]
            if old is None:
                state.pop(key, None)
            else:
                state[key] = old
        return (state[key] for key in sorted(state))

    def changes_since(self, revision: int) -> list[Change] | None:
        """What happened after `revision`, oldest first; None if that is too long ago."""
        if revision < self.floor:
            return None
        found: list[Change] = []
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            found.append(change)
        found.reverse()
        return found

    def apply(self, event: Event, now: float) -> None:
        """Take over one durable change and tell the watchers. `now` is a monotonic time in seconds."""
        key = event.key
        old = self._versions.get(key)
        if event.value is None:
            if old is None:
                return
            new = None
            del self._versions[key]
            del self._keys[bisect_left(self._keys, key)]
        else:
            new = Version(key, event.revision, event.value)
            self._versions[key] = new
            if old is None:
                insort(self._keys, key)
        change = Change(key, event.revision, old, new, now)
        self._remember(change)
        self.watches.dispatch(change)
        for observer in self._observers:
            observer(change)

    def _remember(self, change: Change) -> None:
        history = self._history
        history.append(change)
        self._history_bytes += change.size
        while (
            len(history) > HISTORY_CHANGES
            or self._history_bytes > HISTORY_BYTES
            or history[0].time < change.time - HISTORY_SECONDS
        ):
            forgotten = history.popleft()
            self._history_bytes -= forgotten.size
            self.floor = forgotten.revision
            if not history:
                break


class WatchCache:
    """All collections; `publish` is what the store calls."""

    def __init__(self) -> None:
        self.revision = 0
        self._collections = {resource.prefix: Collection(resource.prefix, 0) for resource in RESOURCES}
        self._others: dict[str, int] = {}  # keys that are no API objects, and their revisions
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def load(self, opened: Opened) -> None:
        """Fill with what the store holds. A watch resumes where nothing of its collection has happened since."""
        self.revision = opened.revision
        by_prefix: dict[str, list[Record]] = {prefix: [] for prefix in self._collections}
        for record in opened.records:
            collection = self._find(record.key)
            if collection is None:
                self._others[record.key] = record.revision
            else:
                by_prefix[collection.prefix].append(record)
        for prefix, collection in self._collections.items():
            records = by_prefix[prefix]
            collection.floor = max((record.revision for record in records), default=0)
            collection.load(records)
        for key, revision in opened.deletions.items():
            collection = self._find(key)
            if collection is not None:
                collection.floor = max(collection.floor, revision)
        for collection in self._collections.values():
            collection.floor = max(collection.floor, opened.forgotten)

    def add(self, prefix: str) -> None:
        """Have a collection of the objects under a prefix, from the present on; nothing happens if there is one."""
        if prefix not in self._collections:
            self._collections[prefix] = Collection(prefix, self.revision)

    def end_watches(self, prefix: str) -> None:
        """End the watches of a collection; their clients come back when they want to."""
        self._collections[prefix].end_watches()

    def collection(self, resource: Resource) -> Collection:
        return self._collections[resource.prefix]

    def exists(self, key: str) -> bool:
        collection = self._find(key)
        return key in self._others if collection is None else collection.get(key) is not None

    def other_keys(self, prefix: str) -> dict[str, int]:
        """The keys under `prefix` that are no API objects, and the revision of each."""
        return {key: revision for key, revision in self._others.items() if key.startswith(prefix)}

    def publish(self, events: Sequence[Event]) -> None:
        now = time.monotonic()
        for event in events:
            self.revision = event.revision
            collection = self._find(event.key)
            if collection is not None:
                collection.apply(event, now)
            elif event.value is None:
                self._others.pop(event.key, None)
            else:
                self._others[event.key] = event.revision
        if self._waiters:
            self._wake()

    def gap(self, revision: int) -> None:
        """Changes up to a revision may be missing in the histories: nothing resumes before it."""
        for collection in self._collections.values():
            collection.floor = max(collection.floor, revision)

    async def reach(self, revision: int, seconds: float) -> bool:
        """Wait until the cache is at least at `revision`; false if it is not in time."""
        if revision <= self.revision:
            return True
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, reached))
        try:
            await asyncio.wait([reached], timeout=seconds)
        finally:
            self._waiters = [waiter for waiter in self._waiters if waiter[1] is not reached]
        return revision <= self.revision

    def _wake(self) -> None:
        for revision, reached in self._waiters:
            if revision <= self.revision and not reached.done():
                reached.set_result(None)

    def _find(self, key: str) -> Collection | None:
        """By the first path segment of a storage key, or the first two (`apps/deployments/`)."""
        end = key.find("/") + 1
        collection = self._collections.get(key[:end])
        if collection is None:
            end = key.find("/", end) + 1
            collection = self._collections.get(key[:end])
        return collection


def _between(keys: list[str], prefix: str, after: str) -> list[str]:
    """The sorted keys that begin with `prefix` and come after `after`."""
    start = bisect_left(keys, prefix)
    if after >= prefix:
        start = max(start, bisect_left(keys, after + "\0"))
    return keys[start : bisect_left(keys, prefix + "\U0010ffff")]
