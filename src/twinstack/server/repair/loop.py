"""The loop of both repairs: what has changed is looked at soon after, everything every three minutes.

Allocations are made in the transactions that write their Services, so there is normally nothing to find. What
repairs are for: records that people make or delete, files of older servers, and mistakes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError
from twinstack.server.registry import Registry
from twinstack.server.repair.addresses import record_finding, service_findings
from twinstack.server.repair.findings import Finding
from twinstack.server.repair.mending import Mender
from twinstack.server.repair.ports import Leaks, held_ports, port_findings
from twinstack.server.repair.stored import (
    IP_ADDRESSES,
    SERVICE_CIDRS,
    SERVICES,
    StoredState,
    owner_of,
    same_addresses,
)
from twinstack.server.strategy.service_ports import port_key
from twinstack.server.watchers import Change
from twinstack.store import Delete

log = logging.getLogger(__name__)

INTERVAL = 180.0  # seconds between two looks at everything
_GATHER_SECONDS = 1.0  # changes of so long are looked at together
_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_BATCH = 100  # objects judged in one turn of the event loop, and mended in one transaction

Judge = Callable[[StoredState, str], Iterable[Finding]]


class Repair:
    """Both repairs of one server. `ready` once everything has been looked at for the first time."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.ready = False
        self._services: set[str] = set()  # storage keys to look at
        self._records: set[str] = set()
        self._later: dict[str, float] = {}  # records to look at again, and when (event loop time)
        self._wake = asyncio.Event()
        self._addresses = Mender(registry, "ipallocator-repair-controller")
        self._ports = Mender(registry, "portallocator-repair-controller")
        self._leaks = Leaks()

    async def run(self) -> None:
        """For as long as the server runs; cancel to stop. A look that fails is repeated."""
        self._observe()
        await self._first_range()
        loop = asyncio.get_running_loop()
        due, failures = loop.time(), 0
        while True:
            try:
                if loop.time() >= due:
                    await self.look_at_everything()
                    due = loop.time() + INTERVAL
                else:
                    await self.look_at_changes()
            except StatusError as error:
                log.warning("repair of allocations: %s", error)
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1
                continue
            self.ready = True
            failures = 0
            await self._sleep_until(min((due, *self._later.values())))
            await asyncio.sleep(_GATHER_SECONDS)

    # --- when

    def _observe(self) -> None:
        collection = self._registry.cache.collection
        collection(SERVICES).observe(self._service_changed)
        collection(IP_ADDRESSES).observe(self._record_changed)
        collection(SERVICE_CIDRS).observe(lambda _: self._wake.set())

    def _service_changed(self, change: Change) -> None:
        if change.old is None or change.new is None or not same_addresses(change.old.value, change.new.value):
            self._services.add(change.key)
            self._wake.set()

    def _record_changed(self, change: Change) -> None:
        """Its Service is looked at, too: it may miss the record now."""
        self._records.add(change.key)
        version = change.new or change.old
        if version is not None:
            with _unreadable(change.key):
                self._services.add(owner_of(version.value))
        self._wake.set()

    async def _first_range(self) -> None:
        """In a new cluster the default ServiceCIDR is being made at this moment."""
        while not len(self._registry.cache.collection(SERVICE_CIDRS)):
            self._wake.clear()
            await self._wake.wait()

    async def _sleep_until(self, when: float) -> None:
        """Until then, or until something has changed."""
        self._wake.clear()
        if not self._services and not self._records:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(when):
                    await self._wake.wait()

    # --- looks

    async def look_at_everything(self) -> None:
        """Raises StatusError."""
        state = StoredState(self._registry.cache)
        self._services |= state.service_keys()
        self._records |= state.record_keys()
        await self.look_at_changes()
        await self._look_at_ports()

    async def look_at_changes(self) -> None:
        """Services first: what mends them may mend records, too. What a failed look has not seen stays noted."""
        self._take_ripe()
        self._addresses.begin()
        await self._look_at(self._services, self._judge_service)
        await self._look_at(self._records, self._judge_record)

    def _take_ripe(self) -> None:
        now = asyncio.get_running_loop().time()
        ripe = {key for key, when in self._later.items() if when <= now}
        for key in ripe:
            del self._later[key]
        self._records |= ripe

    async def _look_at(self, noted: set[str], judge: Judge) -> None:
        for batch in _batches(list(noted)):
            noted.difference_update(batch)  # what changes from now on is noted again
            try:
                await self._addresses.settle(partial(self._judged, batch, judge))
            except StatusError:
                noted.update(batch)
                raise
            await asyncio.sleep(0)

    def _judged(self, keys: list[str], judge: Judge) -> Iterator[Finding]:
        state = StoredState(self._registry.cache)
        for key in keys:
            with _unreadable(key):
                yield from judge(state, key)

    def _judge_service(self, state: StoredState, key: str) -> Iterable[Finding]:
        service = state.service_at(key)
        if service is None:
            return ()
        findings = list(service_findings(service, state, times.now()))
        if not findings:  # then its records are right, too
            self._records.difference_update(state.keys_of_records(service))
        return findings

    def _judge_record(self, state: StoredState, key: str) -> Iterable[Finding]:
        record = state.record_at(key)
        found = None if record is None else record_finding(record, state, time.time())
        if isinstance(found, Finding):
            return (found,)
        if found is not None:
            self._later[key] = asyncio.get_running_loop().time() + found
        return ()

    async def _look_at_ports(self) -> None:
        registry = self._registry

        def judge() -> list[Finding]:
            state = StoredState(registry.cache)
            return list(port_findings(state.services_with_ports(), state.recorded_ports(), registry.config.node_ports))

        self._ports.begin()
        with _unreadable("a Service"):
            await self._ports.settle(judge)
            state = StoredState(registry.cache)
            held = {port for service in state.services_with_ports() for port in held_ports(service)}
            recorded = state.recorded_ports()
            leaked = self._leaks.round(recorded.keys() - held)
            if leaked:
                log.warning("node ports %s appear to have leaked: cleaning up", ", ".join(map(str, leaked)))
            for start in range(0, len(leaked), _BATCH):
                batch = leaked[start : start + _BATCH]
                await registry.commit([Delete(port_key(port), recorded[port]) for port in batch])


@contextmanager
def _unreadable(what: str) -> Iterator[None]:
    """What somebody has put into the file by hand must not end the server."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError) as error:
        log.error("repair of allocations: %s cannot be read: %s", what, error)


def _batches(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]
