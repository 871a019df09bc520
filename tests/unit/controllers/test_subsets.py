from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controllers.test_endpoints import pod, service

from twinstack.api.core import Container, ContainerPort, ServicePort
from twinstack.api.endpoints import EndpointAddress, EndpointPort, Endpoints, EndpointSubset
from twinstack.api.meta import ObjectMeta
from twinstack.controllers.slices import HEADLESS
from twinstack.controllers.subsets import MANAGED_BY, OVER_CAPACITY, plan, subsets_of, truncated

HTTP = EndpointPort(name="http", protocol="TCP", port=8080)


def ips(subsets: list[EndpointSubset]) -> list[tuple[list[str], list[str]]]:
    return [([a.ip for a in s.addresses], [a.ip for a in s.not_ready_addresses]) for s in subsets]


@pytest.mark.parametrize(
    ("families", "cluster_ip", "pod_ips", "expected"),
    [
        (["IPv4", "IPv6"], "10.96.0.9", ("10.0.0.1", "fd00::1"), "10.0.0.1"),
        (["IPv6", "IPv4"], "fd00:96::9", ("10.0.0.1", "fd00::1"), "fd00::1"),
        (["IPv6"], "fd00:96::9", ("10.0.0.1",), None),
        ([], "10.96.0.9", ("fd00::1", "10.0.0.1"), "10.0.0.1"),
        ([], "fd00:96::9", ("10.0.0.1", "fd00::1"), "fd00::1"),
        ([], "None", ("fd00::1", "10.0.0.1"), "fd00::1"),
        ([], "", ("10.0.0.1", "fd00::1"), "10.0.0.1"),
        (["IPv4"], "10.96.0.9", ("010.0.0.1", "10.0.0.2"), "10.0.0.2"),
        (["IPv4"], "10.96.0.9", (), None),
    ],
)
def test_only_the_first_family_counts(
    families: list[str], cluster_ip: str, pod_ips: tuple[str, ...], expected: str | None
) -> None:
    made = subsets_of(service(ip_families=families, cluster_ip=cluster_ip), [pod(ips=pod_ips)])
    assert ips(made) == ([([expected], [])] if expected else [])


@pytest.mark.parametrize("publish", [False, True])
@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("deleted", [None, "2026-01-01T00:00:00Z"])
@pytest.mark.parametrize("phase", ["Running", "Pending", "Succeeded", "Failed"])
def test_who_is_in_and_where(publish: bool, ready: bool, deleted: str | None, phase: str) -> None:
    made = subsets_of(service(publish_not_ready_addresses=publish), [pod(ready=ready, deleted=deleted, phase=phase)])
    if phase in ("Succeeded", "Failed") or (deleted and not publish):
        assert made == []
    elif ready or publish:
        assert ips(made) == [(["10.0.0.1"], [])]
    else:
        assert ips(made) == [([], ["10.0.0.1"])]


def test_an_address_says_whose_it_is() -> None:
    named = pod(hostname="h", subdomain="web")
    [subset] = subsets_of(service(), [named])
    [address] = subset.addresses
    assert (address.hostname, address.node_name) == ("h", "n1")
    assert address.target_ref is not None
    target = address.target_ref
    assert (target.kind, target.namespace, target.name, target.uid) == ("Pod", "shop", "a", "u-a")
    [subset] = subsets_of(service(), [pod(hostname="h", subdomain="other")])
    assert subset.addresses[0].hostname == ""
    assert subset.ports == [HTTP]


def test_ports_shared_by_the_same_addresses_share_a_subset() -> None:
    """Port → addresses, then addresses → ports: a Pod with one port more is in two subsets."""
    ports = [ServicePort(name=n, protocol="TCP", port=p, target_port=t) for n, p, t in (("a", 1, "x"), ("b", 2, 22))]
    has_x = pod("p1", ips=("10.0.0.2",), containers=[Container(ports=[ContainerPort(name="x", container_port=11)])])
    lacks_x = pod("p2", ips=("10.0.0.1",))
    first, second = subsets_of(service(ports=ports), [has_x, lacks_x])
    assert ([p.name for p in first.ports], ips([first])) == (["a"], [(["10.0.0.2"], [])])
    assert ([p.name for p in second.ports], ips([second])) == (["b"], [(["10.0.0.1", "10.0.0.2"], [])])
    (both,) = subsets_of(service(ports=ports), [has_x])
    assert [(p.name, p.port) for p in both.ports] == [("a", 11), ("b", 22)]


