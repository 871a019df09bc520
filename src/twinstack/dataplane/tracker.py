"""Services and slices as they come and go → changes of what the node must do.

An event about one Service or slice makes that Service, in the families concerned, be computed again at the
next `take`; no other is looked at. Of the objects only views are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.dataplane.endpoints import Endpoint, gather
from twinstack.dataplane.model import NOTHING, NodeView, ServicePortName, ServiceState, Target, Value
from twinstack.dataplane.services import open_family, state_of
from twinstack.dataplane.views import Complaints, ServiceView, SliceView, read_service, read_slice
from twinstack.ip import IPFamily

log = logging.getLogger(__name__)

_Place = tuple[str, IPFamily]  # a Service, by namespace/name, in one family


class Change(Value, frozen=True):
    """One Service in one family, before and after."""

    service: str  # namespace/name
    family: IPFamily
    old: ServiceState
    new: ServiceState


class Tracker:
    """The incremental computation. Feed it objects as they come and go, in any order."""

    def __init__(self, families: Iterable[IPFamily], node: NodeView) -> None:
        self._families = tuple(families)
        self._node = node
        self._services: dict[str, ServiceView] = {}
        self._slices: dict[_Place, dict[str, SliceView]] = {}
        self._places: dict[str, _Place] = {}  # by the slice's key
        self._states: dict[_Place, ServiceState] = {}
        self._dirty: dict[_Place, None] = {}  # in the order of the events
        self._complaints: dict[tuple[str, str], str] = {}  # the last one by kind and key

    @property
    def pending(self) -> bool:
        return bool(self._dirty)

    @property
    def node(self) -> NodeView:
        return self._node

    def put_service(self, service: Service) -> ServiceView | None:
        """It is new or changed. Returns what was taken from it, or None if it asks for nothing."""
        key, complaints = service.key, Complaints()
        view = read_service(service, complaints)
        if view is None:
            self._services.pop(key, None)
        else:
            self._services[key] = view
            family = open_family(view.exposure, self._families)
            if family is not None:  # few people expect it
                complaints.append(f"loadBalancerSourceRanges has none of {family}: it is open there")
        self._tell("Service", key, complaints)
        self._mark(key)
        return view

    def remove_service(self, key: str) -> None:
        if self._services.pop(key, None) is not None:
            self._complaints.pop(("Service", key), None)
            self._mark(key)

    def put_slice(self, slice_: EndpointSlice) -> None:
        """It is new or changed. Slices of other address types, and those without an owner, are ignored."""
        key, complaints = slice_.key, Complaints()
        view = read_slice(slice_, complaints)
        if complaints or self._complaints:
            self._tell("EndpointSlice", key, complaints)
        if view is None or view.family not in self._families:
            self._take_away(key)
            return
        place = (view.owner, view.family)
        before = self._places.get(key)
        if before == place:
            place = before
        else:
            if before is not None:
                self._take_away(key)
            self._places[key] = place
        self._slices.setdefault(place, {})[key] = view
        self._dirty[place] = None

    def remove_slice(self, key: str) -> None:
        self._complaints.pop(("EndpointSlice", key), None)
        self._take_away(key)

    def owner(self, slice_key: str) -> str | None:
        """The Service whose endpoints a slice has, by namespace/name."""
        place = self._places.get(slice_key)
        return place[0] if place is not None else None

    def _take_away(self, key: str) -> None:
        place = self._places.pop(key, None)
        if place is None:
            return
        slices = self._slices[place]
        del slices[key]
        if not slices:
            del self._slices[place]
        self._dirty[place] = None

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
            old = self._states.get(place, NOTHING)
            new = self._compute(place)
            if new == old:
                continue
            if new == NOTHING:
                del self._states[place]
            else:
                self._states[place] = new
            changes.append(Change(*place, old, new))
        return changes

    def _compute(self, place: _Place) -> ServiceState:
        key, family = place
        service = self._services.get(key)
        if service is None:
            return NOTHING
        return state_of(service, self._slices.get(place, {}).values(), family, self._node)

    def _mark(self, key: str) -> None:
        for family in self._families:
            self._dirty[key, family] = None

    def _tell(self, kind: str, key: str, complaints: Complaints) -> None:
        """Each complaint about an object once, however often it comes."""
        if not complaints:
            self._complaints.pop((kind, key), None)
        elif self._complaints.get((kind, key)) != str(complaints):
            self._complaints[kind, key] = str(complaints)
            log.warning("%s %s: %s", kind, key, complaints)
