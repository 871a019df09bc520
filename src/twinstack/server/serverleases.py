"""Which API servers of a cluster live: each keeps a record in the store and renews it.

Upstream's records (`masterleases/ADDRESS`) end by a time to live in etcd. Here a record counts for fifteen seconds
after a reader has seen it change, by the reader's own clock: no store needs timers, and no clocks need to agree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from twinstack.ip import Address
from twinstack.server.registry import Registry
from twinstack.store import Delete, Operation, Put

KEYS = "masterleases/"
SECONDS = 15.0  # after which a record that nobody renews is dead; a renewal comes every ten


class ServerLeases:
    """The records of one server, `own`, and what it has seen of the others'."""

    def __init__(self, registry: Registry, own: Sequence[Address]) -> None:
        self._registry = registry
        self._own = {f"{KEYS}{address}": address for address in own}
        self._seen: dict[str, tuple[int, float]] = {}  # revision of each record, and when it was first seen

    async def renew(self) -> list[Address]:
        """Tell that this server lives; returns the addresses of all that do, in order. Raises StatusError."""
        renewals: list[Operation] = [Put(key, lambda _: b"{}", None) for key in self._own]
        await self._registry.commit(renewals)
        return await self._living(time.monotonic())

    async def end(self) -> list[Address]:
        """This server goes; returns the addresses of those that stay. Raises StatusError."""
        stored = self._registry.cache.other_keys(KEYS)
        await self._registry.commit([Delete(key, None) for key in self._own if key in stored])
        self._own.clear()
        return await self._living(time.monotonic())

    async def _living(self, now: float) -> list[Address]:
        living: list[Address] = []
        dead: dict[str, int] = {}
        stored = self._registry.cache.other_keys(KEYS)
        for key, revision in stored.items():
            revision_seen, since = self._seen.get(key, (0, now))
            if revision != revision_seen:
                since = now
            self._seen[key] = (revision, since)
            if key in self._own or now - since <= SECONDS:
                living.append(Address.parse(key.removeprefix(KEYS)))
            else:
                dead[key] = revision
        self._seen = {key: seen for key, seen in self._seen.items() if key in stored}
        if dead:  # whoever is first; one that was renewed at this moment stays
            await self._registry.commit([Delete(key, revision) for key, revision in dead.items()])
        return sorted(living)
