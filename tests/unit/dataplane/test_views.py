"""Objects as no API server should send them: what can be read works, the rest is left out and told of once."""

from __future__ import annotations

import logging

import pytest
from tests.unit.dataplane.objects import computed, endpoint, service, slice_

from twinstack.api.core import LoadBalancerIngress, ServicePort
from twinstack.api.discovery import EndpointPort
from twinstack.dataplane.model import NodeView, Protocol, Via
from twinstack.dataplane.tracker import Tracker
from twinstack.dataplane.views import Complaints, read_service, read_slice
from twinstack.ip import Address, IPFamily

V4, V6 = IPFamily
HERE = NodeView("here")


def test_endpoints_that_nobody_can_read_are_left_out() -> None:
    texts = ["10.0.0.1", "fd00::1", "10.0.0.300", "", "web.example", "10.0.0.2"]
    found = read_slice(slice_("web", V4, [endpoint(text) for text in texts]), complaints := Complaints())
    assert found is not None
    assert [str(each.address) for each in found.endpoints] == ["10.0.0.1", "10.0.0.2"]
    assert list(complaints) == ["fd00::1 is no address of IPv4", *(f"not an IP address: {t!r}" for t in texts[2:5])]
    assert str(complaints) == "fd00::1 is no address of IPv4 (and 3 more)"


def test_an_address_of_ipv4_in_ipv6_clothes_is_no_endpoint() -> None:
    found = read_slice(slice_("web", V6, [endpoint("::ffff:10.0.0.1"), endpoint("fd00::1")]), Complaints())
    assert found is not None
    assert [str(each.address) for each in found.endpoints] == ["fd00::1"]


@pytest.mark.parametrize("port", [-1, 65536, 1 << 40])
def test_ports_out_of_range_are_left_out(port: int) -> None:
    ports = [EndpointPort(name="http", port=8080), EndpointPort(name="odd", port=port)]
    found = read_slice(slice_("web", V4, [endpoint("10.0.0.1")], ports=ports), complaints := Complaints())
    assert found is not None
    assert found.ports == (("http", Protocol.TCP, 8080),)
    assert list(complaints) == [f"port 'odd' is out of range: {port}"]
    web = service("web", "10.96.0.1", ports=[ServicePort(name="a", port=port), ServicePort(name="b", port=81)])
    read = read_service(web, complaints := Complaints())
    assert read is not None
    assert [each.name for each in read.ports] == ["b"]
    assert str(complaints) == f"port 'a' is out of range: {port}, node port 0"


def test_unknown_protocols_and_types() -> None:
    ports = [ServicePort(name="a", port=80, protocol="QUIC"), ServicePort(name="b", port=81, node_port=30081)]
    read = read_service(service("web", "10.96.0.1", ports=ports, type="Mesh"), complaints := Complaints())
    assert read is not None
    assert [(each.name, each.node_port) for each in read.ports] == [("b", 0)]
    assert list(complaints) == [
        "type Mesh is unknown, and taken for ClusterIP",
        "port 'a' has the unknown protocol QUIC",
    ]
    read_slice(slice_("web", V4, [], ports=[EndpointPort(name="a", protocol="QUIC", port=1)]), odd := Complaints())
    assert list(odd) == ["port 'a' has the unknown protocol QUIC"]


def test_slices_of_names_and_of_nobody_are_ignored() -> None:
    names = slice_("web", V4, [endpoint("web.example")])
    names.address_type = "FQDN"
    nobody = slice_("", V4, [endpoint("10.0.0.1")])
    assert [read_slice(each, Complaints()) for each in (names, nobody)] == [None, None]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (["10.0.0.0/8", "10.0.0.0/33"], ["10.0.0.0/8"]),
        (["10.0.0.0/33"], ["192.0.2.7/32"]),  # the address itself: nobody else
        (["fd00::/8", "nonsense"], ["192.0.2.7/32"]),
    ],
)
def test_source_ranges_that_nobody_can_read_let_nobody_in(ranges: list[str], expected: list[str]) -> None:
    web = service("web", "10.96.0.1", type="LoadBalancer", load_balancer_source_ranges=ranges)
    web.status.load_balancer.ingress = [LoadBalancerIngress(ip="192.0.2.7"), LoadBalancerIngress(ip="nonsense")]
    found = {f.via: f.sources for f in computed(web, [], V4, HERE).front_ends}
    assert list(map(str, found[Via.LOAD_BALANCER] or ())) == expected


def test_each_complaint_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker([V4, V6], HERE)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            tracker.put_service(service("web", "10.96.0.1", external_ips=["nonsense"]))
            tracker.put_slice(slice_("web", V4, [endpoint("nonsense"), endpoint(f"10.0.0.{number}")]))
        assert [record.message for record in caplog.records] == [
            "Service default/web: not an IP address: 'nonsense'",
            "EndpointSlice default/web-ipv4-a: not an IP address: 'nonsense'",
        ]
        tracker.put_slice(slice_("web", V4, []))  # well again
        tracker.put_slice(slice_("web", V4, [endpoint("nonsense")]))
    assert len(caplog.records) == 3
    (change,) = tracker.take()
    assert change.new.cluster_ip == Address.parse("10.96.0.1")


def test_an_open_family_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    web = service("web", "10.96.0.1", type="LoadBalancer", load_balancer_source_ranges=["10.0.0.0/8"])
    web.status.load_balancer.ingress = [LoadBalancerIngress(ip="192.0.2.7"), LoadBalancerIngress(ip="2001:db8::7")]
    for families in ([V4], [V4, V6]):
        Tracker(families, HERE).put_service(web)
    assert [record.message for record in caplog.records] == [
        "Service default/web: loadBalancerSourceRanges has none of IPv6: it is open there"
    ]
