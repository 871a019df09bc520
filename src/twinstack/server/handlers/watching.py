"""watch, with bookmarks and initial events (KEP-956, KEP-3157)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from functools import partial

import msgspec

from twinstack.api.errors import expired
from twinstack.server import framed
from twinstack.server.componentstatuses import COMPONENTS
from twinstack.server.forms import Form, event_frame
from twinstack.server.handlers.listing import wait_for
from twinstack.server.messages import Answer, Request, Route, StreamResponse, StreamWriter
from twinstack.server.options import ListOptions, list_options
from twinstack.server.registry import Registry
from twinstack.server.representation import choose
from twinstack.server.selection import Selection
from twinstack.server.versions import Version, view_of
from twinstack.server.watchcache import Collection, WatchCache
from twinstack.server.watchers import Watcher, replay

BOOKMARK_SECONDS = 60.0
_LAST_BOOKMARK_SECONDS = 2.0  # before the deadline
_DEFAULT_SECONDS = (1800, 3600)  # a random length between: the clients of a restarted server spread out
_BATCH_BYTES = 256 << 10  # of initial events written at once


class Watching:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache = registry.cache

    async def watch(self, request: Request, route: Route) -> Answer:
        """Raises StatusError; what goes wrong after the headers is an ERROR event."""
        view = view_of(route.resource)
        form = choose(request, view, single=False).form
        options = list_options(request, watch=True)
        selection = Selection(view, route.namespace, options.label_selector, options.field_selector)
        if options.resource_version is None:
            await self._registry.current()
        if options.initial_events:
            await wait_for(self._cache, options.resource_version)
        collection = self._cache.collection(route.resource)
        stream = _Stream(self._cache, collection, selection, form, options)
        user = request.user.name
        if user not in COMPONENTS:
            return framed.events(request, StreamResponse(status=200, produce=stream.run))
        return framed.events(request, StreamResponse(status=200, produce=partial(self._noted, user, stream)))

    async def _noted(self, user: str, stream: _Stream, writer: StreamWriter) -> None:
        """A component that watches lives."""
        watching = self._registry.watching
        watching[user] += 1
        try:
            await stream.run(writer)
        finally:
            watching[user] -= 1


class _Stream:
    """One watch from its first byte to its last."""

    def __init__(
        self, cache: WatchCache, collection: Collection, selection: Selection, form: Form, options: ListOptions
    ) -> None:
        self._cache = cache
        self._collection = collection
        self._selection = selection
        self._form = form
        self._options = options
        self._watcher = Watcher(cache.revision)

    async def run(self, writer: StreamWriter) -> None:
        """State, history and registration are taken in one turn of the loop: nothing is missed or told twice."""
        initial: list[Version] = []
        if self._starts_with_state():
            self._watcher.after = self._cache.revision
            initial = self._state()
        elif not self._resume():
            writer.write(self._too_old())
            return
        watches = self._collection.watches
        watches.add(self._selection, self._form, self._watcher)
        try:
            await self._tell_state(writer, initial)
            self._watcher.attach(writer)
            await self._follow(writer)
        finally:
            watches.remove(self._selection, self._form, self._watcher)

    def _starts_with_state(self) -> bool:
        if self._options.initial_events is not None:
            return self._options.initial_events
        return not self._options.resource_version

    def _state(self) -> list[Version]:
        found: Iterable[Version] = self._collection.versions(self._selection.prefix)
        return list(found if self._selection.everything else filter(self._selection.admits, found))

    def _resume(self) -> bool:
        """Queue what has happened since the client's revision; false if that is too long ago."""
        revision = self._options.resource_version or self._cache.revision
        changes = self._collection.changes_since(revision)
        if changes is None:
            return False
        self._watcher.after = max(revision, self._cache.revision)
        replay(changes, self._selection, self._form, self._watcher)
        return True

    def _too_old(self) -> bytes:
        revision = self._options.resource_version
        error = expired(f"too old resource version: {revision} ({self._collection.floor})")
        return event_frame("ERROR", msgspec.json.encode(error.status()))

    async def _tell_state(self, writer: StreamWriter, versions: list[Version]) -> None:
        batch: list[bytes] = []
        size = 0
        for version in versions:
            frame = self._form.frame("ADDED", version, first=not self._watcher.started)
            self._watcher.started = True
            batch.append(frame)
            size += len(frame)
            if size > _BATCH_BYTES:
                writer.write(b"".join(batch))
                await writer.drain()
                batch, size = [], 0
        if self._options.initial_events and self._options.bookmarks:
            batch.append(self._form.bookmark(self._watcher.after, initial_events_end=True))
        if batch:
            writer.write(b"".join(batch))

    async def _follow(self, writer: StreamWriter) -> None:
        """Until the time is up, the reader is lost, or the caller cancels because the peer has gone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._options.timeout or random.randint(*_DEFAULT_SECONDS))
        ended = asyncio.ensure_future(writer.closed())
        try:
            next_bookmark = self._next_bookmark(loop.time(), deadline)
            while not self._watcher.lost and not ended.done():
                now = loop.time()
                if now >= deadline:
                    return
                if now >= next_bookmark:
                    self._watcher.push(self._form.bookmark(self._cache.revision, initial_events_end=False))
                    self._watcher.flush()
                    next_bookmark = self._next_bookmark(now, deadline)
                await self._watcher.wait(ended, min(next_bookmark, deadline) - now)
        finally:
            ended.cancel()

    def _next_bookmark(self, now: float, deadline: float) -> float:
        """Every minute, and shortly before the end."""
        if not self._options.bookmarks:
            return deadline
        last = deadline - _LAST_BOOKMARK_SECONDS
        return min(now + BOOKMARK_SECONDS, last if now < last else deadline)
