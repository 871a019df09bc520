"""What a probe does once, against real sockets of both families."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from twinstack.api.core import Container, ContainerPort
from twinstack.ip import Address
from twinstack.node.probes import grpc_health, http_get
from twinstack.node.probes.actions import USER_AGENT, Result, Subject, perform, port_number
from twinstack.node.probes.state import ProbeSpec
from twinstack.node.runtime.base import ContainerKey, Session, StartError
from twinstack.pki.ca import CertificateAuthority

LOOPBACKS = ["127.0.0.1", "::1"]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class NoContainer:
    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Session:
        raise StartError("container c does not run")


def shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if host == "::1" else f"{host}:{port}"


async def probe(handler: dict[str, Any], address: str, *, timeout: int = 30, ports: tuple[int, ...] = ()) -> Result:
    container = Container(name="c", ports=[ContainerPort(name=f"p{n}", container_port=n) for n in ports])
    subject = Subject(ContainerKey("uid", "c", 0), container, address)
    return await perform(ProbeSpec(handler, timeout=timeout), subject, NoContainer())


@asynccontextmanager
async def serving(host: str, serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, host, 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def answering(*parts: bytes, heads: list[str] | None = None) -> Serve:
    """Sends the parts, each by itself, after the request; notes its head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head.decode())
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.005)

    return serve


def ask(serve: Serve, host: str = "127.0.0.1", timeout: int = 30, **action: Any) -> Result:
    async def main() -> Result:
        async with serving(host, serve) as port:
            return await probe({"httpGet": {"port": port, **action}}, host, timeout=timeout)

    return asyncio.run(main())


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_request(host: str) -> None:
    heads: list[str] = []
    assert ask(answering(OK, heads=heads), host, path="/a/b?c=d") == Result(True, "ok")
    first, *lines = heads[0].split("\r\n")[:-2]
    fields = dict(line.split(": ", 1) for line in lines)
    assert first == "GET /a/b?c=d HTTP/1.1"
    port = fields["Host"].rpartition(":")[2]
    assert fields == {
        "Host": shown(host, int(port)),
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Connection": "close",
    }


def test_headers_of_the_probe_take_precedence() -> None:
    heads: list[str] = []
    given = [{"name": "Host", "value": "web"}, {"name": "user-agent", "value": ""}, {"name": "Accept", "value": "x"}]
    given += [{"name": "X-A", "value": "1"}, {"name": "X-A", "value": "2"}]
    assert ask(answering(OK, heads=heads), httpHeaders=given).success
    assert heads[0].split("\r\n")[1:-2] == ["Host: web", "Accept: x", "X-A: 1", "X-A: 2", "Connection: close"]


@pytest.mark.parametrize("status", [200, 204, 299, 304, 399, 400, 404, 500, 503])
def test_statuses(status: int) -> None:
    result = ask(answering(f"HTTP/1.1 {status} X\r\n\r\n".encode()))
    assert result.success is (status < 400)
    assert result.warning is (300 <= status < 400)
    if status >= 400:
        assert result.output == f"HTTP probe failed with statuscode: {status}"


@pytest.mark.parametrize(
    "parts",
    [
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"ok"],
        [b"HTTP/1.0 200 OK\r\n\r\n", b"ok"],
        [b"HT", b"TP/1.1 200\r\ncontent-length:2\r\n\r", b"\nok and more"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", bytes(20000)],
    ],
)
def test_forms_of_answers(parts: list[bytes]) -> None:
    assert ask(answering(*parts)).success


