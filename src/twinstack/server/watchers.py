"""Watchers of one collection, grouped: one change is judged and rendered once for all who ask alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from twinstack.server.forms import Form
from twinstack.server.messages import StreamWriter
from twinstack.server.selection import Selection
from twinstack.server.versions import Version, View

QUEUE_BYTES = 8 << 20  # a reader this far behind is let go; it resumes from its last revision
_CONGESTED_BYTES = 64 << 10  # then frames wait here, shared, instead of in the connection, copied
_CROWD = 16  # watchers: to so many, changes in quick succession are written together
_CROWD_PAUSE = 0.002  # seconds from one writing to a crowd to the next


class Change(NamedTuple):
    """One durable change of one object: created (no `old`), changed, or deleted (no `new`)."""

    key: str
    revision: int
    old: Version | None
    new: Version | None
    time: float  # monotonic, seconds

    @property
    def size(self) -> int:
        """Bytes that remembering it costs: those of the version it replaced."""
        return 0 if self.old is None else len(self.old.value)


class Watcher:
    """One watch: the frames that its connection has yet to take."""

    __slots__ = ("_congested", "_frames", "_size", "_trouble", "_writer", "after", "lost", "started")

    def __init__(self, after: int) -> None:
        self.after = after  # the first event is younger than this revision
        self.started = False  # the first event has been rendered
        self.lost = False  # the reader fell too far behind
        self._frames: list[bytes] = []
        self._size = 0
        self._congested = False
        self._writer: StreamWriter | None = None
        self._trouble: asyncio.Future[None] | None = None

    def push(self, frame: bytes) -> None:
        if self.lost:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size > QUEUE_BYTES:
            self._frames.clear()
            self.lost = True
            self._wake()

    def end(self) -> None:
        """Nothing more is to come."""
        self.flush()
        self.lost = True
        self._wake()

    def attach(self, writer: StreamWriter) -> None:
        """From now on frames go to `writer` as they come."""
        self._writer = writer
        self.flush()

    def flush(self) -> None:
        """Write all frames at once, if the connection takes them."""
        writer, frames = self._writer, self._frames
        if writer is None or not frames or self._congested:
            return
        if writer.pending() > _CONGESTED_BYTES:
            self._congested = True
            self._wake()
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self._size = 0
        writer.write(data)

    def _wake(self) -> None:
        if self._trouble is not None and not self._trouble.done():
            self._trouble.set_result(None)

    async def wait(self, ended: asyncio.Future[None], seconds: float) -> None:
        """Until the peer has gone (`ended`), the reader is lost, the connection has drained, or the time has passed."""
        if self.lost:
            return
        self._trouble = asyncio.get_running_loop().create_future()
        waiting: list[asyncio.Future[None]] = [ended, self._trouble]
        draining: asyncio.Future[None] | None = None
        if self._congested and self._writer is not None:
            draining = asyncio.ensure_future(self._writer.drain())
            waiting.append(draining)
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if draining is not None and draining.done() and self._writer is not None:
                self._congested = False
                self.flush()
        finally:
            self._trouble = None
            if draining is not None:
                draining.cancel()


class _Group:
    """The watchers with one selection and one form."""

    __slots__ = ("form", "selection", "watchers")

    def __init__(self, selection: Selection, form: Form) -> None:
        self.selection = selection
        self.form = form
        self.watchers: set[Watcher] = set()


class WatchGroups:
    """All watchers of one collection, found by what they can see at all."""

    def __init__(self) -> None:
        self._groups: dict[object, _Group] = {}
        self._by_key: dict[str, list[_Group]] = {}  # see one key only
        self._by_pin: dict[tuple[View, str], dict[str, list[_Group]]] = {}  # one value of a field only
        self._others: list[_Group] = []
        self._dirty: set[Watcher] = set()
        self._paused_until = 0.0  # by the loop's clock

    def __len__(self) -> int:
        return sum(len(group.watchers) for group in self._groups.values())

    def end(self) -> None:
        """End every watch."""
        for group in self._groups.values():
            for watcher in group.watchers:
                watcher.end()

    def add(self, selection: Selection, form: Form, watcher: Watcher) -> None:
        identity = (selection.identity, form.name)
        group = self._groups.get(identity)
        if group is None:
            group = self._groups[identity] = _Group(selection, form)
            self._peers(selection).append(group)
        group.watchers.add(watcher)

    def remove(self, selection: Selection, form: Form, watcher: Watcher) -> None:
        identity = (selection.identity, form.name)
        group = self._groups[identity]
        group.watchers.discard(watcher)
        self._dirty.discard(watcher)
        if group.watchers:
            return
        del self._groups[identity]
        self._peers(selection).remove(group)
        if selection.key is not None and not self._by_key[selection.key]:
            del self._by_key[selection.key]
        elif selection.pin is not None and selection.key is None:
            self._unpin(selection.view, *selection.pin)

    def dispatch(self, change: Change) -> None:
        """Queue the change's frames; they are written in the loop's next turn, or right after the pause of a crowd."""
        if not self._groups:
            return
        frames = FrameCache(change)
        for group in self._candidates(change):
            event = transition(group.selection, change)
            if event is None:
                continue
            self._flush_soon()
            frame = frames.get(event, group.form, first=False)
            for watcher in group.watchers:
                if change.revision > watcher.after:
                    watcher.push(frame if watcher.started else frames.get(event, group.form, first=True))
                    watcher.started = True
                    self._dirty.add(watcher)

    def _peers(self, selection: Selection) -> list[_Group]:
        """Where the groups are that can see as much as this selection."""
        if selection.key is not None:
            return self._by_key.setdefault(selection.key, [])
        if selection.pin is not None:
            field, value = selection.pin
            return self._by_pin.setdefault((selection.view, field), {}).setdefault(value, [])
        return self._others

    def _unpin(self, view: View, field: str, value: str) -> None:
        values = self._by_pin[view, field]
        if not values[value]:
            del values[value]
        if not values:
            del self._by_pin[view, field]

    def _candidates(self, change: Change) -> Iterator[_Group]:
        yield from self._others
        yield from self._by_key.get(change.key, ())
        for (view, field), groups in self._by_pin.items():
            versions = (version for version in (change.old, change.new) if version is not None)
            for value in {version.fields(view)[field] for version in versions}:
                yield from groups.get(value, ())

    def _flush_soon(self) -> None:
        if self._dirty:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._paused_until:
            loop.call_at(self._paused_until, self._flush)
        else:
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        """One write a watcher costs more than its bytes: a crowd is not written to again for a moment."""
        dirty, self._dirty = self._dirty, set()
        for watcher in dirty:
            watcher.flush()
        if len(dirty) >= _CROWD:
            self._paused_until = asyncio.get_running_loop().time() + _CROWD_PAUSE


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
