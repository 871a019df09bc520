"""What the API server tells of → what the node must do: four watches that feed the incremental computation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from twinstack.api.core import Node, Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.kinds import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES, Kind
from twinstack.api.meta import Object
from twinstack.api.networking import ServiceCIDR
from twinstack.client.informer import Informer
from twinstack.client.reflector import Reflector
from twinstack.client.rest import Client
from twinstack.dataplane.model import ZONE_LABEL, NodeView, Surroundings
from twinstack.dataplane.tracker import Tracker
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.configuration import Configuration, node_addresses, readable
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.node_addresses import NodeAddresses, selected

OTHER_PROXY = "!service.kubernetes.io/service-proxy-name"  # Services that ask for another proxy are not ours
HEADLESS = "!service.kubernetes.io/headless"  # slices nobody is redirected to
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"

_PATIENCE = 5.0  # seconds to wait for what is useful but not needed
_FAREWELL = 0.1  # seconds

T = TypeVar("T", bound=Object)

log = logging.getLogger(__name__)


class Passing(Reflector[T]):
    """Objects that are looked at as they pass: `changed` gets each by its key, and None when it is gone.

    Nothing is kept of them but their versions, against what comes twice or late.
    """

    def __init__(
        self, client: Client, kind: Kind[T], label_selector: str, changed: Callable[[str, T | None], None]
    ) -> None:
        super().__init__(client, kind, label_selector=label_selector)
        self._changed = changed
        self._versions: dict[str, int] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._versions

    def put(self, obj: T) -> None:
        key, version = obj.key, int(obj.metadata.resource_version)
        if version > self._versions.get(key, -1):
            self._versions[key] = version
            self._changed(key, obj)

    def gone(self, last: T) -> None:
        key = last.key
        if key in self._versions and self._versions[key] <= int(last.metadata.resource_version):
            self._remove(key)

    def complete(self, seen: set[str], version: int) -> None:
        for key in self._versions.keys() - seen:
            self._remove(key)

    def forget(self) -> None:
        for key in list(self._versions):
            self._remove(key)

    def _remove(self, key: str) -> None:
        del self._versions[key]
        self._changed(key, None)


class Farewell:
    """What was deleted goes on for a moment, because `kubectl replace --force` brings it back at once.

    `left` is called with its key when the moment is over, whether or not it is back.
    """

    def __init__(self, left: Callable[[str], None]) -> None:
        self._left = left
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, key: object) -> bool:
        """Whether it was deleted less than a moment ago."""
        return key in self._timers

    def begin(self, key: str) -> None:
        self._stop(key)
        self._timers[key] = asyncio.get_running_loop().call_later(_FAREWELL, self._end, key)

    def close(self) -> None:
        for key in list(self._timers):
            self._stop(key)

    def _end(self, key: str) -> None:
        self._stop(key)
        self._left(key)

    def _stop(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


class ClusterTracker:
    """Keeps the desired state of all families current.

    Calls `changed` after changes of Services and endpoints, `moved` after those of node and cluster.
    """

    def __init__(
        self, client: Client, configuration: Configuration, families: list[IPFamily], metrics: ProxyMetrics
    ) -> None:
        self.desired = Tracker(families, node_view(configuration, None))
        self.families = families
        self.changed: Callable[[], None] = lambda: None
        self.moved: Callable[[], None] = lambda: None
        self.node: Node | None = None
        self._configuration = configuration
        self._metrics = metrics
        self._addresses: NodeAddresses | None = None
        self._services_leaving = Farewell(self._service_left)
        self._slices_leaving = Farewell(self._slice_left)
        self._checked: dict[str, Service] = {}  # those with a health check: its troubles are told in events
        self._told: dict[str, float] = {}  # slice → the last trigger that was noted of it
        self._triggers: dict[IPFamily, list[float]] = defaultdict(list)
        self._started = time.time()
        self.services = Passing(client, SERVICES, OTHER_PROXY, self._service_changed)
        self.slices = Passing(client, ENDPOINT_SLICES, HEADLESS, self._slice_changed)
        self.nodes = Informer(client, NODES, field_selector=f"metadata.name={configuration.node_name}")
        self.ranges = Informer(client, SERVICE_CIDRS)
        self.nodes.subscribe(self._node_changed)
        self.ranges.subscribe(self._range_changed)

    @property
    def watches(self) -> tuple[Passing[Service], Passing[EndpointSlice], Informer[Node], Informer[ServiceCIDR]]:
        """What has to run for as long as the tracker is used."""
        return self.services, self.slices, self.nodes, self.ranges

    async def ready(self) -> None:
        """Wait until all Services and slices are known: a half-read state would wipe a good table.

        The Node and the Service ranges are waited for briefly, as an old server may have none to tell.
        """
        await self.services.synced()
        await self.slices.synced()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.nodes.synced()
                await self.ranges.synced()
        except TimeoutError:
            log.warning("the Node or the ServiceCIDRs cannot be read yet: going on without")

    def follow_interfaces(self) -> None:
        """Watch the node's addresses in the running loop, if NodePorts answer on more than the Node's own."""
        if self._configuration.node_port_blocks is not None:
            self._addresses = NodeAddresses(lambda: self.moved())
            self._addresses.start()

    def close(self) -> None:
        self._services_leaving.close()
        self._slices_leaving.close()
        if self._addresses is not None:
            self._addresses.close()

    def surroundings(self, family: IPFamily) -> Surroundings:
        """What the table says of node and cluster."""
        interfaces = self._addresses.current if self._addresses is not None else None
        ranges = self.ranges.objects.values()
        return surroundings_of(self._configuration, family, self.node, ranges, interfaces)

    def programmed(self, family: IPFamily) -> None:
        """The family's rules follow everything told so far: note how long that took."""
        now = time.time()
        for trigger in self._triggers.pop(family, ()):
            self._metrics.programming.observe(now - trigger, family)
        self._metrics.endpoint_pending.set(0)
        self._metrics.service_pending.set(0)

    def checked_service(self, key: str) -> Service | None:
        """A Service with a health check."""
        return self._checked.get(key)

    def _service_changed(self, key: str, new: Service | None) -> None:
        self._metrics.service_changes.add()
        self._metrics.service_pending.add()
        self._checked.pop(key, None)
        if new is None:
            self._services_leaving.begin(key)
            return
        self.desired.put_service(new)
        if new.spec.health_check_node_port:
            self._checked[key] = new
        self.changed()

    def _service_left(self, key: str) -> None:
        if key not in self.services:
            self.desired.remove_service(key)
            self.changed()

    def _slice_changed(self, key: str, new: EndpointSlice | None) -> None:
        self._metrics.endpoint_changes.add()
        self._metrics.endpoint_pending.add()
        if new is None:
            self._told.pop(key, None)
            if self.desired.owner(key) in self._services_leaving:
                self._slices_leaving.begin(key)  # it goes with its Service, and stays as long
                return
            self.desired.remove_slice(key)
        else:
            self.desired.put_slice(new)
            if TRIGGER_TIME in new.metadata.annotations and self.slices.has_synced:
                self._note_trigger(key, new)
        self.changed()

    def _slice_left(self, key: str) -> None:
        if key not in self.slices:
            self.desired.remove_slice(key)
            self.changed()

    def _note_trigger(self, key: str, new: EndpointSlice) -> None:
        """Remember when what the slice tells of happened; changes from before we ran are nobody's latency."""
        text = new.metadata.annotations[TRIGGER_TIME]
        if new.address_type not in self.families:
            return
        try:
            happened = datetime.fromisoformat(text).timestamp()
        except ValueError:
            return
        if happened >= self._started and self._told.get(key) != happened:
            self._told[key] = happened
            self._triggers[IPFamily(new.address_type)].append(happened)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        self.node = new
        self.desired.node_changed(node_view(self._configuration, new))
        self.moved()

    def _range_changed(self, old: ServiceCIDR | None, new: ServiceCIDR | None) -> None:
        self.moved()


def node_view(configuration: Configuration, node: Node | None) -> NodeView:
    """What the computation takes from our Node; not much before it is there."""
    zone = node.metadata.labels.get(ZONE_LABEL, "") if node is not None else ""
    return NodeView(configuration.node_name, zone, frozenset(node_addresses(node)))


def surroundings_of(
    configuration: Configuration,
    family: IPFamily,
    node: Node | None,
    ranges: Iterable[ServiceCIDR],
    interfaces: frozenset[Address] | None = None,
) -> Surroundings:
    """What a table says of node and cluster. `interfaces`: all addresses of the node's interfaces, where known."""
    if configuration.node_port_blocks is None or interfaces is None:
        addresses = frozenset(each for each in node_addresses(node) if each.family is family)
    else:
        addresses = selected(interfaces, configuration.node_port_blocks, family)
    blocks = readable(CIDR.parse, (text for range_ in ranges for text in range_.spec.cidrs))
    services = frozenset(block for block in blocks if block.family is family)
    by_interface = configuration.pod_interface is not None
    return Surroundings(addresses, services, configuration.local_pods(family, node), by_interface)
