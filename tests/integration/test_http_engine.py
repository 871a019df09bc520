"""The HTTP engine on real TLS sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from twinstack.ip import Address
from twinstack.pki.ca import CertificateAuthority
from twinstack.server.authentication import certificate_user
from twinstack.server.http import HTTPServer, Limits
from twinstack.server.messages import Answer, Duplex, Request, Response, StreamResponse, StreamWriter, Upgrade
from twinstack.server.tls import server_context

Run = Callable[[Awaitable[None]], None]

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"


class Certificates:
    """Files of one authority, a server, a client, and a client of somebody else's authority."""

    def __init__(self, directory: Path) -> None:
        authority, foreign = CertificateAuthority.create("ours"), CertificateAuthority.create("theirs")
        self.directory = directory
        self.authority = self._write("ca", authority.certificate_pem)
        loopback = [Address.parse("127.0.0.1")]
        self.server = self._pair("server", authority.issue("server", addresses=loopback, server=True))
        self.client = self._pair("client", authority.issue("alice", ["devs", "ops"], client=True))
        self.stranger = self._pair("stranger", foreign.issue("mallory", ["system:masters"], client=True))

    def _write(self, name: str, data: bytes) -> str:
        path = self.directory / f"{name}.pem"
        path.write_bytes(data)
        return str(path)

    def _pair(self, name: str, pair: tuple[bytes, bytes]) -> tuple[str, str]:
        return self._write(f"{name}-cert", pair[0]), self._write(f"{name}-key", pair[1])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Peer:
    """A client on one connection that reads answers as HTTP/1.1 frames them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = raw.split("\r\n")[:-2]
        return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def get(self, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        self.send(request("GET", path, *headers))
        return await self.answer()

    async def end(self) -> bytes:
        """What is left until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 60)


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Site:
    """A running server and ways to reach it."""

    def __init__(self, server: HTTPServer, port: int, certificates: Certificates) -> None:
        self.server, self.port, self.certificates = server, port, certificates

    async def connect(self, identity: tuple[str, str] | None = None) -> Peer:
        context = ssl.create_default_context(cafile=self.certificates.authority)
        if identity:
            context.load_cert_chain(*identity)
        return Peer(*await asyncio.open_connection("127.0.0.1", self.port, ssl=context, limit=1 << 24))


async def echo(request: Request) -> Answer:
    """What the handler was given."""
    seen = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "body": request.body.decode("latin-1"),
        "user": request.user.name,
        "groups": list(request.user.groups),
    }
    return Response(status=200, body=json.dumps(seen).encode())


@asynccontextmanager
async def serving(
    certificates: Certificates, handler: Callable[[Request], Awaitable[Answer]] = echo, limits: Limits | None = None
) -> AsyncIterator[Site]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = HTTPServer(handler, identify=certificate_user, limits=limits)
    context = server_context(*certificates.server, certificates.authority)
    await server.start([listener], context)
    try:
        yield Site(server, listener.getsockname()[1], certificates)
    finally:
        await server.stop(grace=0.2)
        assert server.connections == 0


@pytest.fixture
def run() -> Run:
    async def bounded(work: Awaitable[None]) -> None:
        await asyncio.wait_for(work, 100)

    return lambda work: uvloop.run(bounded(work))


