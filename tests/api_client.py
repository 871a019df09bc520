"""The API server's resource verbs without sockets: real store, real registry, requests and answers as values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from twinstack.api.errors import StatusError
from twinstack.ip import CIDR
from twinstack.server import routing
from twinstack.server.handlers import ResourceHandler
from twinstack.server.messages import Request, Response, StreamResponse, UserInfo
from twinstack.server.registry import Registry
from twinstack.server.strategy.base import ServerConfig
from twinstack.store.sqlite import SQLiteStore

JSON = dict[str, Any]

MERGE = "application/merge-patch+json"
ADMIN = UserInfo("admin", ("system:masters",))
CONFIG = ServerConfig(
    service_ranges=(CIDR.parse("10.96.0.0/16"), CIDR.parse("fd00:96::/112")),
    node_ports=range(30000, 32768),
    secure_port=6443,
    disabled_admission_plugins=frozenset({"ServiceAccount"}),
)


class Answered:
    """One answer: its status, decoded body and warnings."""

    def __init__(self, code: int, body: JSON, warnings: list[str], content_type: str, text: str) -> None:
        self.code = code
        self.body = body
        self.warnings = warnings
        self.content_type = content_type
        self.text = text

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.body["items"]]


class Watch:
    """A running watch and what it has received."""

    def __init__(self, answer: StreamResponse) -> None:
        self._data = b""
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writes = 0
        self.task = asyncio.ensure_future(answer.produce(self))

    def write(self, data: bytes) -> None:
        self._data += data
        self.writes += 1

    def pending(self) -> int:
        return 0

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def closed(self) -> None:
        await asyncio.shield(self._gone)

    def hang_up(self) -> None:
        self._gone.set_result(None)

    @property
    def events(self) -> list[tuple[str, JSON]]:
        found = [json.loads(line) for line in self._data.splitlines()]
        return [(event["type"], event["object"]) for event in found]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    async def until(self, count: int) -> list[tuple[str, JSON]]:
        """Wait for at least `count` events."""
        async with asyncio.timeout(60):
            while len(self.events) < count:
                await asyncio.sleep(0.002)
        return self.events


class Api:
    """Sends requests to the handlers of a registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._handler = ResourceHandler(registry)

    async def send(
        self, method: str, url: str, body: Any = None, content_type: str = "application/json", **headers: str
    ) -> Response | StreamResponse:
        parts = urlsplit(url)
        request = Request(
            method=method,
            path=unquote(parts.path),
            query=parse_qs(parts.query, keep_blank_values=True),
            headers={"content-type": content_type} | headers,
            body=b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body),
            user=ADMIN,
        )
        route = routing.parse(request.path, self.registry.catalogue.rows)
        assert route is not None, url
        answer = await self._handler.handle(request, route)
        assert isinstance(answer, Response | StreamResponse)
        return answer

    async def call(
        self, method: str, url: str, body: Any = None, content_type: str = "application/json", **headers: str
    ) -> Answered:
        try:
            answer = await self.send(method, url, body, content_type, **headers)
        except StatusError as error:
            return Answered(error.code, error.status(), [], "application/json", "")
        assert isinstance(answer, Response)
        raw = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        decoded = json.loads(raw) if answer.content_type == "application/json" else {}
        return Answered(answer.status, decoded, answer.warnings, answer.content_type, raw.decode())

    async def watch(self, url: str, **headers: str) -> Watch:
        answer = await self.send("GET", url, **headers)
        assert isinstance(answer, StreamResponse)
        watch = Watch(answer)
        await asyncio.sleep(0)
        return watch


@asynccontextmanager
async def served(path: Path, config: ServerConfig = CONFIG) -> AsyncIterator[Api]:
    """A registry on the SQLite file `path`."""
    registry = Registry(SQLiteStore(str(path)), config)
    await registry.open()
    try:
        yield Api(registry)
    finally:
        await registry.close()
