"""What the API server tells of → what the node must do: four watches that feed the incremental computation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from twinstack.api.core import Node, Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.kinds import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES
from twinstack.api.networking import ServiceCIDR
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.dataplane.model import ZONE_LABEL, NodeView, Surroundings
from twinstack.dataplane.services import open_family
from twinstack.dataplane.tracker import Tracker
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.configuration import Configuration, node_addresses
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.node_addresses import NodeAddresses, selected

OTHER_PROXY = "!service.kubernetes.io/service-proxy-name"  # Services that ask for another proxy are not ours
HEADLESS = "!service.kubernetes.io/headless"  # slices nobody is redirected to
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"

_PATIENCE = 5.0  # seconds to wait for what is useful but not needed

log = logging.getLogger(__name__)


class ClusterTracker:
    """Keeps the desired state of all families current.

    Calls `changed` after changes of Services and endpoints, `moved` after those of node and cluster.
    """

    def __init__(
        self, client: Client, configuration: Configuration, families: list[IPFamily], metrics: ProxyMetrics
    ) -> None:
        self.desired = Tracker(families, NodeView(configuration.node_name))
        self.families = families
        self.changed: Callable[[], None] = lambda: None
        self.moved: Callable[[], None] = lambda: None
        self.node: Node | None = None
        self._configuration = configuration
        self._metrics = metrics
        self._addresses: NodeAddresses | None = None
        self._warned: dict[str, IPFamily] = {}  # Service key → the family that its source ranges leave open
        self._triggers: dict[IPFamily, list[float]] = defaultdict(list)
        self._started = time.time()
        self.services = Informer(client, SERVICES, label_selector=OTHER_PROXY)
        self.slices = Informer(client, ENDPOINT_SLICES, label_selector=HEADLESS)
        self.nodes = Informer(client, NODES, field_selector=f"metadata.name={configuration.node_name}")
        self.ranges = Informer(client, SERVICE_CIDRS)
        self.services.subscribe(self._service_changed)
        self.slices.subscribe(self._slice_changed)
        self.nodes.subscribe(self._node_changed)
        self.ranges.subscribe(self._range_changed)

    @property
    def informers(self) -> tuple[Informer[Service], Informer[EndpointSlice], Informer[Node], Informer[ServiceCIDR]]:
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
        if self._addresses is not None:
            self._addresses.close()

    def surroundings(self, family: IPFamily) -> Surroundings:
        """What the table says of node and cluster."""
        configuration = self._configuration
        addresses: frozenset[Address]
        if configuration.node_port_blocks is None or self._addresses is None:
            addresses = frozenset(a for a in node_addresses(self.node) if a.family is family)
        else:
            addresses = selected(self._addresses.current, configuration.node_port_blocks, family)
        blocks = (CIDR.parse(text) for range_ in self.ranges.objects.values() for text in range_.spec.cidrs)
        ranges = frozenset(block for block in blocks if block.family is family)
        by_interface = configuration.pod_interface is not None
        return Surroundings(addresses, ranges, configuration.local_pods(family, self.node), by_interface)

    def programmed(self, family: IPFamily) -> None:
        """The family's rules follow everything told so far: note how long that took."""
        now = time.time()
        for trigger in self._triggers.pop(family, ()):
            self._metrics.programming.observe(now - trigger, family)
        self._metrics.endpoint_pending.set(0)
        self._metrics.service_pending.set(0)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        self.desired.service_changed(old, new)
        self._metrics.service_changes.add()
        self._metrics.service_pending.set(self._metrics.service_pending.value() + 1)
        if new is not None:
            self._say_what_is_open(new)
        elif old is not None:
            self._warned.pop(old.key, None)
        self.changed()

    def _say_what_is_open(self, service: Service) -> None:
        """Once a Service: ranges of one family restrict nothing in the other, which few people expect."""
        try:
            family = open_family(service, self.families) if service.spec.load_balancer_source_ranges else None
        except ValueError:
            return  # whoever computes the Service will say so
        if family is None:
            self._warned.pop(service.key, None)
        elif self._warned.get(service.key) is not family:
            self._warned[service.key] = family
            log.warning("Service %s: loadBalancerSourceRanges has none of %s: it is open there", service.key, family)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        self.desired.slice_changed(old, new)
        self._metrics.endpoint_changes.add()
        self._metrics.endpoint_pending.set(self._metrics.endpoint_pending.value() + 1)
        self._note_trigger(old, new)
        self.changed()

    def _note_trigger(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """Remember when what the slice tells of happened; changes from before we ran are nobody's latency."""
        if new is None or new.address_type not in self.families:
            return
        text = new.metadata.annotations.get(TRIGGER_TIME, "")
        if not text or (old is not None and old.metadata.annotations.get(TRIGGER_TIME) == text):
            return
        try:
            happened = datetime.fromisoformat(text).timestamp()
        except ValueError:
            return
        if happened >= self._started:
            self._triggers[IPFamily(new.address_type)].append(happened)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        self.node = new
        zone = new.metadata.labels.get(ZONE_LABEL, "") if new is not None else ""
        addresses = frozenset(node_addresses(new))
        self.desired.node_changed(NodeView(self._configuration.node_name, zone, addresses))
        self.moved()

    def _range_changed(self, old: ServiceCIDR | None, new: ServiceCIDR | None) -> None:
        self.moved()
