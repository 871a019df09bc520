"""A small real HTTP server on loopback: every request goes to a coroutine of the test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Call(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply:
    """What the test answers with; `begin` and `send` make a chunked stream of it."""

    def __init__(self, stub: ApiStub, writer: asyncio.StreamWriter) -> None:
        self.stub = stub
        self.writer = writer
        self.keep = True

    def json(self, body: Any, status: int = 200, **headers: str) -> None:
        self.text(json.dumps(body), status, **headers)

    def text(self, body: str, status: int = 200, **headers: str) -> None:
        data = body.encode()
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data)

    def begin(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def send(self, *events: tuple[str, dict[str, Any]]) -> None:
        data = b"".join(json.dumps({"type": t, "object": o}).encode() + b"\n" for t, o in events)
        self.raw(data)

    def raw(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    def drop(self) -> None:
        self.keep = False
        self.writer.transport.abort()


Behaviour = Callable[[Call, Reply], Awaitable[None]]


class ApiStub:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.calls: list[Call] = []
        self.connections = 0
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                request, *lines = head.rstrip().split("\r\n")
                method, target, _ = request.split(" ")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                url = urlsplit(target)
                call = Call(method, url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, headers, body)
                self.calls.append(call)
                reply = Reply(self, writer)
                await self.behaviour(call, reply)
                if not reply.keep:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self._open.discard(writer)
            self._tasks.discard(task)

    def drop_all(self) -> None:
        """Cut every connection, as a killed server does."""
        for writer in list(self._open):
            writer.transport.abort()

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def api_stub(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[ApiStub]:
    stub = ApiStub(behaviour)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    stub.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield stub
    finally:
        server.close()
        await stub.stop()


def pod(name: str, version: int, **more: Any) -> dict[str, Any]:
    """A Pod as a server sends it."""
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(version), "uid": f"uid-{name}"}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata} | more


def bookmark(version: int, end: bool = False) -> dict[str, Any]:
    """With the zero values that kube-apiserver writes, which no Pod could have."""
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": None}, "status": {}}


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