def test_keeps_connections_and_sends_the_common_headers(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async with serving(certificates) as site:
            peer = await site.connect()
            for _ in range(3):
                status, headers, body = await peer.get("/api/v1/a%20b?x=1&x=2&empty&y=a+b%26c")
                assert status == 200
                assert json.loads(body)["path"] == "/api/v1/a b"
                assert json.loads(body)["query"] == {"x": ["1", "2"], "empty": [""], "y": ["a b&c"]}
                assert headers["content-type"] == "application/json"
                assert headers["cache-control"] == "no-cache, private"
                assert headers["date"].endswith(" GMT")
                assert re.fullmatch(
                    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", headers["audit-id"]
                )
            _, headers, _ = await peer.get("/", "Audit-ID: my-own")
            assert headers["audit-id"] == "my-own"
            assert site.server.connections == 1

    run(test())


def test_knows_who_holds_a_client_certificate(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async with serving(certificates) as site:
            peer = await site.connect(certificates.client)
            seen = json.loads((await peer.get("/"))[2])
            assert (seen["user"], seen["groups"]) == ("alice", ["devs", "ops", "system:authenticated"])
            peer = await site.connect()
            assert json.loads((await peer.get("/"))[2])["user"] == "system:anonymous"
            stranger = await site.connect(certificates.stranger)
            stranger.send(request("GET", "/"))
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await stranger.head()

    run(test())


def test_answers_pipelined_requests_in_order(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(0.05 if request.path.endswith("0") else 0)
        return await echo(request)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(b"".join(request("GET", f"/{n}") for n in range(40)))
            for n in range(40):
                assert json.loads((await peer.answer())[2])["path"] == f"/{n}"

    run(test())


def test_reads_bodies_in_every_framing(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async with serving(certificates) as site:
            peer = await site.connect()
            peer.send(request("POST", "/", "Content-Length: 5", body=b"he"))
            await asyncio.sleep(0.05)
            peer.send(b"llo")
            assert json.loads((await peer.answer())[2])["body"] == "hello"
            chunks = b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
            peer.send(request("POST", "/", "Transfer-Encoding: chunked", body=chunks))
            assert json.loads((await peer.answer())[2])["body"] == "abcde"
            peer.send(request("PUT", "/", "Content-Length: 2", "Expect: 100-continue"))
            assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            peer.send(b"ok")
            assert json.loads((await peer.answer())[2])["body"] == "ok"

    run(test())


def test_continue_waits_for_its_turn(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(0.1)
        return await echo(request)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(request("GET", "/first") + request("PUT", "/", "Content-Length: 2", "Expect: 100-continue"))
            assert json.loads((await peer.answer())[2])["path"] == "/first"
            assert (await peer.head())[0] == 100
            peer.send(b"ok")
            assert json.loads((await peer.answer())[2])["body"] == "ok"

    run(test())


def test_refuses_what_is_too_large(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async with serving(certificates, limits=Limits(body=1000, head=4000)) as site:
            for data in (
                request("POST", "/", "Content-Length: 1001"),
                request("POST", "/", "Transfer-Encoding: chunked", body=b"400\r\n" + b"x" * 1024 + b"\r\n"),
            ):
                peer = await site.connect()
                peer.send(data)
                status, headers, body = await peer.answer()
                assert (status, headers["connection"]) == (413, "close")
                assert json.loads(body)["message"] == "Request entity too large: limit is 1000"
                assert json.loads(body)["reason"] == "RequestEntityTooLarge"
                peer.writer.close()
            peer = await site.connect()
            peer.send(request("GET", "/", f"X-Long: {'x' * 5000}")[:-4])
            assert (await peer.answer())[0] == 431
            peer.writer.close()

    run(test())


def test_so_many_connections_and_no_more(
    run: Run, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(certificates, limits=Limits(connections=3)) as site:
            peers = [await site.connect() for _ in range(3)]
            for _ in range(5):
                with pytest.raises(ConnectionError):
                    await site.connect()
            for peer in peers:
                assert (await peer.get("/"))[0] == 200, "those that are there are not harmed"
            peers.pop().writer.close()
            for _ in range(6000):
                if site.server.connections < 3:
                    break
                await asyncio.sleep(0.01)
            assert (await (await site.connect()).get("/"))[0] == 200

    run(test())
    assert [record.getMessage() for record in caplog.records if "connections are open" in record.getMessage()] == [
        "3 connections are open: no more are accepted until some of them end"
    ]


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AES+SHA256:!AESGCM"),  # CBC
        (ssl.TLSVersion.TLSv1_2, "kRSA"),  # without forward secrecy
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM"),
        (ssl.TLSVersion.TLSv1_3, "ECDHE+AESGCM"),
    ],
)
def test_tls_of_today(run: Run, certificates: Certificates, version: ssl.TLSVersion, ciphers: str) -> None:
    context = ssl.create_default_context(cafile=certificates.authority)
    context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1
        context.minimum_version = context.maximum_version = version

    async def connect(site: Site) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
        writer.close()

    async def test() -> None:
        async with serving(certificates) as site:
            if ciphers == "ECDHE+AESGCM":
                await connect(site)
            else:
                with pytest.raises(ssl.SSLError):
                    await connect(site)

    run(test())


def test_a_refusal_waits_for_earlier_answers(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(0.05)
        return await echo(request)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(request("GET", "/good") + b"this is no HTTP\r\n\r\n")
            assert json.loads((await peer.answer())[2])["path"] == "/good"
            status, _, body = await peer.answer()
            assert (status, json.loads(body)["reason"]) == (400, "BadRequest")
            peer.writer.close()

    run(test())


def test_streams_flush_heads_and_chunks_at_once(run: Run, certificates: Certificates) -> None:
    go = asyncio.Event()

    async def handler(request: Request) -> Answer:
        async def produce(writer: StreamWriter) -> None:
            await go.wait()
            writer.write(b'{"n":1}\n')
            writer.write(b"")
            await asyncio.sleep(0.05)
            writer.write(b'{"n":2}\n')

        return StreamResponse(status=200, produce=produce, warnings=['say "x"\\\n', 'say "x"\\\n'])

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(request("GET", "/watch", "Accept-Encoding: gzip"))
            status, headers = await peer.head()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            assert headers["warning"] == '299 - "say \\"x\\"\\\\ "'
            assert "content-encoding" not in headers
            go.set()
            assert [await peer.chunk() for _ in range(3)] == [b'{"n":1}\n', b'{"n":2}\n', b""]
            peer.send(request("GET", "/watch"))
            assert (await peer.head())[0] == 200

    run(test())


def test_a_stream_ends_when_its_peer_goes(run: Run, certificates: Certificates) -> None:
    ended: list[str] = []

    async def handler(request: Request) -> Answer:
        async def produce(writer: StreamWriter) -> None:
            try:
                if request.path == "/closed":
                    await writer.closed()
                    ended.append("closed")
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        return StreamResponse(status=200, produce=produce)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            for path in ("/", "/closed"):
                peer = await site.connect()
                peer.send(request("GET", path))
                await peer.head()
                peer.writer.transport.abort()
            async with asyncio.timeout(30):
                while len(ended) < 2:
                    await asyncio.sleep(0.01)
            assert sorted(ended) == ["cancelled", "cancelled"]
            assert site.server.connections == 0

    run(test())


def test_a_broken_stream_has_no_last_chunk(
    run: Run, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Answer:
        async def produce(writer: StreamWriter) -> None:
            writer.write(b"x")
            await asyncio.sleep(0.05)
            raise RuntimeError("boom")

        return StreamResponse(status=200, produce=produce)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(request("GET", "/"))
            await peer.head()
            assert await peer.chunk() == b"x"
            try:
                rest = await peer.end()
            except ConnectionError:
                rest = b""
            assert rest == b""

    run(test())
    assert "stream of GET /" in caplog.text


def test_an_unexpected_failure_is_a_status_and_a_log_record(
    run: Run, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Answer:
        raise RuntimeError("boom")

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            for _ in range(2):
                status, _, body = await peer.get("/x")
                assert (status, json.loads(body)["reason"]) == (500, "InternalError")

    run(test())
    assert "boom" in caplog.text


def test_slow_clients_are_let_go(run: Run, certificates: Certificates) -> None:
    limits = Limits(handshake_timeout=0.6, head_timeout=0.6, body_timeout=0.6, idle_timeout=0.6, linger=0.1, sweep=0.05)

    async def test() -> None:
        async with serving(certificates, limits=limits) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            assert await asyncio.wait_for(reader.read(), 60) == b""  # no handshake
            writer.close()
            idle = await site.connect()
            await idle.get("/")
            assert await idle.end() == b""
            for partial in (b"GET / HT", request("POST", "/", "Content-Length: 9", body=b"x")):
                peer = await site.connect()
                peer.send(partial)
                assert (await peer.answer())[0] == 408
                assert await peer.end() == b""

    run(test())


def test_a_peer_that_takes_nothing_is_cut_off(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        return Response(status=200, body=[b"x" * (1 << 20)] * 32)

    async def test() -> None:
        async with serving(certificates, handler, Limits(stall_timeout=0.2, sweep=0.05)) as site:
            with socket.create_connection(("127.0.0.1", site.port)) as plain:
                asking = await asyncio.to_thread(_ask, plain, certificates)
                assert site.server.connections == 1
                await ended(site)
                asking.close()

    run(test())


def _ask(sock: socket.socket, certificates: Certificates) -> ssl.SSLSocket:
    wrapped = ssl.create_default_context(cafile=certificates.authority).wrap_socket(sock, server_hostname="127.0.0.1")
    wrapped.sendall(request("GET", "/"))
    return wrapped


async def ended(site: Site) -> None:
    """Wait until no connection is left."""
    async with asyncio.timeout(60):
        while site.server.connections:
            await asyncio.sleep(0.01)


class CountedParts(list[bytes]):
    """The parts of a body, and how many of them who looked last has taken."""

    taken = 0

    def __iter__(self) -> Iterator[bytes]:
        self.taken = 0
        for part in super().__iter__():
            self.taken += 1
            yield part


def test_of_a_long_answer_little_is_held_for_a_slow_reader(run: Run, certificates: Certificates) -> None:
    parts = CountedParts([bytes([number]) * (1 << 20) for number in range(64)])

    async def handler(request: Request) -> Answer:
        return Response(status=200, body=parts if request.path == "/long" else b"short")

    async def test() -> None:
        async with serving(certificates, handler) as site:
            slow, other = await site.connect(), await site.connect()
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            slow.send(request("GET", "/long"))
            slow.send(request("GET", "/next"))
            async with asyncio.timeout(30):
                while not parts.taken:
                    await asyncio.sleep(0.01)
            for _ in range(20):
                assert (await other.get("/"))[2] == b"short"
            assert 0 < parts.taken < len(parts) / 2
            slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert (await slow.answer())[2] == b"".join(parts)
            assert (await slow.answer())[2] == b"short"

    run(test())


def test_back_pressure_shows_and_passes(run: Run, certificates: Certificates) -> None:
    seen: list[int] = []

    async def handler(request: Request) -> Answer:
        async def produce(writer: StreamWriter) -> None:
            assert writer.pending() == 0
            for _ in range(256):
                writer.write(b"x" * (1 << 16))
            seen.append(writer.pending())
            await writer.drain()
            seen.append(writer.pending())

        return StreamResponse(status=200, produce=produce)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(request("GET", "/"))
            await peer.head()
            await asyncio.sleep(0.05)
            total = 0
            while data := await peer.chunk():
                total += len(data)
            assert total == 1 << 24
            assert seen[0] > 1 << 22
            assert seen[1] < 1 << 17

    run(test())


def test_shutdown_ends_streams_and_finishes_requests(run: Run, certificates: Certificates) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Answer:
        if request.path == "/slow":
            begun.set()
            await go_on.wait()
            return await echo(request)

        async def produce(writer: StreamWriter) -> None:
            writer.write(b"event\n")
            if request.path == "/polite":
                await writer.closed()
            else:
                await asyncio.sleep(60)

        return StreamResponse(status=200, produce=produce)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            polite, rude, slow, idle = [await site.connect() for _ in range(4)]
            for peer, path in ((polite, "/polite"), (rude, "/rude"), (slow, "/slow")):
                peer.send(request("GET", path))
            for peer in (polite, rude):
                await peer.head()
                assert await peer.chunk() == b"event\n"
            await begun.wait()
            stopping = asyncio.create_task(site.server.stop(grace=1.0))
            await asyncio.sleep(0.1)
            go_on.set()
            status, headers, _ = await slow.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await polite.chunk() == b""
            assert await rude.chunk() == b""
            for peer in (polite, rude, slow, idle):
                assert await peer.end() == b""
            await stopping
            with pytest.raises(OSError, match="refused"):
                await site.connect()

    run(test())


def test_gzip_only_when_asked_and_worth_it(run: Run, certificates: Certificates) -> None:
    large = b'{"items":["' + b"x" * (129 << 10) + b'"]}'

    async def handler(request: Request) -> Answer:
        return Response(status=200, body=[large[:100], large[100:]] if request.path == "/large" else b"{}")

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            _, headers, body = await peer.get("/large", "Accept-Encoding: deflate, gzip")
            assert headers["content-encoding"] == "gzip"
            assert len(body) < 4096
            assert gzip.decompress(body) == large
            _, headers, body = await peer.get("/large")
            assert "content-encoding" not in headers
            assert body == large
            _, headers, _ = await peer.get("/small", "Accept-Encoding: gzip")
            assert "content-encoding" not in headers

    run(test())


def test_head_and_bodiless_answers(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        if request.path == "/none":
            return Response(status=204)
        return Response(status=200, body=b"12345", content_type="text/plain")

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(request("HEAD", "/") + request("GET", "/none") + request("GET", "/"))
            status, headers = await peer.head()
            assert (status, headers["content-length"], headers["content-type"]) == (200, "5", "text/plain")
            status, headers = await peer.head()
            assert status == 204
            assert not headers.keys() & {"content-length", "content-type"}
            assert (await peer.answer())[2] == b"12345"

    run(test())


def test_upgrade_hands_over_the_connection(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        if request.path != "/up":
            return await echo(request)

        async def shout(duplex: Duplex) -> None:
            while data := await duplex.read():
                duplex.write(data.upper())
                await duplex.drain()
                if data.endswith(b"!"):
                    return

        return Upgrade(run=shout, headers=[("Upgrade", "shout")])

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            asks = ("Connection: Upgrade", "Upgrade: shout")
            peer.send(request("GET", "/elsewhere", *asks))  # not taken: HTTP goes on
            assert (await peer.answer())[0] == 200
            peer.send(request("GET", "/up"))
            assert (await peer.answer())[0] == 400
            peer.send(request("GET", "/up", *asks, body=b"early"))
            status, headers = await peer.head()
            assert (status, headers["upgrade"], headers["connection"]) == (101, "shout", "Upgrade")
            assert await peer.reader.readexactly(5) == b"EARLY"
            peer.send(b"x" * 1_000_000)
            assert await peer.reader.readexactly(1_000_000) == b"X" * 1_000_000
            peer.send(b"bye!")
            assert await peer.end() == b"BYE!"

    run(test())


def test_http_1_0_bodies_end_with_the_connection(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        async def produce(writer: StreamWriter) -> None:
            writer.write(b"all")

        return StreamResponse(status=200, produce=produce)

    async def test() -> None:
        async with serving(certificates, handler) as site:
            peer = await site.connect()
            peer.send(b"GET / HTTP/1.0\r\n\r\n")
            _, headers = await peer.head()
            assert "transfer-encoding" not in headers
            assert await peer.end() == b"all"

    run(test())


def test_a_handler_has_its_time(run: Run, certificates: Certificates) -> None:
    async def handler(request: Request) -> Answer:
        await asyncio.sleep(60)
        return Response(status=200)

    async def test() -> None:
        async with serving(certificates, handler, Limits(request_timeout=0.1, sweep=0.05)) as site:
            peer = await site.connect()
            for _ in range(2):
                status, _, body = await peer.get("/")
                assert (status, json.loads(body)["reason"]) == (504, "Timeout")

    run(test())


def test_says_so_to_plain_http(run: Run, certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test() -> None:
        async with serving(certificates) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(request("GET", "/"))
            assert b"Client sent an HTTP request to an HTTPS server." in await reader.read()
            writer.close()

    run(test())


def test_many_connections_leave_nothing(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async with serving(certificates) as site:
            peers = await asyncio.gather(*(site.connect() for _ in range(50)))
            await asyncio.gather(*(peer.get("/") for peer in peers))
            assert site.server.connections == 50
            for peer in peers:
                peer.writer.close()
            await ended(site)

    run(test())
