"""Health, the pages that show it, metrics, durations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import uvloop

from twinstack.api.core import Node, NodeAddress, NodeSpec, NodeStatus, Taint
from twinstack.api.meta import ObjectMeta
from twinstack.api.times import parse_duration
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.configuration import Configuration, LocalMode, node_addresses
from twinstack.proxy.health import Health, eligible
from twinstack.proxy.metrics import Counter, Gauge, Histogram, ProxyMetrics
from twinstack.proxy.node_addresses import selected
from twinstack.proxy.web import Page, Pages, parse_endpoint, plain, serve

V4, V6 = IPFamily
T = TypeVar("T")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_family_is_unhealthy_when_changes_wait_for_two_sync_periods() -> None:
    clock = Clock()
    metrics = ProxyMetrics()
    health = Health([V4, V6], sync_period=30, metrics=metrics, clock=clock)
    health.node_eligible = True
    assert health.healthz().code == health.livez().code == 200
    health.queued(V4)
    clock.now += 60
    assert health.healthz().code == 200
    health.queued(V4)  # a later change does not start the wait anew
    clock.now += 1
    page = health.healthz()
    assert page.code == health.livez().code == 503
    body = json.loads(page.body)
    assert body["status"]["IPv4"] == {"lastUpdated": "1970-01-12T13:46:40.000000Z", "healthy": False}
    assert body["status"]["IPv6"]["healthy"] is True
    assert (body["healthy"], body["nodeEligible"]) == (False, True)
    assert body["currentTime"] == "1970-01-12T13:47:41.000000Z"
    health.synced(V4)
    assert health.livez().code == 200
    assert metrics.healthz.value("503") == metrics.livez.value("503") == 1


def test_a_node_that_leaves_fails_healthz_only() -> None:
    health = Health([V4], sync_period=30, metrics=ProxyMetrics())
    page = health.healthz()
    assert page.code == 503
    assert json.loads(page.body)["healthy"] is True
    assert health.livez().code == 200
    assert "nodeEligible" not in json.loads(health.livez().body)


def test_eligible_nodes() -> None:
    assert not eligible(None)
    assert eligible(Node())
    assert not eligible(Node(metadata=ObjectMeta(deletion_timestamp="2026-01-01T00:00:00Z")))
    assert not eligible(Node(spec=NodeSpec(taints=[Taint(key="ToBeDeletedByClusterAutoscaler")])))
    assert eligible(Node(spec=NodeSpec(taints=[Taint(key="other")])))


def test_metrics_in_the_text_format() -> None:
    counter, gauge = Counter("hits_total", "Hits", ("code",)), Gauge("level", "Level")
    histogram = Histogram("wait_seconds", "Wait", [0.5, 1, 2], ("family",))
    counter.add(1, "200")
    counter.add(2, "200")
    gauge.set(1.5)
    for value in (0.5, 0.75, 9):
        histogram.observe(value, "IPv6")
    assert counter.text() == '# HELP hits_total Hits\n# TYPE hits_total counter\nhits_total{code="200"} 3\n'
    assert gauge.text().endswith("level 1.5\n")
    assert histogram.text().splitlines()[2:] == [
        'wait_seconds_bucket{family="IPv6",le="0.5"} 1',
        'wait_seconds_bucket{family="IPv6",le="1"} 2',
        'wait_seconds_bucket{family="IPv6",le="2"} 2',
        'wait_seconds_bucket{family="IPv6",le="+Inf"} 3',
        'wait_seconds_sum{family="IPv6"} 10.25',
        'wait_seconds_count{family="IPv6"} 3',
    ]
    names = {line.split()[2] for line in ProxyMetrics().text().splitlines() if line.startswith("# TYPE")}
    assert "kubeproxy_sync_proxy_rules_duration_seconds" in names
    assert "kubeproxy_network_programming_duration_seconds" in names
    assert "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0" in ProxyMetrics().text()


def run_with(pages: Pages, work: Callable[[int], Awaitable[T]], endpoint: str = "127.0.0.1:0") -> T:
    async def main() -> T:
        server = await serve(endpoint, pages)
        async with server:
            return await work(server.sockets[0].getsockname()[1])

    return uvloop.run(main())


async def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /healthz?verbose HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"fine"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b""),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"405 Method Not Allowed", b"method not allowed\n"),
        (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", b"404 Not Found", b"not found\n"),
        (b"nonsense\r\n\r\n", b"400 Bad Request", b"bad request\n"),
        (b"x" * 20000, b"", b""),
    ],
)
def test_pages_over_http(request_: bytes, status: bytes, body: bytes) -> None:
    async def ask(port: int) -> tuple[bytes, bytes]:
        try:
            return await exchange(port, request_)
        except ConnectionResetError:
            return b"", b""

    head, shown = run_with({"/healthz": lambda: plain("fine")}, ask)
    assert status in head.split(b"\r\n")[0]
    assert shown == body
    if status:
        assert b"X-Content-Type-Options: nosniff" in head


def test_the_ipv6_wildcard_takes_both_families() -> None:
    async def ask(port: int) -> list[bytes]:
        request = b"GET / HTTP/1.1\r\n\r\n"
        return [(await exchange(port, request, host))[1] for host in ("127.0.0.1", "::1")]

    assert run_with({"/": lambda: Page(200, "text/plain", b"x")}, ask, "[::]:0") == [b"x", b"x"]


def test_endpoints_to_listen_on() -> None:
    assert parse_endpoint("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_endpoint("[::1]:80") == ("::1", 80)
    for text in ("127.0.0.1", "host:80", "127.0.0.1:99999", ":80"):
        with pytest.raises(ValueError, match=r"not a"):
            parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30s", 30), ("1m30s", 90), ("20ms", 0.02), ("1.5h", 5400), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1d", "-1s", "1s "])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_the_nodes_own_addresses() -> None:
    addresses = [
        NodeAddress(type="Hostname", address="node"),
        NodeAddress(type="ExternalIP", address="192.0.2.1"),
        NodeAddress(type="ExternalIP", address="2001:db8::1"),
        NodeAddress(type="InternalIP", address="10.0.0.1"),
        NodeAddress(type="InternalIP", address="10.0.0.2"),
    ]
    node = Node(status=NodeStatus(addresses=addresses))
    assert list(map(str, node_addresses(node))) == ["10.0.0.1", "2001:db8::1"]
    assert node_addresses(None) == []


def test_addresses_for_node_ports() -> None:
    here = [Address.parse(t) for t in ("127.0.0.1", "10.0.0.1", "192.0.2.1", "::1", "fe80::1", "fd00::1")]
    everywhere = (CIDR.parse("0.0.0.0/0"), CIDR.parse("::/0"))
    assert set(map(str, selected(here, everywhere, V4))) == {"10.0.0.1", "192.0.2.1"}
    assert set(map(str, selected(here, everywhere, V6))) == {"fd00::1"}
    only = (CIDR.parse("10.0.0.0/8"),)
    assert set(map(str, selected(here, only, V4))) == {"10.0.0.1"}
    assert set(map(str, selected(here, only, V6))) == {"fd00::1"}  # no block of the family: all of it


def test_local_pods() -> None:
    node = Node(spec=NodeSpec(pod_cidr="10.244.1.0/24", pod_cidrs=["10.244.1.0/24", "fd00:1::/64"]))
    by_node = Configuration("n")
    assert by_node.local_pods(V6, node) == frozenset([CIDR.parse("fd00:1::/64")])
    assert by_node.local_pods(V4, None) is None
    assert by_node.local_pods(V4, Node(spec=NodeSpec(pod_cidr="10.1.0.0/24"))) == frozenset([CIDR.parse("10.1.0.0/24")])
    cluster = (CIDR.parse("10.244.0.0/16"),)
    by_cluster = Configuration("n", local_mode=LocalMode.CLUSTER_CIDR, cluster_cidrs=cluster)
    assert by_cluster.local_pods(V4, None) == frozenset(cluster)
    assert by_cluster.local_pods(V6, node) is None
