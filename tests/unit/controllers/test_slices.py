from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.core import Service, ServiceSpec
from twinstack.api.discovery import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from twinstack.api.meta import ObjectMeta, ObjectReference
from twinstack.controllers.endpoints import Desired, Group, PortKey, port_key
from twinstack.controllers.packing import Plan
from twinstack.controllers.slices import HEADLESS, MANAGED_BY, MANAGER, SERVICE_NAME, TRIGGER_TIME, plan
from twinstack.ip import IPFamily

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
PORTS = [EndpointPort(name="http", protocol="TCP", port=80)]
OTHER_PORTS = [EndpointPort(name="http", protocol="TCP", port=81)]


def service(name: str = "web", **labels: str) -> Service:
    meta = ObjectMeta(name=name, namespace="shop", uid="s1", labels={k.replace("_", "-"): v for k, v in labels.items()})
    return Service(api_version="v1", kind="Service", metadata=meta, spec=ServiceSpec(cluster_ip="10.96.0.1"))


def endpoint(number: int, ready: bool = True) -> Endpoint:
    return Endpoint(
        addresses=[f"10.0.{number >> 8}.{number & 255}"],
        conditions=EndpointConditions(ready=ready, serving=ready, terminating=False),
        target_ref=ObjectReference(kind="Pod", namespace="shop", name=f"p{number}", uid=f"u{number}"),
    )


def desired(groups: dict[IPFamily, list[tuple[list[EndpointPort], list[Endpoint]]]]) -> Desired:
    return Desired(
        {
            family: {port_key(ports): Group(ports, list(endpoints)) for ports, endpoints in parts}
            for family, parts in groups.items()
        },
        set(),
    )


class Cluster:
    """The slices as a server keeps them."""

    def __init__(self) -> None:
        self.slices: dict[str, EndpointSlice] = {}
        self._count = 0

    def apply(self, todo: Plan) -> None:
        for slice_ in todo.deletes:
            del self.slices[slice_.metadata.name]
        for slice_ in todo.updates:
            assert slice_.address_type == self.slices[slice_.metadata.name].address_type
            self.slices[slice_.metadata.name] = slice_
        for slice_ in todo.creates:
            self._count += 1
            name = f"{slice_.metadata.generate_name}{self._count}"
            slice_.metadata.name = name
            self.slices[name] = slice_

    def reach(self, wanted: Desired, maximum: int = 100, owner: Service | None = None, at: str | None = None) -> Plan:
        todo = plan(owner or service(), wanted, list(self.slices.values()), maximum, at)
        self.apply(todo)
        return todo

    def of(self, family: IPFamily) -> list[EndpointSlice]:
        return [slice_ for slice_ in self.slices.values() if slice_.address_type == family.value]


def in_order(endpoints: list[Endpoint]) -> list[Endpoint]:
    return sorted(endpoints, key=lambda entry: entry.addresses)


def sizes(todo: Plan) -> tuple[int, int, int]:
    return len(todo.creates), len(todo.updates), len(todo.deletes)


