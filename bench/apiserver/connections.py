"""Clients that cost little: kept TLS connections, one request at a time on each."""

from __future__ import annotations

import asyncio
import json
import ssl
import statistics
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from bench.apiserver.measured import Measured
from tests.server_process import TOKEN

JSON = dict[str, Any]
MERGE = "application/merge-patch+json"
MARK = b'"bench-seq":"'  # begins the value that `patches` set


class Call(NamedTuple):
    """One request."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


def context() -> ssl.SSLContext:
    """One for all connections: making it takes longer than a handshake."""
    found = ssl.create_default_context()
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    return found


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 24))

    async def call(self, call: Call) -> bytes:
        """The answer's body. Raises SystemExit when it is none of success."""
        self._writer.write(head(call) + call.body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        body = await self._reader.readexactly(length)
        if not lines[0].split()[1].startswith("2"):
            raise SystemExit(f"{call.method} {call.path}: {lines[0]} {body[:500]!r}")
        return body

    def close(self) -> None:
        self._writer.close()


def head(call: Call) -> bytes:
    return (
        f"{call.method} {call.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Accept: application/json\r\nContent-Type: {call.content_type}\r\nContent-Length: {len(call.body)}\r\n\r\n"
    ).encode()


async def load(server: Measured, connections: int, calls: Iterable[Call]) -> dict[str, float]:
    """All calls over `connections` connections: requests a second, CPU milliseconds of the server each, latencies."""
    pending, tls = iter(list(calls)), context()
    opened = [await Connection.open(server.port, tls) for _ in range(connections)]
    waits: list[float] = []

    async def work(connection: Connection) -> None:
        for call in pending:
            begun = time.perf_counter()
            await connection.call(call)
            waits.append(time.perf_counter() - begun)

    cpu, start = server.cpu(), time.perf_counter()
    await asyncio.gather(*map(work, opened))
    seconds, cpu = time.perf_counter() - start, server.cpu() - cpu
    for connection in opened:
        connection.close()
    return {"per_second": len(waits) / seconds, "cpu_ms": 1e3 * cpu / len(waits)} | latencies(waits)


def latencies(waits: list[float]) -> dict[str, float]:
    """Seconds become milliseconds."""
    ordered = sorted(waits)
    return {"p50_ms": 1e3 * statistics.median(ordered), "p99_ms": 1e3 * ordered[int(0.99 * (len(ordered) - 1))]}


class Watch(asyncio.Protocol):
    """Holds one stream; notes what arrives of `patches`, and when."""

    def __init__(self, path: str) -> None:
        self._request = head(Call("GET", path))
        self._rest = b""
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen: list[tuple[bytes, float]] = []  # the value of each event, and its time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.started.done():
            if not data.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"watch: {data[:500]!r}")
            self.started.set_result(None)
        now, data = time.perf_counter(), self._rest + data
        *found, last = data.split(MARK)
        for text in [*found[1:], last] if found else []:
            if b'"' in text:
                self.seen.append((text[: text.index(b'"')], now))
        whole = not found or b'"' in last
        self._rest = data[-len(MARK) :] if whole else MARK + last


async def watch(port: int, tls: ssl.SSLContext, path: str) -> Watch:
    loop = asyncio.get_running_loop()
    _, held = await loop.create_connection(lambda: Watch(path), "127.0.0.1", port, ssl=tls)
    await held.started
    return held


def service(number: int) -> JSON:
    """A dual-stack Service with two ports and labels, as most are."""
    name = f"s{number}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name, "bench": "y"}},
        "spec": {
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443}],
        },
    }


SERVICES = "/api/v1/namespaces/default/services"
QUIET = "/api/v1/namespaces/quiet/services"  # of a namespace that is there when a benchmark makes it


def creations(start: int, end: int, path: str = SERVICES) -> list[Call]:
    return [Call("POST", path, json.dumps(service(number)).encode()) for number in range(start, end)]


def patches(count: int, among: int, tag: str, path: str = SERVICES) -> list[Call]:
    """Each sets an annotation to a value that it has not had."""
    return [
        Call("PATCH", f"{path}/s{number % among}", _annotation(f"{tag}-{number}"), MERGE) for number in range(count)
    ]


def _annotation(value: str) -> bytes:
    return json.dumps({"metadata": {"annotations": {"bench-seq": value}}}).encode()
