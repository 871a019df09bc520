"""`pods|services|nodes/proxy` in front of real servers in a network namespace: methods, bodies, streams, upgrades."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from twinstack.api.resources import Resource
from twinstack.ip import Address
from twinstack.linux import addresses, links, namespaces, netlink
from twinstack.server import listeners
from twinstack.server.authentication import certificate_user
from twinstack.server.egress import Egress
from twinstack.server.http import HTTPServer
from twinstack.server.kubelet import KubeletClient, kubelet_context
from twinstack.server.messages import Answer, Request
from twinstack.server.proxies import Proxies
from twinstack.server.routing import parse

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

V4, V6 = Address.parse("10.244.0.2"), Address.parse("fd00:10:244::2")
PORT = 8080
PODS = "/api/v1/namespaces/ns/pods"


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A namespace whose loopback has a pod's addresses."""
    path = namespaces.RUN_DIRECTORY / f"tt-I-{os.getpid()}-proxies"

    def setup() -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        route.request([links.link_up(1), *(links.add_address(1, each, each.family.bits) for each in (V4, V6))])
        addresses.settle(route, (V4, V6))
        route.close()

    namespaces.create(path, setup)
    try:
        yield path
    finally:
        namespaces.remove(path)


class Objects:
    """A reader of one pod with both addresses, and a Service with an endpoint of each."""

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        if name not in ("web", "six"):
            return None
        if resource.plural == "services":
            return {"spec": {"ports": [{"port": 80}]}}
        if resource.plural == "nodes":
            return {"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": str(V4)}]}}
        ports = [{"containerPort": PORT if name == "web" else PORT + 1}]
        return {
            "spec": {"containers": [{"name": "c", "ports": ports}]},
            "status": {"podIPs": [{"ip": str(V4)}, {"ip": str(V6)}]},
        }

    def exists(self, key: str) -> bool:
        return False

    def list(self, resource: Resource, namespace: str = "") -> Iterable[dict[str, Any]]:
        return [
            {
                "metadata": {"labels": {"kubernetes.io/service-name": service}},
                "addressType": address.family.value,
                "ports": [{"port": PORT}],
                "endpoints": [{"addresses": [str(address)]}],
            }
            for service, address in (("web", V4), ("web", V6), ("other", Address.parse("10.244.9.9")))
        ]


