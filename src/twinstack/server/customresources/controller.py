"""Definitions brought to where they can be served, and away when they are deleted.

A definition is served once its names are accepted. One that is being deleted takes its objects with it: the finalizer
`customresourcecleanup.apiextensions.k8s.io` holds it until the last of them is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from twinstack.api import times
from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource
from twinstack.server.customresources.catalogue import DEFINITIONS, condition, rows_of
from twinstack.server.customresources.ending import FINALIZER
from twinstack.server.customresources.names import settled
from twinstack.server.messages import Route
from twinstack.server.registry import SYSTEM, Registry
from twinstack.server.watchers import Change

log = logging.getLogger(__name__)

JSON = dict[str, Any]

_BATCH = 100  # deletions at a time: they share the store's commits
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds until what is held or has failed is looked at again


class DefinitionController:
    """Runs for ever; wakes for changes of definitions, and while objects of a deleted one are left."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._due: dict[str, float] = {}  # name → the pause after the next failure
        self._wake = asyncio.Event()

    async def run(self) -> None:
        collection = self._registry.cache.collection(DEFINITIONS)
        collection.observe(self._changed)
        for version in collection.versions(DEFINITIONS.prefix):
            self._mark(version.key.removeprefix(DEFINITIONS.prefix))
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.settle()

    async def settle(self) -> None:
        """Look at everything that is due, once."""
        due, self._due = self._due, {}
        for name, pause in due.items():
            try:
                done = await self._look(name)
            except StatusError as error:
                log.warning("customresourcedefinition %s: %s", name, error)
                done = False
            if not done:
                asyncio.get_running_loop().call_later(pause, self._mark, name, min(2 * pause, _LONGEST_PAUSE))

    def _changed(self, change: Change) -> None:
        if change.new is not None:
            self._mark(change.key.removeprefix(DEFINITIONS.prefix))
        else:  # its names are free
            for version in self._registry.cache.collection(DEFINITIONS).versions(DEFINITIONS.prefix):
                self._mark(version.key.removeprefix(DEFINITIONS.prefix))

    def _mark(self, name: str, pause: float = _FIRST_PAUSE) -> None:
        self._due[name] = max(pause, self._due.get(name, 0.0))
        self._wake.set()

    async def _look(self, name: str) -> bool:
        """Returns whether nothing is left to do until the definition changes."""
        definition = self._registry.reader.get(DEFINITIONS, "", name)
        if definition is None:
            return True
        if definition["metadata"].get("deletionTimestamp"):
            return await self._end(name, definition)
        others = self._registry.reader.list(DEFINITIONS)
        status = settled(definition, others, times.now())
        if status != definition.get("status"):
            await self._write_status(name, status)
        return True

    async def _write_status(self, name: str, status: JSON) -> None:
        def modify(stored: JSON) -> tuple[JSON, list[str]]:
            stored["status"] = status
            return stored, []

        try:
            await self._registry.change(Route(DEFINITIONS, "", name, "status"), modify, SYSTEM)
        except StatusError as error:
            if error.code != 404:
                raise

    async def _end(self, name: str, definition: JSON) -> bool:
        """Delete the objects; when none is left, let the definition go."""
        meta = definition["metadata"]
        if FINALIZER not in (meta.get("finalizers") or ()):
            return True
        rows = self._registry.catalogue.rows_of(name) or tuple(rows_of(definition, 0))
        left = await self._delete_all(rows[0]) if rows and condition(definition, "Established") == "True" else 0
        if left:
            return False

        def release(stored: JSON) -> tuple[JSON, list[str]]:
            finalizers = [each for each in stored["metadata"].get("finalizers") or [] if each != FINALIZER]
            stored["metadata"]["finalizers"] = finalizers
            return stored, []

        try:
            await self._registry.change(Route(DEFINITIONS, "", name), release, SYSTEM)
        except StatusError as error:
            if error.code != 404:
                raise
        return True

    async def _delete_all(self, row: Resource) -> int:
        """Delete every object; returns how many are still held by finalizers."""
        collection = self._registry.cache.collection(row)
        routes = [Route(row, *row.split_key(version.key)) for version in collection.versions(row.prefix)]
        for start in range(0, len(routes), _BATCH):
            batch = routes[start : start + _BATCH]
            ended = await asyncio.gather(*(self._delete(route) for route in batch), return_exceptions=True)
            for failure in ended:
                if isinstance(failure, BaseException):
                    raise failure
        return len(collection)

    async def _delete(self, route: Route) -> None:
        try:
            await self._registry.delete(route, SYSTEM)
        except StatusError as error:
            if error.code != 404:
                raise
