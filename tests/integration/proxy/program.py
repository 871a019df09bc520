"""A proxy without an API server: Services and slices in, tables in the node's namespace out."""

from __future__ import annotations

import itertools

import msgspec
from tests.integration.proxy.bed import FAMILIES, GUEST_BLOCK, NODE, NODE_CLIENT_SIDE, POD_BLOCK, SERVICE_BLOCK, Bed

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.model import NodeView, Surroundings
from twinstack.dataplane.tracker import Change, Tracker
from twinstack.ip import Address, IPFamily
from twinstack.proxy.health import Health
from twinstack.proxy.layout import Layout, PodInterface
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.sync import FamilySync
from twinstack.proxy.writer import Writer

SURROUNDINGS = {
    family: Surroundings(
        frozenset([Address.parse(NODE_CLIENT_SIDE[family])]),
        frozenset([SERVICE_BLOCK[family]]),
        frozenset([POD_BLOCK[family], GUEST_BLOCK[family]]),
    )
    for family in FAMILIES
}


class Program:
    """What a proxy process holds. Close it as a process ends: the tables stay."""

    def __init__(self, bed: Bed, *, own: bool = True, pods: PodInterface | None = None) -> None:
        self.metrics = ProxyMetrics()
        self.health = Health(FAMILIES, sync_period=30, metrics=self.metrics)
        self.writer = bed.on_node(lambda: Writer(own=own))
        self.tracker = Tracker(FAMILIES, NodeView(NODE))
        self.families = {
            f: FamilySync(Layout(f, pod_interface=pods), self.writer, self.metrics, self.health) for f in FAMILIES
        }
        for family, state in self.families.items():
            around = SURROUNDINGS[family]
            state.surroundings = (
                msgspec.structs.replace(around, local_pods=None, pods_by_interface=True) if pods else around
            )
        self._clock = itertools.count(1)

    def put(self, *objects: Service | EndpointSlice) -> None:
        """Take objects as a watch would bring them, and write what follows."""
        for obj in objects:
            self.take(obj)
        self.sync()

    def take(self, obj: Service | EndpointSlice) -> None:
        """Take an object, and write nothing yet."""
        if isinstance(obj, Service):
            self.tracker.put_service(obj)
        else:
            self.tracker.put_slice(obj)

    def remove(self, service: Service) -> None:
        self.tracker.remove_service(service.key)
        self.sync()

    def sync(self) -> None:
        changes: dict[IPFamily, list[Change]] = {family: [] for family in FAMILIES}
        for change in self.tracker.take():
            changes[change.family].append(change)
        now = float(next(self._clock))
        for family, state in self.families.items():
            assert state.sync(changes[family], now)

    @property
    def operations(self) -> int:
        """Element operations written so far."""
        return int(sum(self.metrics.elements.value(family) for family in FAMILIES))

    def close(self) -> None:
        self.writer.close()
