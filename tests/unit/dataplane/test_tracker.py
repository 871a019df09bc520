"""Whatever the order of events: the incremental computation ends where one from scratch does."""

from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dataplane.objects import computed, endpoint, service, slice_

from twinstack.api.core import Service, ServicePort
from twinstack.api.discovery import EndpointHints, EndpointSlice, ForZone
from twinstack.dataplane.claims import Claims
from twinstack.dataplane.model import FrontEnd, NodeView, ServiceState, Slot
from twinstack.dataplane.tracker import Tracker
from twinstack.dataplane.views import owner_of
from twinstack.ip import IPFamily

V4, V6 = FAMILIES = list(IPFamily)
NAMES = ["a", "b", "c"]
NODES = ["here", "there"]

T = TypeVar("T")

Event = tuple[str, str, object]  # what, key, new object or None


@st.composite
def services(draw: st.DrawFn) -> Service:
    """Few names, addresses and node ports, so that they collide."""
    number = draw(st.integers(1, 3))
    addresses = draw(
        st.sampled_from([(), (f"10.96.0.{number}",), (f"fd00::{number}",), (f"10.96.0.{number}", f"fd00::{number}")])
    )
    node_port = draw(st.sampled_from([0, 30001, 30002]))
    return service(
        draw(st.sampled_from(NAMES)),
        *addresses,
        ports=[ServicePort(name="http", protocol="TCP", port=draw(st.sampled_from([80, 81])), node_port=node_port)],
        type=draw(st.sampled_from(["ClusterIP", "NodePort"])),
        internal_traffic_policy=draw(st.sampled_from(["Cluster", "Local"])),
    )


@st.composite
def slices(draw: st.DrawFn) -> EndpointSlice:
    family = draw(st.sampled_from(FAMILIES))
    prefix = "10.0.0." if family is V4 else "fd00:1::"
    behind = []
    for number in draw(st.lists(st.integers(1, 4), unique=True, max_size=3)):
        state = draw(st.sampled_from([(True, True, False), (False, True, True), (False, False, True)]))
        one = endpoint(
            f"{prefix}{number}",
            node=draw(st.sampled_from(NODES)),
            ready=state[0],
            serving=state[1],
            terminating=state[2],
        )
        if draw(st.booleans()):
            one.hints = EndpointHints(for_zones=[ForZone(name=draw(st.sampled_from(["z1", "z2"])))])
        behind.append(one)
    found = slice_(draw(st.sampled_from(NAMES)), family, behind)
    # The name says nothing about the owner: a slice may pass from one Service to another.
    found.metadata.name = draw(st.sampled_from(["s1", "s2"])) + family.lower()
    if draw(st.integers(0, 9)) == 0:
        found.metadata.labels.clear()
    return found


events = st.one_of(
    services().map(lambda s: ("service", s.key, s)),
    slices().map(lambda s: ("slice", s.key, s)),
    st.sampled_from(NAMES).map(lambda name: ("service", f"default/{name}", None)),
    st.sampled_from(["s1", "s2"]).flatmap(
        lambda name: st.sampled_from(FAMILIES).map(lambda f: ("slice", f"default/{name}{f.lower()}", None))
    ),
    st.sampled_from(["", "z1", "z2"]).map(lambda zone: ("zone", "", zone)),
    st.just(("take", "", None)),
)


class World:
    """The objects, and a tracker with claims that follows them."""

    def __init__(self) -> None:
        self.tracker = Tracker(FAMILIES, NodeView("here"))
        self.claims = {family: Claims() for family in FAMILIES}
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.states: dict[tuple[str, IPFamily], ServiceState] = {}

    def play(self, event: Event) -> None:
        kind, key, new = event
        if kind == "service":
            assert new is None or isinstance(new, Service)
            _replace(self.services, key, new)
            if new is None:
                self.tracker.remove_service(key)
            else:
                self.tracker.put_service(new)
        elif kind == "slice":
            assert new is None or isinstance(new, EndpointSlice)
            _replace(self.slices, key, new)
            if new is None:
                self.tracker.remove_slice(key)
            else:
                self.tracker.put_slice(new)
        elif kind == "zone":
            assert isinstance(new, str)
            self.tracker.node_changed(NodeView("here", new))
        else:
            self.take()

    def take(self) -> None:
        changes = self.tracker.take()
        for change in changes:
            assert change.old != change.new
            assert self.states.get((change.service, change.family), ServiceState()) == change.old
            self.states[change.service, change.family] = change.new
        for family in FAMILIES:
            self.claims[family].apply([change for change in changes if change.family is family])

    def from_scratch(self, family: IPFamily) -> list[ServiceState]:
        found = []
        for key, each in self.services.items():
            own = [s for s in self.slices.values() if owner_of(s) == key and s.address_type == family]
            found.append(computed(each, own, family, self.tracker.node))
        return found


def _replace(objects: dict[str, T], key: str, new: T | None) -> None:
    objects.pop(key, None)
    if new is not None:
        objects[key] = new


@given(st.lists(events, max_size=40))
def test_incremental_equals_from_scratch(history: list[Event]) -> None:
    world = World()
    for event in history:
        world.play(event)
    world.take()
    assert not world.tracker.pending
    for family in FAMILIES:
        states = world.from_scratch(family)
        wanted: dict[Slot, FrontEnd] = {}
        for front_end in (f for state in states for f in state.front_ends):
            holder = wanted.get(front_end.slot)
            if holder is None or front_end.rank < holder.rank:
                wanted[front_end.slot] = front_end
        claims = world.claims[family]
        assert {front_end.slot: front_end for front_end in claims} == wanted
        assert set(claims.cluster_ips) == {state.cluster_ip for state in states if state.cluster_ip is not None}
        assert set(claims.hairpins) == {hairpin for state in states for hairpin in state.hairpins}


def test_only_what_an_event_concerns_is_computed() -> None:
    world = World()
    for name, number in (("a", 1), ("b", 2)):
        world.play(("service", f"default/{name}", service(name, f"10.96.0.{number}", f"fd00::{number}")))
    assert {(c.service, c.family) for c in world.tracker.take()} == {
        (f"default/{name}", family) for name in "ab" for family in FAMILIES
    }
    world.play(("slice", "s", slice_("a", V6, [endpoint("fd00:1::1")])))
    assert [(c.service, c.family) for c in world.tracker.take()] == [("default/a", V6)]
    world.play(("slice", "s", slice_("a", V6, [endpoint("fd00:1::1")])))  # says nothing new
    assert world.tracker.take() == []
    other = slice_("a", V6, [], suffix="names")
    other.address_type = "FQDN"
    world.play(("slice", "f", other))
    assert not world.tracker.pending


def test_an_address_passes_to_its_next_owner_in_any_order() -> None:
    for order in (1, -1):
        world = World()
        world.play(("service", "default/a", service("a", "10.96.0.1")))
        world.take()
        steps: list[Event] = [
            ("service", "default/a", None),
            ("service", "default/b", service("b", "10.96.0.1")),
        ]
        for step in steps[::order]:
            world.play(step)
            world.take()
        (front_end,) = world.claims[V4]
        assert front_end.name.service == "b"
        assert world.claims[V4].losers(front_end.slot) == []


def test_a_service_nobody_can_read_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.play(("service", "default/a", service("a", "10.96.0.300")))
    world.play(("service", "default/b", service("b", "10.96.0.2")))
    assert [change.service for change in world.tracker.take()] == ["default/b"]
    assert "Service default/a: not an IP address: '10.96.0.300'" in caplog.text
