"""The catalogue kept in step with the stored definitions, and the watch cache with the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from twinstack.server.customresources.catalogue import DEFINITIONS, Catalogue
from twinstack.server.watchcache import WatchCache
from twinstack.server.watchers import Change


class _Stored(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def revision(self) -> int: ...

    @property
    def value(self) -> bytes: ...


class Following:
    """Of one server: told of every durable change of a definition, in order."""

    def __init__(self, catalogue: Catalogue, cache: WatchCache) -> None:
        self._catalogue = catalogue
        self._cache = cache

    def load(self, records: Iterable[_Stored]) -> None:
        """Before the cache is filled: the collections of the kinds that are defined."""
        for record in records:
            if record.key.startswith(DEFINITIONS.prefix):
                self._put(record)

    def start(self) -> None:
        self._cache.collection(DEFINITIONS).observe(self._changed)

    def _put(self, stored: _Stored) -> None:
        name = stored.key.removeprefix(DEFINITIONS.prefix)
        if self._catalogue.put(name, msgspec.json.decode(stored.value), stored.revision):
            self._renew(self._catalogue.rows_of(name)[0].prefix if self._catalogue.rows_of(name) else "")

    def _renew(self, prefix: str) -> None:
        """Watches of objects of the kind end: their clients come back, and see it as it is now."""
        if prefix:
            self._cache.add(prefix)
            self._cache.end_watches(prefix)

    def _changed(self, change: Change) -> None:
        name = change.key.removeprefix(DEFINITIONS.prefix)
        before = self._catalogue.rows_of(name)
        if change.new is not None:
            self._put(change.new)
        else:
            self._catalogue.drop(name)
        if before and not self._catalogue.rows_of(name):
            self._cache.end_watches(before[0].prefix)
