"""Follows all objects of a kind with a watch that is never given up: what every local copy is built on.

The state is read by WatchList (KEP-3157); a server that refuses it is asked for a list and a watch.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.kinds import Kind
from twinstack.api.meta import Object
from twinstack.client.rest import JSON, METADATA, METADATA_LIST, SILENCE, Client
from twinstack.client.watching import WatchEvent

T = TypeVar("T", bound=Object)

FIRST_PAUSE = 0.05  # seconds: a cluster that starts is there soon
LONGEST_PAUSE = 5.0
LONGEST_REFUSED = 1.0  # where nobody listens, asking costs next to nothing
GROWTH = 1.5
SETTLED = 1.0  # a stream that lasted as long counts as success
INITIAL_STATE = 60.0  # seconds a WatchList may take before the server is taken for one that ignores it
GONE = 410

log = logging.getLogger(__name__)


class Reflector(ABC, Generic[T]):
    """Tells `put`, `gone` and `complete` what the server has; subclasses say what becomes of it.

    `metadata_only` asks for PartialObjectMetadata: the kind's type then has nothing but metadata.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        silence: float = SILENCE,
    ) -> None:
        self.kind = kind
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._silence = silence
        self._synced = asyncio.Event()
        self._resource_version = ""  # of the last event or bookmark; empty: read the whole state anew
        self._newest = 0  # the greatest of them
        self._pause = FIRST_PAUSE
        self._told = ""  # the failure that was logged last; each lasting one is, once
        self._last_gone = 0.0  # when that version was last too old, loop time

    @abstractmethod
    def put(self, obj: T) -> None:
        """`obj` is there, new or changed or as it was."""

    @abstractmethod
    def gone(self, last: T) -> None:
        """`last` was deleted; its resourceVersion is that of the deletion."""

    @abstractmethod
    def complete(self, seen: set[str], version: int) -> None:
        """All objects as of `version` have been put, by the keys `seen`: what was there besides is gone."""

    @abstractmethod
    def forget(self) -> None:
        """The server's history began anew: nothing that it told is true."""

    async def synced(self) -> None:
        """Wait until the first whole state has been delivered."""
        await self._synced.wait()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

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
                if error.code == GONE and started - self._last_gone > SETTLED:
                    # The server is well, it has only been restarted.
                    self._last_gone, self._pause = started, FIRST_PAUSE
                self._resource_version = ""  # whatever is wrong with it, a new state heals it
            except ConnectionRefusedError as error:
                failure = str(error)
                self._pause = min(self._pause, LONGEST_REFUSED)
            except (OSError, msgspec.DecodeError, ValueError) as error:  # also a version that is no number
                failure = str(error) or type(error).__name__
            if loop.time() - started > SETTLED:
                self._pause = FIRST_PAUSE
            await self._rest(failure)

    async def _rest(self, failure: str) -> None:
        """Pause, longer each time until a stream has lasted: also after clean ends, which come every few minutes."""
        pause = self._pause * random.uniform(0.8, 1.2)
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
        if failure:
            lasting = pause >= LONGEST_PAUSE / 10 and failure != self._told
            self._told = failure if lasting else self._told
            level = logging.WARNING if lasting else logging.DEBUG
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
            accept=METADATA_LIST if self._metadata_only else JSON,
        )
        for item in items:
            self.put(item)
        self._complete({item.key for item in items}, version)
        await self._consume(version)

    async def _watch_list(self) -> None:
        seen: set[str] | None = set()
        async with asyncio.timeout(INITIAL_STATE) as deadline, aclosing(self._stream("", initial=True)) as batches:
            async for batch in batches:
                for event in batch:
                    if seen is None:
                        self._apply(event)
                    elif event.type == "BOOKMARK":
                        if event.ends_initial_events:
                            deadline.reschedule(None)
                            self._complete(seen, event.object.metadata.resource_version)
                            seen = None
                    elif event.type == "DELETED":
                        seen.discard(event.object.key)
                        self.gone(event.object)
                    else:
                        seen.add(event.object.key)
                        self.put(event.object)

    async def _consume(self, version: str) -> None:
        async with aclosing(self._stream(version, initial=False)) as batches:
            async for batch in batches:
                for event in batch:
                    self._apply(event)

    def _stream(self, version: str, *, initial: bool) -> AsyncGenerator[Iterator[WatchEvent[T]], None]:
        return self._client.watch_batches(
            self.kind,
            self._namespace,
            resource_version=version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            initial_events=initial,
            accept=METADATA if self._metadata_only else JSON,
            silence=self._silence,
        )

    def _apply(self, event: WatchEvent[T]) -> None:
        if event.type == "DELETED":
            self.gone(event.object)
        elif event.type != "BOOKMARK":
            self.put(event.object)
        self._advance(event.object.metadata.resource_version)

    def _advance(self, version: str) -> None:
        self._resource_version, self._newest = version, int(version)
        if self._told:
            self._told = ""
            log.info("watch of %s: works again", self.kind.resource.plural)

    def _complete(self, seen: set[str], version: str) -> None:
        if int(version) < self._newest:
            self._newest = 0
            self.forget()
            raise ConnectionError(f"the server's history went back to {version}: read again")
        self.complete(seen, int(version))
        self._advance(version)
        self._synced.set()
