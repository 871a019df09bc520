"""Whether the store takes changes: a store that remembers how the last change went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twinstack.store import Event, Opened, Operation, Store, StoreError, Unavailable, no_gap


class WatchedStore:
    """`Store` that passes everything on.

    `healthy` is false while the store knows that it cannot be reached, and from a change that it failed to store to
    the next that it does store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._storing = False

    @property
    def live(self) -> bool:
        return self._store.live

    @property
    def healthy(self) -> bool:
        return self._storing and self._store.live

    async def open(self, publish: Callable[[Sequence[Event]], None], gap: Callable[[int], None] = no_gap) -> Opened:
        opened = await self._store.open(publish, gap)
        self._storing = True
        return opened

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        try:
            revisions = await self._store.commit(operations)
        except Unavailable:  # whether it is away for longer, it says by `live`
            raise
        except StoreError:
            self._storing = False
            raise
        self._storing = True
        return revisions

    async def settled(self) -> None:
        await self._store.settled()

    async def current(self) -> None:
        await self._store.current()

    async def close(self) -> None:
        self._storing = False
        await self._store.close()