def test_without_ports_only_a_headless_service_names_pods() -> None:
    assert ips(subsets_of(service(ports=[], cluster_ip="None"), [pod()])) == [(["10.0.0.1"], [])]
    assert subsets_of(service(ports=[], cluster_ip="None"), [pod()])[0].ports == []
    assert subsets_of(service(ports=[], cluster_ip="10.96.0.1"), [pod()]) == []


@given(st.lists(st.tuples(st.integers(1, 250), st.booleans()), max_size=12, unique_by=lambda p: p[0]), st.randoms())
def test_the_order_of_pods_does_not_matter(pods: list[tuple[int, bool]], order: random.Random) -> None:
    made = [pod(f"p{n}", ips=(f"10.0.0.{n}",), ready=ready) for n, ready in pods]
    shuffled = list(made)
    order.shuffle(shuffled)
    subsets = subsets_of(service(), made)
    assert subsets == subsets_of(service(), shuffled)
    assert sum(len(s.addresses) for s in subsets) == sum(ready for _, ready in pods)
    assert sum(len(s.not_ready_addresses) for s in subsets) == sum(not ready for _, ready in pods)


def some(count: int) -> list[EndpointAddress]:
    return [EndpointAddress(ip=f"10.0.{n // 250}.{n % 250}") for n in range(count)]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=5), st.integers(1, 20))
def test_what_is_too_much_is_cut_in_proportion_ready_ones_last(counts: list[tuple[int, int]], capacity: int) -> None:
    subsets = [EndpointSubset(addresses=some(a), not_ready_addresses=some(b)) for a, b in counts]
    after, cut = truncated(subsets, capacity)
    ready, waiting = (sum(pair[n] for pair in counts) for n in (0, 1))
    kept_ready, kept_waiting = sum(len(s.addresses) for s in after), sum(len(s.not_ready_addresses) for s in after)
    assert cut == (ready + waiting > capacity)
    if not cut:
        assert after == subsets
        return
    assert kept_ready + kept_waiting == capacity
    assert kept_ready == min(ready, capacity)
    assert all(s.addresses or s.not_ready_addresses for s in after)


def written(existing: Endpoints | None = None, trigger: str | None = None, **spec: Any) -> Endpoints | None:
    made = service(**({"cluster_ip": "10.96.0.9"} | spec))
    made.metadata.labels = {"tier": "front", MANAGED_BY: "somebody", HEADLESS: "x"}
    return plan(made, subsets_of(made, [pod()]), existing, trigger)


def test_a_new_object_has_the_labels_of_its_service() -> None:
    made = written(trigger="2026-01-01T00:00:00Z")
    assert made is not None
    assert made.key == "shop/web"
    assert made.metadata.labels == {"tier": "front", MANAGED_BY: "endpoint-controller"}
    assert made.metadata.annotations == {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}
    headless = written(cluster_ip="None")
    assert headless is not None
    assert headless.metadata.labels[HEADLESS] == ""


def test_nothing_is_written_that_is_there() -> None:
    made = written()
    assert made is not None
    assert written(made) is None
    assert written(made, trigger="2026-01-01T00:00:00Z") is None, "the time alone is no change"
    spoils: list[Callable[[Endpoints], object]] = [
        lambda e: e.metadata.labels.pop(MANAGED_BY),
        lambda e: e.metadata.labels.pop("tier"),
        lambda e: e.metadata.labels.update({"more": ""}),
        lambda e: e.subsets.clear(),
        lambda e: e.metadata.annotations.update({OVER_CAPACITY: "truncated"}),
    ]
    for spoil in spoils:
        other = written()
        assert other is not None
        other.metadata.resource_version = "7"
        spoil(other)
        mended = written(other)
        assert mended is not None
        assert mended.metadata.resource_version == "7", "an update knows what it changes"
        assert mended.subsets == made.subsets
        assert mended.metadata.labels == made.metadata.labels
        assert mended.metadata.annotations == {}


def test_annotations_of_others_stay() -> None:
    existing = Endpoints(metadata=ObjectMeta(name="web", namespace="shop", annotations={"x": "y"}))
    made = written(existing)
    assert made is not None
    assert made.metadata.annotations == {"x": "y"}
