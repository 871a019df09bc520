"""The store's health follows its last change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from twinstack.server.storehealth import WatchedStore
from twinstack.store import Conflict, Event, Opened, Operation, StoreError, Unavailable, no_gap


class Moody:
    """A store that does as told."""

    failure: Exception | None = None
    live = True

    async def open(self, publish: Callable[[Sequence[Event]], None], gap: Callable[[int], None] = no_gap) -> Opened:
        return Opened(7, [], {}, 0)

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        if self.failure is not None:
            raise self.failure
        return [8]

    async def settled(self) -> None: ...

    async def current(self) -> None: ...

    async def close(self) -> None: ...


def test_health_follows_the_last_change() -> None:
    async def test() -> None:
        moody = Moody()
        store = WatchedStore(moody)
        assert not store.healthy
        assert await store.open(lambda events: None) == (7, [], {}, 0)
        assert store.healthy
        moody.failure = Conflict("k", 0, 1)  # a lost race is no illness
        with pytest.raises(Conflict):
            await store.commit([])
        assert store.healthy
        moody.failure = StoreError("disk full")
        with pytest.raises(StoreError):
            await store.commit([])
        assert not store.healthy
        moody.failure = None
        assert await store.commit([]) == [8]
        assert store.healthy
        moody.failure = Unavailable(
            "etcdserver: request timed out"
        )  # this one has its own way of saying that it is ill
        with pytest.raises(Unavailable):
            await store.commit([])
        assert store.healthy
        moody.live = False
        assert not store.healthy
        moody.live = True
        await store.settled()
        await store.current()
        await store.close()
        assert not store.healthy

    asyncio.run(test())
