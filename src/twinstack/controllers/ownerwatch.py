"""Follows the metadata of one kind, and keeps only of what has owners or waits for its dependents."""

from __future__ import annotations

from collections.abc import Callable

from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.reflector import Reflector
from twinstack.client.rest import Client
from twinstack.controllers.ownershipgraph import matters


class OwnerWatch(Reflector[Object]):
    """Tells `changed(old, new)` as an informer does, but of an object that is not kept `old` is None.

    Of such an object a deletion that happened while nobody watched stays unknown: then `missed()` is called.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind[Object],
        changed: Callable[[Object | None, Object | None], None],
        missed: Callable[[], None],
    ) -> None:
        super().__init__(client, kind, metadata_only=True)
        self._changed = changed
        self._missed = missed
        self._kept: dict[str, Object] = {}  # by obj.key

    def put(self, obj: Object) -> None:
        key = obj.key
        old = self._kept.pop(key, None)
        if old is not None and old.metadata.uid != obj.metadata.uid:
            self._changed(old, None)
            old = None
        if matters(obj):
            obj.metadata.labels, obj.metadata.annotations = {}, {}
            self._kept[key] = obj
        self._changed(old, obj)

    def gone(self, last: Object) -> None:
        self._kept.pop(last.key, None)
        self._changed(last, None)

    def complete(self, seen: set[str], version: int) -> None:
        for key in self._kept.keys() - seen:
            self._changed(self._kept.pop(key), None)
        if self.has_synced:
            self._missed()

    def forget(self) -> None:
        for key in list(self._kept):
            self._changed(self._kept.pop(key), None)
