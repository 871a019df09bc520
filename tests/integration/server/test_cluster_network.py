"""The server's two sides in a cluster's namespace: listening there, and fetching logs from a kubelet there."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from twinstack.api.resources import Resource
from twinstack.ip import Address
from twinstack.linux import addresses, links, namespaces, netlink
from twinstack.pki.ca import CertificateAuthority
from twinstack.server import listeners
from twinstack.server.authentication import certificate_user
from twinstack.server.egress import Egress, Unreachable
from twinstack.server.http import HTTPServer
from twinstack.server.kubelet import KubeletClient, kubelet_context
from twinstack.server.messages import Answer, Request, Response, StreamResponse, StreamWriter
from twinstack.server.podlogs import PodLogs
from twinstack.server.routing import parse
from twinstack.server.tls import server_context

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NODE = [Address.parse("172.30.0.11"), Address.parse("fd00:30::11")]
ABSENT = Address.parse("172.30.0.99")
PORT = 10250


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A namespace whose loopback has the node's addresses, and a route for nobody's."""
    path = namespaces.RUN_DIRECTORY / f"tt-a-{os.getpid()}"

    def setup() -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        lengths = [(address, address.family.bits) for address in NODE]
        route.request([links.link_up(1), *(links.add_address(1, address, length) for address, length in lengths)])
        addresses.settle(route, NODE)
        route.close()

    namespaces.create(path, setup)
    try:
        yield path
    finally:
        namespaces.remove(path)


