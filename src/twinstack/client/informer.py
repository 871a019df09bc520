"""A local copy of all objects of a kind, kept current by a watch, with indexes and change handlers.

The state is read by WatchList (KEP-3157); a server that refuses it is asked for a list and a watch.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.rest import SILENCE, Client
from twinstack.client.watching import WatchEvent

T = TypeVar("T", bound=Object)

FIRST_PAUSE = 0.05  # seconds: a cluster that starts is there soon
LONGEST_PAUSE = 5.0
LONGEST_REFUSED = 1.0  # where nobody listens, asking costs next to nothing
GROWTH = 1.5
SETTLED = 1.0  # a stream that lasted as long counts as success
INITIAL_STATE = 60.0  # seconds a WatchList may take before the server is taken for one that ignores it
GONE = 410

Handler = Callable[[T | None, T | None], None]  # (old, new)

log = logging.getLogger(__name__)


class Index(Generic[T]):
    """Objects by a name that a function gives them: `index["default/web"]` → those objects by key."""

    def __init__(self, names: Callable[[T], Iterable[str]]) -> None:
        self._names = names
        self._entries: dict[str, dict[str, T]] = {}

    def __getitem__(self, name: str) -> dict[str, T]:
        """The objects under `name`, by key; empty when there are none. Not to be changed."""
        return self._entries.get(name, {})

    def replace(self, old: T | None, new: T | None) -> None:
        """Follow one change."""
        before = set(self._names(old)) if old is not None else set()
        after = set(self._names(new)) if new is not None else set()
        if old is not None:
            for name in before - after:
                entries = self._entries[name]
                del entries[old.key]
                if not entries:
                    del self._entries[name]
        if new is not None:
            for name in after:
                self._entries.setdefault(name, {})[new.key] = new


class Informer(Generic[T]):
    """All objects of a kind that the selectors match.

    `objects` is current up to what the server has sent; typed objects in it are shared and must not be
    changed. Handlers run in the event loop, after `objects` and the indexes show the change.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        silence: float = SILENCE,
    ) -> None:
        self.objects: dict[str, T] = {}  # by obj.key
        self.kind = kind
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._silence = silence
        self._handlers: list[Handler[T]] = []
        self._indexes: list[Index[T]] = []
        self._synced = asyncio.Event()
        self._removed: set[str] = set()  # uids
        self._resource_version = ""  # of the last event or bookmark; empty: read the whole state anew
        self._newest = 0  # the greatest of them
        self._pause = FIRST_PAUSE
        self._gone = 0.0  # when that version was last too old, loop time

    def subscribe(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` for every change: (None, x) added, (x, y) changed, (x, None) deleted.

        Objects that are already there are told at once.
        """
        self._handlers.append(handler)
        for obj in list(self.objects.values()):
            handler(None, obj)

    def index(self, names: Callable[[T], Iterable[str]]) -> Index[T]:
        """A view of the objects by the names that `names` gives each."""
        index = Index(names)
        self._indexes.append(index)
        for obj in self.objects.values():
            index.replace(None, obj)
        return index

    async def synced(self) -> None:
        """Wait until the first whole state has been delivered."""
        await self._synced.wait()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    def wrote(self, obj: T) -> None:
        """Take in the server's answer to a write of ours, before the watch brings it.

        So a controller sees its own writes and never acts twice on a state that it has already changed.
        """
        if obj.metadata.uid not in self._removed:
            self._put(obj)

    def removed(self, obj: T) -> None:
        """Take in that the server has deleted `obj` for good at our request."""
        if obj.key in self.objects and self.objects[obj.key].metadata.uid == obj.metadata.uid:
            self._removed.add(obj.metadata.uid)  # until the watch has told of it, older news of it is void
            self._remove(obj.key)

    async def run(self) -> None:
        """Follow the server for ever; cancel to stop."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._follow()
                failure = ""
            except StatusError as error:
                failure = "" if error.code == GONE else str(error)
                if error.code == GONE and started - self._gone > SETTLED:
                    self._gone, self._pause = started, FIRST_PAUSE  # the server is well, it has only been restarted
                self._resource_version = ""  # whatever is wrong with it, a new state heals it
            except ConnectionRefusedError as error:
                failure = str(error)
                self._pause = min(self._pause, LONGEST_REFUSED)
            except (OSError, msgspec.DecodeError) as error:
                failure = str(error) or type(error).__name__
            if loop.time() - started > SETTLED:
                self._pause = FIRST_PAUSE
            await self._rest(failure)

    async def _rest(self, failure: str) -> None:
        """Pause, longer each time until a stream has lasted: also after clean ends, which come every few minutes."""
        pause = self._pause * random.uniform(0.8, 1.2)
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
        if failure:
            level = logging.DEBUG if pause < LONGEST_PAUSE / 10 else logging.WARNING
            log.log(level, "watch of %s: %s; again in %.2f s", self.kind.resource.plural, failure, pause)
        await self._client.rest(pause)

    async def _follow(self) -> None:
        """One stream, and the whole state before it unless the last version is known."""
        if self._resource_version:
            await self._consume(self._resource_version)
            return
        try:
            await self._watch_list()
            return
        except StatusError as error:
            if error.code in (GONE, 429) or self._resource_version:
                raise
            reason = str(error)
        except TimeoutError:
            if self._resource_version:
                raise
            reason = "no end of the initial events"
        log.debug("no WatchList of %s (%s): list and watch", self.kind.resource.plural, reason)
        items, version = await self._client.list(
            self.kind,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        for item in items:
            self._put(item)
        self._complete({item.key for item in items}, version)
        await self._consume(version)

    async def _watch_list(self) -> None:
        seen: set[str] | None = set()
        async with asyncio.timeout(INITIAL_STATE) as deadline, aclosing(self._stream("", initial=True)) as events:
            async for event in events:
                if seen is None:
                    self._apply(event)
                elif event.ends_initial_events:
                    deadline.reschedule(None)
                    self._complete(seen, event.object.metadata.resource_version)
                    seen = None
                elif event.type == "DELETED":
                    seen.discard(event.object.key)
                    self._deleted(event.object)
                elif event.type != "BOOKMARK":
                    seen.add(event.object.key)
                    self._put(event.object)

    async def _consume(self, version: str) -> None:
        async with aclosing(self._stream(version, initial=False)) as events:
            async for event in events:
                self._apply(event)

    def _stream(self, version: str, *, initial: bool) -> AsyncGenerator[WatchEvent[T], None]:
        return self._client.watch(
            self.kind,
            self._namespace,
            resource_version=version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            initial_events=initial,
            silence=self._silence,
        )

    def _apply(self, event: WatchEvent[T]) -> None:
        if event.type == "DELETED":
            self._deleted(event.object)
        elif event.type != "BOOKMARK":
            self._put(event.object)
        self._advance(event.object.metadata.resource_version)

    def _advance(self, version: str) -> None:
        self._resource_version, self._newest = version, int(version)

    def _complete(self, seen: set[str], version: str) -> None:
        """The whole state as of `version` has been put: drop what is no longer there."""
        if int(version) < self._newest:
            self._newest = 0
            for key in list(self.objects):
                self._remove(key)
            raise ConnectionError(f"the server's history went back to {version}: read again")
        self._removed.clear()
        for key in self.objects.keys() - seen:
            if _version(self.objects[key]) <= int(version):  # else we wrote it since
                self._remove(key)
        self._advance(version)
        self._synced.set()

    def _put(self, new: T) -> None:
        key = new.key
        old = self.objects.get(key)
        if old is not None and _version(new) <= _version(old):
            return  # known, or overtaken by a write of ours
        if new.metadata.uid in self._removed:
            return
        self.objects[key] = new
        self._tell(old, new)

    def _deleted(self, last: T) -> None:
        self._removed.discard(last.metadata.uid)
        known = self.objects.get(last.key)
        if known is not None and _version(known) <= _version(last):
            self._remove(last.key)

    def _remove(self, key: str) -> None:
        self._tell(self.objects.pop(key), None)

    def _tell(self, old: T | None, new: T | None) -> None:
        for index in self._indexes:
            index.replace(old, new)
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception:
                # One faulty observer must not blind the others, nor stop the watch.
                log.exception("handler of %s failed", self.kind.resource.plural)


def _version(obj: Object) -> int:
    """The revision that wrote an object. Versions of one collection compare as numbers (KEP-5504)."""
    return int(obj.metadata.resource_version)
