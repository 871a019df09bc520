"""A local copy of all objects of a kind, kept current by a watch, with indexes and change handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.reflector import Reflector
from twinstack.client.rest import SILENCE, Client

T = TypeVar("T", bound=Object)

Handler = Callable[[T | None, T | None], None]  # (old, new)

BURIED = 64  # deletions remembered against answers that overtake them

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


class Informer(Reflector[T]):
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
        super().__init__(
            client,
            kind,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            silence=silence,
        )
        self.objects: dict[str, T] = {}  # by obj.key
        self._handlers: list[Handler[T]] = []
        self._indexes: list[Index[T]] = []
        self._removed: set[str] = set()  # uids of what we deleted, until the watch has told of it
        self._buried: dict[str, None] = {}  # uids whose deletion the watch told last

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

    def wrote(self, obj: T) -> None:
        """Take in the server's answer to a write of ours, before the watch brings it.

        So a controller sees its own writes and never acts twice on a state that it has already changed.
        An answer that comes after the news of the object's deletion does not raise it from the dead.
        """
        if obj.metadata.uid not in self._removed and obj.metadata.uid not in self._buried:
            self.put(obj)

    def removed(self, obj: T) -> None:
        """Take in that the server has deleted `obj` for good at our request."""
        if obj.key in self.objects and self.objects[obj.key].metadata.uid == obj.metadata.uid:
            self._removed.add(obj.metadata.uid)
            self._remove(obj.key)

    def put(self, obj: T) -> None:
        key = obj.key
        old = self.objects.get(key)
        if old is not None and _version(obj) <= _version(old):
            return  # known, or overtaken by a write of ours
        if obj.metadata.uid in self._removed:
            return
        self.objects[key] = obj
        self._tell(old, obj)

    def gone(self, last: T) -> None:
        self._removed.discard(last.metadata.uid)
        self._buried[last.metadata.uid] = None
        if len(self._buried) > BURIED:
            del self._buried[next(iter(self._buried))]
        known = self.objects.get(last.key)
        if known is not None and _version(known) <= _version(last):
            self._remove(last.key)

    def complete(self, seen: set[str], version: int) -> None:
        self._removed.clear()
        for key in self.objects.keys() - seen:
            if _version(self.objects[key]) <= version:  # else we wrote it since
                self._remove(key)

    def forget(self) -> None:
        for key in list(self.objects):
            self._remove(key)

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
