"""The kubelet API over real TLS: who gets in, whole answers and streams."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client
from twinstack.ip import Address
from twinstack.linux import ociruntimes
from twinstack.node import http
from twinstack.node.agent import Agent, Settings
from twinstack.node.authorization import Gate
from twinstack.node.http import Answer, Request
from twinstack.node.images.access import Access
from twinstack.node.images.pod import Images
from twinstack.node.images.pull import Puller
from twinstack.node.images.store import ImageStore
from twinstack.node.logs import LogOptions
from twinstack.node.runtime.oci import OCIRuntime
from twinstack.node.server import KubeletServer, stream_log
from twinstack.pki.ca import CertificateAuthority

CHOICE = ociruntimes.choose()
LINE = "2026-01-31T12:00:00.000000000Z stdout F {}\n"


class Pki(NamedTuple):
    directory: Path

    def server(self) -> ssl.SSLContext:
        return http.tls_context(*(str(self.directory / name) for name in ("node.crt", "node.key", "ca.crt")))

    def client(self, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        if name:
            context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    directory = tmp_path_factory.mktemp("pki")
    authority = CertificateAuthority.create("test")
    (directory / "ca.crt").write_bytes(authority.certificate_pem)
    pairs = {
        "node": authority.issue("node", [], ["node"], [Address.parse("127.0.0.1")], server=True),
        "apiserver": authority.issue("kube-apiserver-kubelet-client", [], client=True),
        "admin": authority.issue("somebody", ["system:masters"], client=True),
        "stranger": authority.issue("stranger", ["system:nodes"], client=True),
    }
    for name, (certificate, key) in pairs.items():
        (directory / f"{name}.crt").write_bytes(certificate)
        (directory / f"{name}.key").write_bytes(key)
    return Pki(directory)


async def with_server(handler: http.Handler, pki: Pki, work: Callable[[int], Awaitable[None]]) -> None:
    server = await http.serve(handler, 0, pki.server())
    try:
        await work(next(s.getsockname()[1] for s in server.sockets if s.family == socket.AF_INET))
    finally:
        server.close()
        await server.wait_closed()


async def connect(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def get(port: int, context: ssl.SSLContext, target: str, token: str = "") -> tuple[int, bytes]:
    reader, writer = await connect(port, context)
    try:
        extra = f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n{extra}Connection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        if not head:
            raise ConnectionError("the server closed without an answer")
        return int(head.split(b" ")[1]), body
    finally:
        writer.close()
        await writer.wait_closed()


def make_agent(directory: Path) -> Agent:
    settings = Settings("n1", [Address.parse("192.0.2.1")], 10250, directory, "tt-F-none", [])
    store = ImageStore(directory / "images")
    client = Client(ClusterAccess(server="https://127.0.0.1:1"), user_agent="test")
    runtime = OCIRuntime(directory, CHOICE, store, group=f"tt-F-{os.getpid()}")
    return Agent(client, settings, runtime, Images(store, Puller(store, Access())))


class Reviews:
    """What an API server says: the administrators' group may anything, those of a token what it names."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.broken = False

    async def __call__(self, plural: str, spec: dict[str, Any]) -> dict[str, Any]:
        if self.broken:
            raise ConnectionRefusedError("no server")
        if plural == "tokenreviews":
            self.seen.append((plural, spec["token"]))
            known = spec["token"].startswith("of-")
            return {"authenticated": known, "user": {"username": spec["token"][3:], "groups": ["system:authenticated"]}}
        about = spec["resourceAttributes"]
        assert (about["resource"], about["version"], about["name"]) == ("nodes", "v1", "n1")
        self.seen.append((spec["user"], f"{about['verb']} {about['subresource']}"))
        admin = spec["user"] == "kube-apiserver-kubelet-client" or "system:masters" in spec["groups"]
        return {"allowed": admin or about["subresource"] == spec["user"]}


def make_gate(reviews: Reviews | None = None, clock: Callable[[], float] = time.monotonic) -> Gate:
    return Gate(reviews or Reviews(), "n1", clock)


