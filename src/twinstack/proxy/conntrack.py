"""Cut UDP flows from endpoints that are gone: nothing else ends a flow that has no connection.

Only Services whose serving endpoints changed are looked at. Their flows stay when traffic policy or
topology alone changed, as those of TCP do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from twinstack.dataplane.model import Protocol, Slot, Target
from twinstack.ip import Address, IPFamily
from twinstack.linux import conntrack
from twinstack.linux.conntrack import Flow
from twinstack.linux.netlink import DumpInterrupted, NetlinkSocket
from twinstack.proxy.metrics import ProxyMetrics

_FEW = 8  # front ends up to which each is asked for on its own; for more the table is read once

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """Whom the flows to a front end may stay with. Where NodePorts answer, if it is one."""

    serving: frozenset[Target]
    node_ips: frozenset[Address]


def stale(flows: Iterable[Flow], slot: Slot, job: Job) -> list[Flow]:
    """The flows to the front end that no serving endpoint answers, those that were never redirected among them."""
    found = []
    for flow in flows:
        went = flow.original
        if went.destination_port != slot.port:
            continue
        if went.destination != slot.address and (slot.address is not None or went.destination not in job.node_ips):
            continue
        if Target(flow.reply.source, flow.reply.source_port) not in job.serving:
            found.append(flow)
    return found


class Cleaner:
    """Works in a thread, behind the transactions: a flow may be redirected anew only when the rules are."""

    def __init__(self, metrics: ProxyMetrics) -> None:
        self._metrics = metrics
        self._jobs: dict[IPFamily, dict[Slot, Job]] = defaultdict(dict)
        self._wake = asyncio.Event()

    def queue(self, family: IPFamily, slot: Slot, job: Job) -> None:
        """Look at the flows to a front end soon; a later job for it replaces an earlier one."""
        if slot.protocol is Protocol.UDP:
            self._jobs[family][slot] = job
            self._wake.set()

    async def run(self) -> None:
        """Clean for ever; cancel to stop."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            jobs, self._jobs = self._jobs, defaultdict(dict)
            for family, slots in jobs.items():
                started = time.monotonic()
                try:
                    deleted = await asyncio.to_thread(clean, family, slots)
                except (OSError, DumpInterrupted) as error:
                    log.warning("%s: UDP flows of %d front ends were not checked: %s", family, len(slots), error)
                    continue
                self._metrics.conntrack.observe(time.monotonic() - started, family)
                self._metrics.conntrack_deleted.add(deleted, family)
                if deleted:
                    log.debug("%s: %d UDP flows cut from endpoints that are gone", family, deleted)


def clean(family: IPFamily, jobs: dict[Slot, Job]) -> int:
    """Delete the stale flows of these UDP front ends; returns how many there were."""
    socket = conntrack.open_socket()
    try:
        return conntrack.forget(socket, family, _find(socket, family, jobs))
    finally:
        socket.close()


def _find(socket: NetlinkSocket, family: IPFamily, jobs: dict[Slot, Job]) -> list[Flow]:
    found: list[Flow] = []
    if len(jobs) <= _FEW:
        for slot, job in jobs.items():
            flows = conntrack.flows(socket, family, slot.protocol, destination=slot.address, port=slot.port)
            found += stale(flows, slot, job)
        return found
    by_destination = defaultdict[tuple[Address, int], list[Flow]](list)
    by_port = defaultdict[int, list[Flow]](list)
    for flow in conntrack.flows(socket, family, Protocol.UDP):
        by_destination[flow.original.destination, flow.original.destination_port].append(flow)
        by_port[flow.original.destination_port].append(flow)
    for slot, job in jobs.items():
        candidates: Collection[Flow]
        candidates = by_port[slot.port] if slot.address is None else by_destination[slot.address, slot.port]
        found += stale(candidates, slot, job)
    return found
