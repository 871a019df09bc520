"""Services and slices as they come and go → changes of what the node must do.

An event about one Service or slice makes that Service, in the families concerned, be computed again at the
next `take`; no other is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.endpoints import Endpoint, gather
from twinstack.dataplane.model import NOTHING, NodeView, ServicePortName, ServiceState, Target
from twinstack.dataplane.services import state_of
from twinstack.ip import IPFamily

SERVICE_NAME_LABEL = "kubernetes.io/service-name"

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """One Service in one family, before and after."""

    service: str  # namespace/name
    family: IPFamily
    old: ServiceState
    new: ServiceState


def owner_of(slice_: EndpointSlice) -> str:
    """`namespace/name` of the Service a slice belongs to, or nothing."""
    name = slice_.metadata.labels.get(SERVICE_NAME_LABEL, "")
    return f"{slice_.metadata.namespace}/{name}" if name else ""


class Tracker:
    """The incremental computation. Feed it old and new objects; None stands for absence."""

    def __init__(self, families: Iterable[IPFamily], node: NodeView) -> None:
        self._families = tuple(families)
        self._node = node
        self._services: dict[str, Service] = {}
        self._slices: dict[tuple[str, IPFamily], dict[str, EndpointSlice]] = {}
        self._states: dict[tuple[str, IPFamily], ServiceState] = {}
        self._dirty: dict[tuple[str, IPFamily], None] = {}  # in the order of the events

    @property
    def pending(self) -> bool:
        return bool(self._dirty)

    @property
    def node(self) -> NodeView:
        return self._node

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        if new is not None:
            self._services[new.key] = new
            self._mark(new.key)
        elif old is not None:
            self._services.pop(old.key, None)
            self._mark(old.key)

    def slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """Slices of other address types, and those without an owner, are ignored."""
        before, after = self._place(old), self._place(new)
        if old is not None and before is not None and before != after:
            slices = self._slices.get(before, {})
            slices.pop(old.key, None)
            if not slices:
                self._slices.pop(before, None)
            self._dirty[before] = None
        if new is not None and after is not None:
            self._slices.setdefault(after, {})[new.key] = new
            self._dirty[after] = None

    def endpoints(self, name: ServicePortName, family: IPFamily) -> dict[Target, Endpoint]:
        """All endpoints of a Service port, whether or not they carry traffic."""
        slices = self._slices.get((f"{name.namespace}/{name.service}", family), {})
        return gather(slices.values(), self._node.name).get((name.port, name.protocol), {})

    def node_changed(self, node: NodeView) -> None:
        """A change of name, zone or addresses concerns every Service."""
        if node != self._node:
            self._node = node
            for key in self._services:
                self._mark(key)

    def take(self) -> list[Change]:
        """Compute what has become dirty since the last call; Services that come out the same are left out."""
        dirty, self._dirty = self._dirty, {}
        changes: list[Change] = []
        for place in dirty:
            key, family = place
            old = self._states.get(place, NOTHING)
            new = self._compute(key, family)
            if new == old:
                continue
            if new == NOTHING:
                del self._states[place]
            else:
                self._states[place] = new
            changes.append(Change(key, family, old, new))
        return changes

    def _compute(self, key: str, family: IPFamily) -> ServiceState:
        service = self._services.get(key)
        if service is None:
            return NOTHING
        try:
            return state_of(service, self._slices.get((key, family), {}).values(), family, self._node)
        except ValueError as error:  # an address that no API server lets pass; the other Services must not suffer
            log.warning("Service %s is left out in %s: %s", key, family, error)
            return NOTHING

    def _mark(self, key: str) -> None:
        for family in self._families:
            self._dirty[key, family] = None

    def _place(self, slice_: EndpointSlice | None) -> tuple[str, IPFamily] | None:
        if slice_ is None:
            return None
        owner = owner_of(slice_)
        for family in self._families:
            if owner and slice_.address_type == family:
                return owner, family
        return None
