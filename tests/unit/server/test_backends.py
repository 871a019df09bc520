"""Where the proxy subresources lead."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.ip import Address
from twinstack.server.backends import Backend, ProxyName, node_backend, parse_name, pod_backend, service_backend

V4, V6 = Address.parse("10.244.0.2"), Address.parse("fd00:10:244::2")
NODE = {
    "metadata": {"name": "n1"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    },
}


def pod(*ips: str, ports: tuple[int, ...] = ()) -> dict[str, Any]:
    containers = [{"name": "a"}, {"name": "b", "ports": [{"containerPort": port} for port in ports]}]
    return {"spec": {"containers": containers}, "status": {"podIPs": [{"ip": ip} for ip in ips]}}


def service(**ports: int) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": port, "name": name.strip("_")} for name, port in ports.items()]}}


def endpoint_slice(family: str, *endpoints: tuple[str, bool | None], **ports: int) -> dict[str, Any]:
    return {
        "addressType": family,
        "ports": [{"name": name.strip("_"), "port": port} for name, port in ports.items()],
        "endpoints": [
            {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
            for address, ready in endpoints
        ],
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web", ProxyName("web")),
        ("web:80", ProxyName("web", "80")),
        ("web:http", ProxyName("web", "http")),
        ("web:", ProxyName("web")),
        ("https:web:443", ProxyName("web", "443", True)),
        ("http:web:", ProxyName("web")),
        (":web:80", ProxyName("web", "80")),
    ],
)
def test_names(text: str, name: ProxyName) -> None:
    assert parse_name(text, "service") == name


@pytest.mark.parametrize("text", ["", ":", ":80", "a:b:c:d", "ftp:web:21", "https::443"])
def test_no_names(text: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_name(text, "service")
    assert (caught.value.code, caught.value.message) == (400, f'invalid service request "{text}"')


def test_pods() -> None:
    assert pod_backend(pod(str(V4), str(V6)), ProxyName("p")) == Backend((V4, V6), 80)
    assert pod_backend(pod(str(V6)), ProxyName("p", tls=True)) == Backend((V6,), 443, tls=True)
    assert pod_backend(pod(str(V4), ports=(8080, 9090)), ProxyName("p")).port == 8080
    assert pod_backend(pod(str(V4), ports=(8080,)), ProxyName("p", "90")).port == 90


@pytest.mark.parametrize(
    "ip", ["", "127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255"]
)
def test_addresses_that_nobody_may_reach(ip: str) -> None:
    with pytest.raises(StatusError, match="address not allowed") as caught:
        pod_backend(pod(ip), ProxyName("p", "80"))
    assert caught.value.code == 400
    with pytest.raises(StatusError, match="address not allowed"):
        service_backend(service(_=80), [endpoint_slice("IPv4", (ip, True), _=80)], ProxyName("s"), "s", lambda c: c[0])


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(StatusError, match="invalid port") as caught:
        pod_backend(pod(str(V4)), ProxyName("p", port))
    assert caught.value.code == 400


def choices(obj: dict[str, Any], slices: list[dict[str, Any]], name: ProxyName) -> list[tuple[str, int]]:
    """Everything that could be chosen."""
    seen: list[tuple[str, int]] = []

    def choose(candidates: Any) -> tuple[str, int]:
        seen.extend(candidates)
        return seen[0]

    service_backend(obj, slices, name, ":".join((name.name, name.port)), choose)
    return seen


def test_services_of_both_families() -> None:
    slices = [
        endpoint_slice("IPv4", (str(V4), True), ("10.244.0.3", False), ("10.244.0.4", None), http=8080, admin=9090),
        endpoint_slice("IPv6", (str(V6), True), http=8081),
        endpoint_slice("FQDN", ("example.com", True), http=1),
    ]
    both = service(http=80, admin=90)
    expected = [(str(V4), 8080), ("10.244.0.4", 8080), (str(V6), 8081)]
    assert choices(both, slices, ProxyName("s", "http")) == expected
    assert choices(both, slices, ProxyName("s", "80")) == expected
    assert choices(both, slices, ProxyName("s", "90")) == [(str(V4), 9090), ("10.244.0.4", 9090)]
    only_v6 = service_backend(service(_=80), [endpoint_slice("IPv6", (str(V6), True), _=7)], ProxyName("s"), "s", min)
    assert only_v6 == Backend((V6,), 7)


@pytest.mark.parametrize(
    ("slices", "name", "words"),
    [
        ([], ProxyName("s"), 'no endpoints available for service "s"'),
        ([endpoint_slice("IPv4", (str(V4), False), http=1)], ProxyName("s", "http"), "no endpoints available"),
        ([endpoint_slice("IPv4", (str(V4), True), http=1)], ProxyName("s"), "no endpoints available"),
        (
            [endpoint_slice("IPv4", (str(V4), True), http=1)],
            ProxyName("s", "81"),
            'no service port 81 found for service "s"',
        ),
    ],
)
def test_services_without_a_backend(slices: list[dict[str, Any]], name: ProxyName, words: str) -> None:
    with pytest.raises(StatusError) as caught:
        choices(service(http=80), slices, name)
    assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
    assert words in caught.value.message


def test_nodes() -> None:
    address = (Address.parse("172.30.0.11"),)
    for port in ("", "10250"):
        assert node_backend(NODE, ProxyName("n1", port)) == Backend(address, 10250, tls=True, kubelet=True)
    assert node_backend(NODE, ProxyName("n1", "9100")) == Backend(address, 9100)
    assert node_backend(NODE, ProxyName("n1", "9100", True)) == Backend(address, 9100, tls=True)