def test_a_new_slice_says_whose_it_is() -> None:
    cluster = Cluster()
    owner = service(app="web", **{"kubernetes.io/service-name": "a lie"})
    todo = cluster.reach(desired({V4: [(PORTS, [endpoint(1)])]}), owner=owner, at="2026-01-01T00:00:00Z")
    [slice_] = todo.creates
    meta = slice_.metadata
    assert (meta.generate_name, meta.namespace) == ("web-", "shop")
    assert meta.labels == {"app": "web", SERVICE_NAME: "web", MANAGED_BY: MANAGER}
    assert meta.annotations == {TRIGGER_TIME: "2026-01-01T00:00:00Z"}
    [owner_reference] = meta.owner_references
    assert msgspec.to_builtins(owner_reference) == {
        "apiVersion": "v1",
        "kind": "Service",
        "name": "web",
        "uid": "s1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert (slice_.address_type, slice_.ports) == ("IPv4", PORTS)


def test_a_headless_service_labels_its_slices_and_a_long_name_has_no_dash() -> None:
    owner = service("x" * 58)
    owner.spec.cluster_ip = "None"
    [slice_] = plan(owner, desired({V4: []}), [], 100, None).creates
    assert slice_.metadata.labels[HEADLESS] == ""
    assert slice_.metadata.generate_name == "x" * 58


def test_without_endpoints_there_is_one_placeholder_a_family() -> None:
    cluster = Cluster()
    wanted = desired({V4: [], V6: [(PORTS, [])]})
    assert sizes(cluster.reach(wanted)) == (2, 0, 0)
    assert all(not slice_.endpoints and not slice_.ports for slice_ in cluster.slices.values())
    assert not cluster.reach(wanted)
    # The first endpoint fills the placeholder instead of replacing it, the last one leaves it behind again.
    names = set(cluster.slices)
    assert sizes(cluster.reach(desired({V4: [(PORTS, [endpoint(1)])], V6: []}))) == (0, 1, 0)
    assert sizes(cluster.reach(wanted)) == (0, 1, 0)
    assert set(cluster.slices) == names


def test_a_family_that_is_given_up_loses_its_slices_and_only_them() -> None:
    cluster = Cluster()
    both = desired({V4: [(PORTS, [endpoint(1)])], V6: [(PORTS, [endpoint(2)])]})
    cluster.reach(both)
    assert sizes(cluster.reach(desired({V4: [(PORTS, [endpoint(1)])]}))) == (0, 0, 1)
    assert not cluster.of(V6)
    assert sizes(cluster.reach(both)) == (1, 0, 0)


def test_only_differences_are_written() -> None:
    cluster = Cluster()
    cluster.reach(desired({V4: [(PORTS, [endpoint(1), endpoint(2)])], V6: [(PORTS, [endpoint(3)])]}))
    assert not cluster.reach(desired({V4: [(PORTS, [endpoint(2), endpoint(1)])], V6: [(PORTS, [endpoint(3)])]}))
    todo = cluster.reach(
        desired({V4: [(PORTS, [endpoint(1, ready=False), endpoint(2)])], V6: [(PORTS, [endpoint(3)])]})
    )
    assert sizes(todo) == (0, 1, 0)
    assert todo.updates[0].address_type == "IPv4"


def test_a_change_of_ports_is_an_update_in_place() -> None:
    cluster = Cluster()
    cluster.reach(desired({V4: [(PORTS, [endpoint(1)])]}))
    todo = cluster.reach(desired({V4: [(OTHER_PORTS, [endpoint(1)])]}))
    assert sizes(todo) == (0, 1, 0)
    assert todo.updates[0].ports == OTHER_PORTS


def test_labels_of_the_service_follow_but_headlessness_alone_is_no_reason_to_write() -> None:
    cluster = Cluster()
    wanted = desired({V4: [(PORTS, [endpoint(1)])]})
    cluster.reach(wanted)
    [slice_] = cluster.of(V4)
    slice_.metadata.annotations["theirs"] = "kept"
    todo = cluster.reach(wanted, owner=service(tier="front"))
    assert sizes(todo) == (0, 1, 0)
    assert todo.updates[0].metadata.labels["tier"] == "front"
    assert todo.updates[0].metadata.annotations == {"theirs": "kept"}
    headless = service(tier="front")
    headless.spec.cluster_ip = "None"
    assert not cluster.reach(wanted, owner=headless)


def test_the_trigger_time_is_written_with_a_change_and_taken_off_by_one_without() -> None:
    cluster = Cluster()
    cluster.reach(desired({V4: [(PORTS, [endpoint(1)])]}), at="2026-01-01T00:00:00Z")
    assert not cluster.reach(desired({V4: [(PORTS, [endpoint(1)])]}), at="2026-01-02T00:00:00Z")
    todo = cluster.reach(desired({V4: [(PORTS, [endpoint(2)])]}))
    assert TRIGGER_TIME not in todo.updates[0].metadata.annotations


def test_additions_go_into_the_fullest_changed_slice_then_where_all_fit_best_then_into_new_ones() -> None:
    def filled(*groups: range) -> Cluster:
        cluster = Cluster()
        held: list[Endpoint] = []
        for numbers in groups:
            held += [endpoint(number) for number in numbers]
            todo = plan(service(), desired({V4: [(PORTS, [endpoint(n) for n in numbers])]}), [], 10, None)
            cluster.apply(todo)
        return cluster

    # One slice loses an endpoint, so it is written anyway: both additions go there.
    cluster = filled(range(8), range(100, 108), range(200, 204))
    keep = [*range(1, 8), *range(100, 108), *range(200, 204)]
    todo = cluster.reach(desired({V4: [(PORTS, [endpoint(n) for n in [*keep, 300, 301]])]}), 10)
    assert sizes(todo) == (0, 1, 0)
    assert len(todo.updates[0].endpoints or []) == 9

    # None changes otherwise: the three go where they leave the least room.
    cluster = filled(range(9), range(100, 106), range(200, 204))
    keep = [*range(9), *range(100, 106), *range(200, 204)]
    todo = cluster.reach(desired({V4: [(PORTS, [endpoint(n) for n in [*keep, 300, 301, 302]])]}), 10)
    assert sizes(todo) == (0, 1, 0)
    assert len(todo.updates[0].endpoints or []) == 9

    # They fit nowhere: a new slice, and the others stay as they are.
    cluster = filled(range(9), range(100, 109))
    keep = [*range(9), *range(100, 109)]
    todo = cluster.reach(desired({V4: [(PORTS, [endpoint(n) for n in [*keep, 300, 301]])]}), 10)
    assert sizes(todo) == (1, 0, 0)


@pytest.mark.parametrize(("count", "slices"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3), (1000, 10)])
def test_how_many_slices_it_takes_from_nothing(count: int, slices: int) -> None:
    todo = plan(service(), desired({V4: [(PORTS, [endpoint(n) for n in range(count)])]}), [], 100, None)
    assert sizes(todo) == (slices, 0, 0)