class Files:
    """A cluster's authority and the certificates of a kubelet and of the API server as its client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority = CertificateAuthority.create("cluster")
        self.authority = self._write("ca.pem", authority.certificate_pem)
        self.kubelet = self._pair("kubelet", authority.issue("system:node:n1", addresses=NODE, server=True))
        self.client = self._pair("client", authority.issue("kube-apiserver-kubelet-client", client=True))

    def _write(self, name: str, data: bytes) -> str:
        path = self.directory / name
        path.write_bytes(data)
        return str(path)

    def _pair(self, name: str, pair: tuple[bytes, bytes]) -> tuple[str, str]:
        return self._write(f"{name}-cert.pem", pair[0]), self._write(f"{name}-key.pem", pair[1])


class Objects:
    """A reader of pods that run on nodes with one address each; `kubelet` of the last is on a closed port."""

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        if resource.plural == "pods":
            node = {"waiting": "", "orphan": "gone"}.get(name, name)
            containers = [{"name": "web"}] + ([{"name": "side"}] if name == "v4" else [])
            return (
                None
                if name == "absent"
                else {
                    "metadata": {"name": name},
                    "spec": {"nodeName": node, "containers": containers},
                }
            )
        address = {"v4": NODE[0], "v6": NODE[1], "closed": NODE[0], "unreachable": ABSENT}.get(name)
        if address is None:
            return None
        port = 10251 if name == "closed" else PORT
        return {
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": str(address)}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        }

    def exists(self, key: str) -> bool:
        return False

    def list(self, resource: Resource, namespace: str = "") -> Iterable[dict[str, Any]]:
        return []


async def kubelet(request: Request) -> Answer:
    """A kubelet that logs what it was asked."""
    if request.user.name != "kube-apiserver-kubelet-client":
        return Response(status=401, body=b"Unauthorized", content_type="text/plain")
    if "tailLines" in request.query:
        text = b'container "web" in pod "v4" is waiting to start: ContainerCreating\n'
        return Response(status=400, body=text, content_type="text/plain")

    async def produce(writer: StreamWriter) -> None:
        writer.write(f"{request.path} {sorted(request.query)}\n".encode())
        if "follow" in request.query:
            await writer.closed()
        else:
            for _ in range(100):
                writer.write(b"x" * 99_999 + b"\n")
                await writer.drain()

    return StreamResponse(status=200, produce=produce, content_type="text/plain")


class Cluster:
    """A kubelet in the namespace, an API server's `pods/log` in front of it, and a client of both."""

    def __init__(self, namespace: Path, files: Files, port: int) -> None:
        self.namespace, self.files, self.port = namespace, files, port

    async def get(self, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            f"GET /api/v1/namespaces/ns/pods/{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        return reader, writer, int(head.split()[1])

    async def text(self, target: str) -> tuple[int, str]:
        reader, writer, status = await self.get(target)
        body = await reader.read()
        writer.close()
        return status, body.decode()


@asynccontextmanager
async def cluster(namespace: Path, files: Files) -> AsyncIterator[Cluster]:
    node = HTTPServer(kubelet, identify=certificate_user)
    node_sockets = listeners.namespace_listeners(str(namespace), NODE, PORT)
    await node.start(node_sockets, server_context(*files.kubelet, files.authority))
    context = partial(kubelet_context, *files.client, files.authority)
    logs = PodLogs(Objects(), KubeletClient(Egress(str(namespace)), context))

    async def handler(request: Request) -> Answer:
        route = parse(request.path)
        assert route is not None
        return await logs.handle(request, route)

    front = HTTPServer(handler, identify=certificate_user)
    listener = socket.create_server(("127.0.0.1", 0))
    await front.start([listener], None)
    try:
        yield Cluster(namespace, files, listener.getsockname()[1])
    finally:
        await front.stop(0.2)
        await node.stop(0.2)


def test_logs_come_from_the_kubelet_over_both_families(namespace: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(namespace, Files(tmp_path)) as site:
            for pod, query in (("v4", "container=side"), ("v6", "")):
                status, text = await site.text(f"{pod}/log?{query}")
                assert status == 200
                container = "side" if pod == "v4" else "web"
                assert f"/containerLogs/ns/{pod}/{container} []\n" in text
                assert text.count("x") > 9_999_000  # chunk sizes hold none

    uvloop.run(test())


def test_a_followed_log_flows_and_ends_with_its_reader(namespace: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(namespace, Files(tmp_path)) as site:
            reader, writer, status = await site.get("v6/log?follow=true")
            assert status == 200
            assert b"['follow']" in await asyncio.wait_for(reader.readuntil(b"]"), 60)
            writer.transport.abort()

    uvloop.run(test())


def test_refusals_say_why(namespace: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(namespace, Files(tmp_path)) as site:
            for target, status, words in (
                ("absent/log", 404, 'pods \\"absent\\" not found'),
                ("orphan/log", 404, 'nodes \\"gone\\" not found'),
                ("waiting/log", 204, ""),
                ("v4/log", 400, "choose one of: [web side]"),
                ("v4/log?container=web&tailLines=1", 400, "is waiting to start: ContainerCreating"),
                ("closed/log", 500, "dial tcp 172.30.0.11:10251: connect: connection refused"),
                ("unreachable/log", 500, "dial tcp 172.30.0.99:10250: connect: network is unreachable"),
            ):
                answered, text = await site.text(target)
                assert (answered, words in text) == (status, True), text

    uvloop.run(test())


def test_a_stranger_is_no_kubelet(namespace: Path, tmp_path: Path) -> None:
    """The node's certificate is checked against the authority and the address."""

    async def test() -> None:
        files = Files(tmp_path)
        stranger = CertificateAuthority.create("stranger")
        other = tmp_path / "other.pem"
        other.write_bytes(stranger.certificate_pem)
        async with cluster(namespace, files):
            for authority, fails in ((files.authority, False), (str(other), True)):
                client = KubeletClient(Egress(str(namespace)), partial(kubelet_context, *files.client, authority))
                if fails:
                    with pytest.raises(Unreachable, match="certificate verify failed"):
                        await client.get(NODE[0], PORT, "/containerLogs/ns/p/c")
                else:
                    status, answer = await client.get(NODE[0], PORT, "/containerLogs/ns/p/c")
                    assert status == 200
                    answer.close()

    uvloop.run(test())


def test_sockets_stay_in_their_namespace(namespace: Path) -> None:
    inside = listeners.namespace_listeners(str(namespace), [*NODE, Address.parse("fd00:30::77")], 16443)
    outside = listeners.own_listeners(Address.parse("127.0.0.1"), 0)
    try:
        assert [str(each.getsockname()[0]) for each in inside] == ["172.30.0.11", "fd00:30::11", "fd00:30::77"]
        for each in [*inside, *outside]:
            each.listen()
        tables = (Path("/proc/self/net") / name for name in ("tcp", "tcp6"))
        own = {int(line.split()[9]) for table in tables for line in table.read_text().splitlines()[1:]}
        assert [os.fstat(each.fileno()).st_ino in own for each in [*inside, *outside]] == [False, False, False, True]
        namespaces.inside(namespace, lambda: socket.create_connection(("fd00:30::11", 16443), timeout=60)).close()
        with pytest.raises(OSError, match=r"listen on 172\.30\.0\.11:16443: Address already in use"):
            listeners.namespace_listeners(str(namespace), NODE, 16443)
    finally:
        for each in [*inside, *outside]:
            each.close()


def test_every_address_means_both_families() -> None:
    [listener] = listeners.own_listeners(None, 0)
    with listener:
        listener.listen()
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=60).close()


def test_a_bad_certificate_file_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(OSError, match=r"bad\.pem"):
        server_context(str(bad), str(bad), "")
    files = Files(tmp_path)
    with pytest.raises(OSError, match=r"client CA .*bad\.pem"):
        server_context(*files.kubelet, str(bad))
    assert server_context(*files.kubelet, "").verify_mode is ssl.CERT_NONE
