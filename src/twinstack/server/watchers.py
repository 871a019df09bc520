"""Watchers of one collection, grouped: one change is judged and rendered once for all who ask alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.server.forms import Form
from twinstack.server.messages import StreamWriter
from twinstack.server.selection import Selection
from twinstack.server.versions import Version

QUEUE_BYTES = 8 << 20  # a reader this far behind is let go; it resumes from its last revision
_CONGESTED_BYTES = 64 << 10  # then frames wait here, shared, instead of in the connection, copied


class Change(NamedTuple):
    """One durable change of one object: created (no `old`), changed, or deleted (no `new`)."""

    key: str
    revision: int
    old: Version | None
    new: Version | None
    time: float  # monotonic, seconds


class Watcher:
    """One watch: the frames that its connection has yet to take."""

    __slots__ = ("_frames", "_size", "_stuck", "_writer", "after", "lost", "started")

    def __init__(self, after: int) -> None:
        self.after = after  # the first event is younger than this revision
        self.started = False  # the first event has been rendered
        self.lost = False  # the reader fell too far behind
        self._frames: list[bytes] = []
        self._size = 0
        self._writer: StreamWriter | None = None
        self._stuck: asyncio.Future[None] | None = None

    def push(self, frame: bytes) -> None:
        if self.lost:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size > QUEUE_BYTES:
            self._frames.clear()
            self.lost = True
            self._trouble()

    def attach(self, writer: StreamWriter) -> None:
        """From now on frames go to `writer` as they come."""
        self._writer = writer
        self.flush()

    def flush(self) -> None:
        """Write all frames at once, if the connection takes them."""
        writer = self._writer
        if writer is None or not self._frames:
            return
        if writer.pending() > _CONGESTED_BYTES:
            self._trouble()
            return
        data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        self._frames = []
        self._size = 0
        writer.write(data)

    async def wait(self, ended: asyncio.Future[None], seconds: float) -> None:
        """Until the peer has gone (`ended`), the reader is lost or was congested, or the time has passed."""
        self._stuck = asyncio.get_running_loop().create_future()
        await asyncio.wait((ended, self._stuck), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._stuck.done() and not self.lost and self._writer is not None:
            await self._writer.drain()
            self.flush()
        self._stuck = None

    def _trouble(self) -> None:
        if self._stuck is not None and not self._stuck.done():
            self._stuck.set_result(None)


class _Group:
    """The watchers with one selection and one form."""

    __slots__ = ("form", "key", "selection", "watchers")

    def __init__(self, key: object, selection: Selection, form: Form) -> None:
        self.key = key
        self.selection = selection
        self.form = form
        self.watchers: set[Watcher] = set()


class WatchGroups:
    """All watchers of one collection."""

    def __init__(self) -> None:
        self._groups: dict[object, _Group] = {}
        self._dirty: set[Watcher] = set()

    def add(self, selection: Selection, form: Form, watcher: Watcher) -> None:
        key = (selection.identity, form.name)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key, selection, form)
        group.watchers.add(watcher)

    def remove(self, selection: Selection, form: Form, watcher: Watcher) -> None:
        key = (selection.identity, form.name)
        group = self._groups[key]
        group.watchers.discard(watcher)
        self._dirty.discard(watcher)
        if not group.watchers:
            del self._groups[key]

    def dispatch(self, change: Change) -> None:
        """Queue the change's frames; they are written at the end of the loop's turn."""
        if not self._groups:
            return
        frames = FrameCache(change)
        for group in self._groups.values():
            event = transition(group.selection, change)
            if event is None:
                continue
            for watcher in group.watchers:
                if change.revision > watcher.after:
                    watcher.push(frames.get(event, group.form, first=not watcher.started))
                    watcher.started = True
                    self._mark(watcher)

    def _mark(self, watcher: Watcher) -> None:
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.add(watcher)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for watcher in dirty:
            watcher.flush()


def transition(selection: Selection, change: Change) -> str | None:
    """What a change means to who sees only `selection`: ADDED, MODIFIED, DELETED or nothing."""
    if not selection.covers(change.key):
        return None
    was = change.old is not None and selection.admits(change.old)
    now = change.new is not None and selection.admits(change.new)
    if now:
        return "MODIFIED" if was else "ADDED"
    return "DELETED" if was else None


class FrameCache:
    """The frames of one change, each rendered once."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._gone: Version | None = None
        self._frames: dict[tuple[str, str], bytes] = {}

    def get(self, event: str, form: Form, *, first: bool) -> bytes:
        if first and form.has_opening:
            return form.frame(event, self._version(event), first=True)
        key = (event, form.name)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = form.frame(event, self._version(event), first=False)
        return frame

    def _version(self, event: str) -> Version:
        """Who sees an object go is shown its last content under the revision at which it went."""
        change = self._change
        if event != "DELETED":
            assert change.new is not None
            return change.new
        if self._gone is None:
            assert change.old is not None
            self._gone = change.old.at(change.revision)
        return self._gone


def replay(changes: Iterable[Change], selection: Selection, form: Form, watcher: Watcher) -> None:
    """Queue the frames of past changes."""
    for change in changes:
        event = transition(selection, change)
        if event is not None:
            watcher.push(FrameCache(change).get(event, form, first=not watcher.started))
            watcher.started = True