_numbers = st.sets(st.integers(0, 40), max_size=30)
_states = st.lists(
    st.fixed_dictionaries(
        {
            family: st.dictionaries(st.sampled_from(["a", "b"]), st.tuples(_numbers, st.booleans()), max_size=2)
            for family in (V4, V6)
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(_states, st.integers(1, 12), st.booleans())
def test_any_sequence_of_changes_ends_in_what_is_wanted(
    states: list[dict[IPFamily, dict[str, tuple[set[int], bool]]]], maximum: int, drop_v6: bool
) -> None:
    ports = {"a": PORTS, "b": OTHER_PORTS}
    cluster = Cluster()
    for step, state in enumerate(states):
        if drop_v6 and step % 2:
            state = {V4: state[V4]}
        taken: dict[IPFamily, set[int]] = {V4: set(), V6: set()}
        groups: dict[IPFamily, list[tuple[list[EndpointPort], list[Endpoint]]]] = {}
        expected: dict[tuple[str, PortKey], list[Endpoint]] = {}
        for family, parts in state.items():
            groups[family] = []
            for name, (numbers, ready) in parts.items():
                free = sorted(numbers - taken[family])
                taken[family] |= numbers
                endpoints = [endpoint(number, ready) for number in free]
                groups[family].append((ports[name], endpoints))
                if endpoints:
                    expected[family.value, port_key(ports[name])] = endpoints
        wanted = desired(groups)
        before = {name: msgspec.json.encode(slice_) for name, slice_ in cluster.slices.items()}
        todo = cluster.reach(wanted, maximum)

        found: dict[tuple[str, PortKey], list[Endpoint]] = {}
        for slice_ in cluster.slices.values():
            endpoints = slice_.endpoints or []
            assert len(endpoints) <= maximum
            if endpoints:
                found.setdefault((slice_.address_type, port_key(slice_.ports)), []).extend(endpoints)
            else:  # a placeholder is alone in its family
                assert not slice_.ports
                assert len(cluster.of(IPFamily(slice_.address_type))) == 1
        assert {key: in_order(endpoints) for key, endpoints in found.items()} == {
            key: in_order(endpoints) for key, endpoints in expected.items()
        }
        assert {slice_.address_type for slice_ in cluster.slices.values()} == {family.value for family in state}
        for slice_ in todo.updates:
            assert msgspec.json.encode(slice_) != before[slice_.metadata.name]
        assert not (todo.creates and todo.deletes) or {s.address_type for s in todo.creates}.isdisjoint(
            s.address_type for s in todo.deletes
        )
        assert not plan(service(), wanted, list(cluster.slices.values()), maximum, None)