async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers as its path says; one request a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, target, _ = head.split(" ", 2)
    length = next((int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
    body = await reader.readexactly(length)
    path = target.partition("?")[0]
    say = writer.write
    if path == "/big":
        say(b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            say(b"10000\r\n" + b"z" * 65536 + b"\r\n")
            await writer.drain()
        say(b"0\r\n\r\n")
    elif path == "/until-the-end":
        say(b"HTTP/1.0 200 OK\r\n\r\n" + b"all")
    elif path == "/broken":
        say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfew")
    elif path == "/short":
        say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfew")
    elif path == "/nonsense":
        say(b"nonsense\r\n\r\n")
    elif path == "/interim":
        say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX-Kind: none\r\n\r\n")
    elif path == "/moved":
        say(b"HTTP/1.1 302 Found\r\nLocation: /there?a=b\r\nContent-Length: 0\r\n\r\n")
    elif path == "/echo-upgrade":
        say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Said: yes\r\n\r\nfirst;")
        while data := await reader.read(65536):
            say(data.upper())
            await writer.drain()
    else:
        text = f"{method} {target}\n{head.partition(chr(10))[2].strip()}\n\n".encode() + body
        empty = method == "HEAD"
        say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Tag: 1\r\nContent-Length: %d\r\n\r\n" % len(text))
        say(b"" if empty else text)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


class Site:
    """The front: what a client of the API server sees."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(
        self, method: str, path: str, headers: str = "", body: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: front\r\n{length}{headers}\r\n".encode() + body)
        return reader, writer

    async def ask(self, method: str, path: str, headers: str = "", body: bytes = b"") -> tuple[int, str, bytes]:
        reader, writer = await self.open(method, path, f"Connection: close\r\n{headers}", body)
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), head.decode(), rest


@asynccontextmanager
async def site(namespace: Path) -> AsyncIterator[Site]:
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(backend(reader, writer)))

    servers = [
        await asyncio.start_server(accept, sock=listener)
        for listener in (
            *listeners.namespace_listeners(str(namespace), [V4, V6], PORT),
            *listeners.namespace_listeners(str(namespace), [V6], PORT + 1),
        )
    ]
    egress = Egress(str(namespace))
    proxies = Proxies(Objects(), KubeletClient(egress, partial(kubelet_context, "", "", "")), egress)

    async def handler(request: Request) -> Answer:
        route = parse(request.path)
        assert route is not None
        return await proxies.handle(request, route)

    front = HTTPServer(handler, identify=certificate_user)
    listener = socket.create_server(("127.0.0.1", 0))
    await front.start([listener], None)
    try:
        yield Site(listener.getsockname()[1])
    finally:
        await front.stop(0.2)
        await asyncio.wait_for(asyncio.gather(*serving, return_exceptions=True), 60)
        for server in servers:
            server.close()


def with_site(namespace: Path, work: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(100), site(namespace) as front:
            await work(front)

    uvloop.run(main())


def test_a_request_passes_whole_but_for_credentials(namespace: Path) -> None:
    async def work(front: Site) -> None:
        secrets = "Authorization: Bearer secret\r\nX-Own: 1\r\nKeep-Alive: 3\r\n"
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            body = b"{}" if method not in ("GET", "OPTIONS") else b""
            status, head, text = await front.ask(method, f"{PODS}/web/proxy/a%2Fb/?q=1&q=%20&r", secrets, body)
            assert status == 200
            assert text.startswith(f"{method} /a%2Fb/?q=1&q=%20&r\n".encode())
            assert text.endswith(b"\n\n" + body)
            assert b"Host: 10.244.0.2:8080\r\n" in text
            assert b"x-own: 1\r\n" in text
            for absent in (b"secret", b"keep-alive"):
                assert absent not in text
            assert f"X-Forwarded-Uri: {PODS}/web/proxy/a%2Fb/".encode() in text
            assert "X-Tag: 1" in head

    with_site(namespace, work)


def test_a_head_says_how_long_the_body_would_be(namespace: Path) -> None:
    async def work(front: Site) -> None:
        whole = await front.ask("GET", f"{PODS}/web/proxy/x")
        status, head, body = await front.ask("HEAD", f"{PODS}/web/proxy/x")
        assert (status, body) == (200, b"")
        length = next(line for line in head.split("\r\n") if line.startswith("Content-Length: "))
        assert abs(int(length[16:]) - len(whole[2])) <= 1  # HEAD is one letter longer than GET
        assert (await front.ask("GET", f"{PODS}/web/proxy/interim"))[0] == 204

    with_site(namespace, work)


def test_bodies_of_every_framing(namespace: Path) -> None:
    async def work(front: Site) -> None:
        status, head, body = await front.ask("GET", f"{PODS}/web/proxy/big")
        assert status == 200
        assert "Content-Type: x/y" in head
        assert body.count(b"z") == 100 * 65536
        assert body.endswith(b"0\r\n\r\n")
        status, _, body = await front.ask("GET", f"{PODS}/web/proxy/until-the-end")
        assert (status, body) == (200, b"3\r\nall\r\n0\r\n\r\n")

    with_site(namespace, work)


def test_what_breaks_off_is_seen_to(namespace: Path) -> None:
    async def work(front: Site) -> None:
        status, _, body = await front.ask("GET", f"{PODS}/web/proxy/broken")
        assert (status, body) == (200, b"3\r\nfew\r\n")  # no last chunk
        for path, words in (("short", "unexpected EOF"), ("nonsense", "malformed HTTP response")):
            status, _, body = await front.ask("GET", f"{PODS}/web/proxy/{path}")
            assert (status, b"error trying to reach service: " in body, words.encode() in body) == (503, True, True)

    with_site(namespace, work)


def test_redirects(namespace: Path) -> None:
    async def work(front: Site) -> None:
        for method, status in (("GET", 301), ("HEAD", 301), ("POST", 200)):
            answered, head, _ = await front.ask(method, f"{PODS}/web/proxy?a=b")
            assert answered == status
            assert (f"Location: {PODS}/web/proxy/?a=b\r\n" in head) is (status == 301)
        _, head, _ = await front.ask("GET", f"{PODS}/web:{PORT}/proxy/moved")
        assert f"Location: {PODS}/web:{PORT}/proxy/there?a=b\r\n" in head

    with_site(namespace, work)


def test_both_families(namespace: Path) -> None:
    """A Service's endpoints in either; a pod that listens in one alone."""

    async def work(front: Site) -> None:
        hosts = set()
        for _ in range(40):
            status, head, body = await front.ask("GET", "/api/v1/namespaces/ns/services/web/proxy/")
            assert status == 200, head + body.decode()
            hosts.add(next(line for line in body.split(b"\r\n") if b"Host: " in line).split(b"Host: ")[1])
        assert hosts == {b"10.244.0.2:8080", b"[fd00:10:244::2]:8080"}
        _, _, body = await front.ask("GET", f"{PODS}/six/proxy/")
        assert b"Host: [fd00:10:244::2]:8081" in body
        status, _, body = await front.ask("GET", f"{PODS}/six:9/proxy/")
        assert status == 503
        assert b"error trying to reach service: dial tcp 10.244.0.2:9: connect: connection refused" in body
        status, _, body = await front.ask("GET", "/api/v1/namespaces/ns/services/six/proxy/")
        assert (status, b'no endpoints available for service \\"six\\"' in body) == (503, True)
        assert (await front.ask("GET", "/api/v1/nodes/web:8080/proxy/metrics"))[2].startswith(b"GET /metrics\n")
        assert (await front.ask("GET", "/api/v1/nodes/gone/proxy/metrics"))[0] == 404

    with_site(namespace, work)


def test_an_upgrade_passes_both_ways(namespace: Path) -> None:
    async def work(front: Site) -> None:
        path = f"{PODS}/web/proxy/echo-upgrade"
        reader, writer = await front.open("GET", path, "Connection: Upgrade\r\nUpgrade: echo\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 ")
        assert "Upgrade: echo\r\n" in head
        assert "X-Said: yes\r\n" in head
        assert await reader.readexactly(6) == b"first;"
        data = b"abcdefgh" * 250_000

        async def send() -> None:
            writer.write(data)
            await writer.drain()

        sending = asyncio.ensure_future(send())
        assert await reader.readexactly(len(data)) == data.upper()
        await sending
        writer.close()
        await writer.wait_closed()

    with_site(namespace, work)