@pytest.mark.parametrize("host", LOOPBACKS)
def test_no_answer(host: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    result = ask(silent, host, 1, path="/x")
    assert result.success is False
    assert result.output.startswith(f'Get "http://{shown(host, 0)[:-1]}')
    assert result.output.endswith('/x": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
    assert ask(hangs_up, host).output.endswith('/": EOF')
    result = ask(answering(b"SSH-2.0-OpenSSH\r\n"), host)
    assert result.output.endswith('connection broken: malformed HTTP response "SSH-2.0-OpenSSH"')
    free = socket.create_server((host, 0), family=socket.AF_INET6 if host == "::1" else socket.AF_INET)
    port = free.getsockname()[1]
    free.close()
    where = shown(host, port)
    refused = asyncio.run(probe({"httpGet": {"port": port, "path": "/"}}, host))
    assert refused == Result(False, f'Get "http://{where}/": dial tcp {where}: connect: connection refused')
    refused = asyncio.run(probe({"tcpSocket": {"port": port}}, host))
    assert refused == Result(False, f"dial tcp {where}: connect: connection refused")


def test_redirects() -> None:
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head.split(" ")[1])
        target = {"/a": "/b", "/b": "c", "/c": None, "/far": "http://example.com/", "/loop": "/loop"}[heads[-1]]
        line = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\n\r\nmoved" if target else OK.decode()
        writer.write(line.encode())

    assert ask(serve, path="/a") == Result(True, "ok")
    assert heads == ["/a", "/b", "/c"]
    assert ask(serve, path="/far") == Result(True, "Probe terminated redirects, Response body: moved", warning=True)
    result = ask(serve, path="/loop")
    assert result.success is False
    assert result.output.endswith('/loop": stopped after 10 redirects')


def test_https(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("test")
    certificate, key = authority.issue("x", [], ["elsewhere"], [Address.parse("192.0.2.1")], server=True)
    (tmp_path / "crt").write_bytes(certificate)
    (tmp_path / "key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    async def main() -> list[Result]:
        async with serving("::1", answering(OK), context) as secure, serving("::1", answering(OK)) as plain:
            asked = [{"httpGet": {"port": port, "scheme": "HTTPS"}} for port in (secure, plain)]
            return [await probe(asked[0], "::1"), await probe(asked[1], "::1", timeout=1)]

    good, bad = asyncio.run(main())
    assert good == Result(True, "ok")  # whoever signed its certificate, and for whatever name
    assert bad.success is False
    assert bad.output.startswith('Get "https://[::1]:')


def test_a_connection_that_hangs() -> None:
    """A backlog that is full answers nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        port = server.getsockname()[1]
        result = asyncio.run(probe({"tcpSocket": {"port": port}}, "127.0.0.1", timeout=1))
        for filler in fillers:
            filler.close()
    assert result == Result(False, f"dial tcp 127.0.0.1:{port}: i/o timeout")


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_connection(host: str) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> tuple[Result, Result]:
        async with serving(host, nothing) as port:
            named = await probe({"tcpSocket": {"port": f"p{port}"}}, "192.0.2.1", ports=(port,))
            elsewhere = await probe({"tcpSocket": {"port": f"p{port}", "host": host}}, "192.0.2.1", ports=(port,))
            return named, elsewhere

    named, elsewhere = asyncio.run(main())
    assert named.success is False  # the pod's address, unless a host is given
    assert elsewhere == Result(True)


def test_what_cannot_be_carried_out() -> None:
    unknown = asyncio.run(probe({"exec": {"command": ["true"]}}, "::1"))
    assert unknown == Result(None, "container c does not run")
    assert asyncio.run(probe({}, "::1")).success is None
    unknown = asyncio.run(probe({"httpGet": {"port": "nowhere"}}, "::1"))
    assert unknown == Result(None, 'strconv.Atoi: parsing "nowhere": invalid syntax')


def test_ports_by_name_and_number() -> None:
    container = Container(ports=[ContainerPort(name="web", container_port=8080)])
    assert [port_number(port, container) for port in (1, 65535, "web", "81")] == [1, 65535, 8080, 81]
    for port in (0, 65536, -1, "0"):
        with pytest.raises(ValueError, match=f"invalid port number: {port}"):
            port_number(port, container)


def test_urls() -> None:
    target = http_get.target({"path": "healthz", "host": "example.com", "scheme": "HTTPS"}, 443, "::1", "x")
    assert target.url.geturl() == "https://example.com:443/healthz"
    assert http_get.target({}, 80, "fd00::1", "x").url.geturl() == "http://[fd00::1]:80/"


# --- gRPC, by a server that speaks the frames which grpc-go sends


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def grpc_server(*answer: bytes, requests: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        writer.write(frame(4, 0, b"\0\3\0\0\0\x64", 0))
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if requests is not None:
                requests.append(payload)
            if head[3] == 0:
                break
        for part in answer:
            writer.write(part)
        await writer.drain()
        await reader.read()

    return serve


HEADERS = frame(1, 4, b"\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64")  # :status 200, content-type
TRAILERS = frame(1, 5, b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30")


def status_frame(number: int) -> bytes:
    message = bytes((8, number)) if number else b""
    return frame(0, 0, b"\0" + len(message).to_bytes(4, "big") + message)


def ask_grpc(serve: Serve, host: str = "127.0.0.1", timeout: int = 30, **action: Any) -> Result:
    async def main() -> Result:
        async with serving(host, serve) as port:
            return await probe({"grpc": {"port": port, **action}}, host, timeout=timeout)

    return asyncio.run(main())


@pytest.mark.parametrize("host", LOOPBACKS)
def test_grpc(host: str) -> None:
    requests: list[bytes] = []
    server = grpc_server(HEADERS, status_frame(1), TRAILERS, requests=requests)
    assert ask_grpc(server, host, service="web") == Result(True)
    assert b"/grpc.health.v1.Health/Check" in requests[1]
    assert requests[2] == b"\0\0\0\0\5\x0a\3web"
    ping = frame(6, 0, b"12345678", 0)
    assert ask_grpc(grpc_server(HEADERS, ping, status_frame(1)), host) == Result(True)


@pytest.mark.parametrize(("number", "name"), list(enumerate(grpc_health.STATUSES)))
def test_grpc_statuses(number: int, name: str) -> None:
    result = ask_grpc(grpc_server(HEADERS, status_frame(number), TRAILERS))
    text = "" if name == "SERVING" else f'service unhealthy (responded with "{name}")'
    assert result == Result(name == "SERVING", text)


def test_grpc_without_an_answer() -> None:
    result = ask_grpc(grpc_server(TRAILERS))
    assert result.success is False
    assert "this server does not implement the grpc health protocol" in result.output
    assert ask_grpc(grpc_server(), timeout=1).output == "timeout: health rpc did not complete within 1s"
    assert "code = Unavailable" in ask_grpc(answering(b"")).output
    refused = asyncio.run(probe({"grpc": {"port": 1}}, "127.0.0.1"))
    assert "dial tcp 127.0.0.1:1: connect: connection refused" in refused.output
