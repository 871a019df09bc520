"""Whether the store takes changes: a store that remembers how the last change went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twinstack.store import Event, Opened, Operation, Store, StoreError


class WatchedStore:
    """`Store` that passes everything on. `healthy` is false from a change that failed to the next that does not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.healthy = False

    async def open(self, publish: Callable[[Sequence[Event]], None]) -> Opened:
        opened = await self._store.open(publish)
        self.healthy = True
        return opened

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        try:
            revisions = await self._store.commit(operations)
        except StoreError:
            self.healthy = False
            raise
        self.healthy = True
        return revisions

    async def settled(self) -> None:
        await self._store.settled()

    async def close(self) -> None:
        self.healthy = False
        await self._store.close()