def test_who_gets_in(pki: Pki, tmp_path: Path) -> None:
    reviews, now = Reviews(), [0.0]

    async def work(port: int) -> None:
        assert await get(port, pki.client(""), "/healthz") == (401, b"Unauthorized")
        for token, target, code in (
            ("of-healthz", "/healthz", 200),
            ("of-pods", "/pods", 200),
            ("of-pods", "/healthz", 403),
            ("of-metrics", "/metrics", 200),
            ("of-proxy", "/pods", 200),
            ("of-proxy", "/metrics", 403),
            ("nobody", "/healthz", 401),
        ):
            assert (await get(port, pki.client(""), target, token))[0] == code, (token, target)
        for name, target, text in (
            ("stranger", "/pods", b"Forbidden (user=stranger, verb=get, resource=nodes, subresource(s)=[pods proxy])"),
            (
                "stranger",
                "/metrics/x",
                b"Forbidden (user=stranger, verb=get, resource=nodes, subresource(s)=[metrics])",
            ),
        ):
            assert await get(port, pki.client(name), target) == (403, text)
        reviews.seen.clear()
        for _ in range(3):
            await get(port, pki.client("stranger"), "/pods")
            await get(port, pki.client("admin"), "/pods")
        assert reviews.seen == [("somebody", "get pods")]
        for seconds, asked in ((31.0, {"stranger"}), (301.0, {"stranger", "somebody"})):
            now[0] += seconds
            reviews.seen.clear()
            await get(port, pki.client("stranger"), "/pods")
            await get(port, pki.client("admin"), "/pods")
            assert {user for user, _ in reviews.seen} == asked
        reviews.broken, text = True, b"Authorization error (user=somebody, verb=get, resource=nodes, subresource(s)="
        assert await get(port, pki.client("admin"), "/exec/x") == (500, text + b"[proxy])")
        assert (await get(port, pki.client(""), "/pods", "of-pods"))[0] == 401
        reviews.broken = False
        for name in ("apiserver", "admin"):
            status, body = await get(port, pki.client(name), "/pods")
            assert (status, body) == (200, b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}')
        answer = await get(port, pki.client("apiserver"), "/containerLogs/default/web/c")
        assert answer == (404, b'pod "web" does not exist')
        assert (await get(port, pki.client("apiserver"), "/containerLogs/default/web/c?tailLines=x"))[0] == 400
        assert (await get(port, pki.client("apiserver"), "/other"))[0] == 404

    async def main() -> None:
        await with_server(KubeletServer(make_agent(tmp_path), make_gate(reviews, lambda: now[0])).handle, pki, work)

    asyncio.run(main())


def test_several_requests_on_one_connection(pki: Pki) -> None:
    async def echo(request: Request) -> Answer:
        return Answer(body="/".join(request.path).encode())

    async def work(port: int) -> None:
        reader, writer = await connect(port, pki.client("admin"))
        writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b%20c HTTP/1.1\r\nHost: x\r\n\r\nPUT /d HTTP/1.1\r\n\r\n")
        for expected in (b"a", b"b c"):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(len(expected)) == expected
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        writer.close()
        await writer.wait_closed()

    asyncio.run(with_server(echo, pki, work))


def test_a_followed_log_ends_with_its_container_or_its_reader(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinstack.node.server.LOOK_EVERY", 600.0)  # lines are told by the kernel, not found by looking
    log = tmp_path / "0.log"
    log.write_text(LINE.format("one"))
    ended = [False]
    open_streams = [0]

    async def handler(request: Request) -> Answer:
        async def counted() -> AsyncGenerator[bytes, None]:
            open_streams[0] += 1
            try:
                async for part in stream_log(log, LogOptions(follow=True), lambda: ended[0], request.gone):
                    yield part
            finally:
                open_streams[0] -= 1

        return Answer(stream=counted())

    async def chunk(reader: asyncio.StreamReader) -> bytes:
        size = int((await reader.readline()).strip(), 16)
        data = await reader.readexactly(size)
        await reader.readexactly(2)
        return data

    async def begin(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await connect(port, pki.client("apiserver"))
        writer.write(b"GET /log HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    async def work(port: int) -> None:
        reader, writer = await begin(port)
        assert await chunk(reader) == b"one\n"
        with log.open("a") as file:
            file.write(LINE.format("two"))
        assert await chunk(reader) == b"two\n"
        _, other = await begin(port)
        assert open_streams == [2]
        other.close()
        await other.wait_closed()
        async with asyncio.timeout(60):
            while open_streams[0] == 2:
                await asyncio.sleep(0.01)
        with log.open("a") as file:
            ended[0] = True
            file.write(LINE.format("three"))
        assert await chunk(reader) == b"three\n"
        assert await chunk(reader) == b""
        writer.close()
        await writer.wait_closed()

    asyncio.run(with_server(handler, pki, work))
    assert open_streams == [0]
