from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.core import Service, ServiceSpec
from twinstack.api.discovery import EndpointSlice
from twinstack.api.endpoints import EndpointAddress, EndpointPort, Endpoints, EndpointSubset
from twinstack.api.meta import ObjectMeta, ObjectReference
from twinstack.controllers.mirroring import LEADER, MANAGER, SKIP_MIRROR, is_mirrored, mirror, plan
from twinstack.controllers.slices import MANAGED_BY, SERVICE_NAME
from twinstack.ip import IPFamily

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def endpoints(*subsets: EndpointSubset, labels: dict[str, str] | None = None, **annotations: str) -> Endpoints:
    meta = ObjectMeta(name="db", namespace="shop", uid="e1", labels=labels or {}, annotations=annotations)
    return Endpoints(api_version="v1", kind="Endpoints", metadata=meta, subsets=list(subsets))


def subset(*ips: str, waiting: tuple[str, ...] = (), port: int = 5432) -> EndpointSubset:
    return EndpointSubset(
        addresses=[EndpointAddress(ip=ip) for ip in ips],
        not_ready_addresses=[EndpointAddress(ip=ip) for ip in waiting],
        ports=[EndpointPort(name="sql", port=port)],
    )


def shown(slices: list[EndpointSlice]) -> dict[tuple[str, int], list[tuple[str, bool | None]]]:
    """Family and port → addresses with their readiness."""
    return {
        (s.address_type, (s.ports or [])[0].port or 0): [
            (e.addresses[0], e.conditions.ready) for e in s.endpoints or []
        ]
        for s in slices
    }


@pytest.mark.parametrize("skip", [None, "true", "false"])
@pytest.mark.parametrize("leader", [False, True])
@pytest.mark.parametrize("selector", [None, {}, {"app": "db"}])
@pytest.mark.parametrize("exists", [False, True])
def test_what_is_mirrored(skip: str | None, leader: bool, selector: dict[str, str] | None, exists: bool) -> None:
    made = endpoints(labels={SKIP_MIRROR: skip} if skip else {}, **({LEADER: "x"} if leader else {}))
    service = Service(spec=ServiceSpec(selector=selector)) if exists else None
    assert is_mirrored(made, service) == (exists and not selector and not leader and skip != "true")


def test_a_slice_a_family_and_set_of_ports() -> None:
    made = endpoints(subset("10.0.0.1", "fd00::A", waiting=("10.0.0.2",)), subset("10.0.0.1", port=99))
    todo = plan(made, mirror(made, 1000).families, [])
    assert not todo.updates
    assert not todo.deletes
    assert shown(todo.creates) == {
        ("IPv4", 5432): [("10.0.0.1", True), ("10.0.0.2", False)],
        ("IPv4", 99): [("10.0.0.1", True)],
        ("IPv6", 5432): [("fd00::a", True)],
    }
    for slice_ in todo.creates:
        [owner] = slice_.metadata.owner_references
        assert (owner.kind, owner.name, owner.uid, owner.controller) == ("Endpoints", "db", "e1", True)
        assert slice_.metadata.generate_name == "db-"


def test_what_an_address_says_is_copied() -> None:
    target = ObjectReference(kind="Pod", name="p")
    made = endpoints(
        EndpointSubset(addresses=[EndpointAddress(ip="10.0.0.1", hostname="h", node_name="n", target_ref=target)])
    )
    [slice_] = plan(made, mirror(made, 1000).families, []).creates
    [endpoint] = slice_.endpoints or []
    assert (endpoint.hostname, endpoint.node_name, endpoint.target_ref) == ("h", "n", target)
    assert (endpoint.conditions.serving, endpoint.conditions.terminating) == (None, None)
    assert slice_.ports == []


def test_labels_and_annotations_are_those_of_the_object() -> None:
    made = endpoints(subset("10.0.0.1"), labels={"a": "b", MANAGED_BY: "x"}, note="n", **{TRIGGER: "t", APPLIED: "{}"})
    [slice_] = plan(made, mirror(made, 1000).families, []).creates
    assert slice_.metadata.labels == {"a": "b", SERVICE_NAME: "db", MANAGED_BY: MANAGER}
    assert slice_.metadata.annotations == {"note": "n"}
    assert not plan(made, mirror(made, 1000).families, [slice_])
    for labels, notes in itertools.product(({"a": "b"}, {"a": "c"}), ({"note": "n"}, {})):
        other = endpoints(subset("10.0.0.1"), labels=labels, **notes)
        todo = plan(other, mirror(other, 1000).families, [slice_])
        same = labels == {"a": "b"} and notes == {"note": "n"}
        assert bool(todo) != same
        assert bool(todo.updates) != same


def test_nothing_left_means_no_slice() -> None:
    made = endpoints(subset("10.0.0.1", "fd00::1"))
    slices = plan(made, mirror(made, 1000).families, []).creates
    assert len(slices) == 2
    only = endpoints(subset("fd00::1"))
    todo = plan(only, mirror(only, 1000).families, slices)
    assert [s.address_type for s in todo.deletes] == ["IPv4"]
    empty = endpoints()
    todo = plan(empty, mirror(empty, 1000).families, slices)
    assert len(todo.deletes) == 2
    assert not todo.creates


@given(
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "no", "010.1.1.1"]), max_size=8),
    st.integers(1, 6),
)
def test_what_is_left_out_is_counted(ips: list[str], per_subset: int) -> None:
    made = mirror(endpoints(subset(*ips)), per_subset)
    placed = sum(len(group.endpoints) for groups in made.families.values() for group in groups.values())
    assert placed + made.skipped == len(ips)
    assert placed <= per_subset
    assert made.invalid <= made.skipped
    if len(ips) <= per_subset:
        assert made.skipped == made.invalid == sum(ip in ("no", "010.1.1.1") for ip in ips)
