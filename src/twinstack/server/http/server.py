"""The server: listening sockets, the set of connections, the sweep of deadlines, the orderly end."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

from twinstack.server.http.connection import HTTPConnection, Identify
from twinstack.server.http.limits import Limits
from twinstack.server.http.wire import Connection, TLSWire
from twinstack.server.messages import Handler

__all__ = ["HTTPServer", "Limits"]

log = logging.getLogger(__name__)

_BACKLOG = 512
_OTHER_DESCRIPTORS = 256  # for the store and for connections to nodes


class _Refused(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


class HTTPServer:
    """Serves one handler on any number of sockets. `identify` turns a client certificate, if any, into a user."""

    def __init__(self, handler: Handler, *, identify: Identify, limits: Limits | None = None) -> None:
        self.handler = handler
        self.identify = identify
        self.limits = limits or Limits()
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(self.limits.connections, max(descriptors - _OTHER_DESCRIPTORS, 1))
        self._refusing = False

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, sockets: Iterable[socket.socket], context: ssl.SSLContext | None) -> None:
        """Accept connections on sockets that are bound; they are then the server's to close."""
        loop = asyncio.get_running_loop()
        for listener in sockets:
            plain = partial(HTTPConnection, self)
            factory = partial(TLSWire, self, context, self.limits, plain) if context is not None else plain
            server = await loop.create_server(partial(self._accept, factory), sock=listener, backlog=_BACKLOG)
            self._servers.append(server)
        self._timer = loop.call_later(self.limits.sweep, self._sweep)

    def _accept(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.BaseProtocol:
        """The protocol of a new connection."""
        if len(self._connections) < self._most:
            self._refusing = False
            return factory()
        if not self._refusing:  # said once, not as often as somebody tries
            log.warning("%d connections are open: no more are accepted until some of them end", self._most)
            self._refusing = True
        return _Refused()

    async def stop(self, grace: float = 5.0) -> None:
        """Refuse new connections, end streams, let requests finish for `grace` seconds, then close the rest."""
        for server in self._servers:
            server.close()
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._connections):
            connection.stop()
        await self._emptied(grace)
        for connection in list(self._connections):
            connection.cancel()
        await self._emptied(1.0)
        for connection in list(self._connections):
            connection.abort()
        await self._emptied(1.0)

    async def _emptied(self, patience: float) -> None:
        """Wait until no connection is left, at most `patience` seconds."""
        if self._connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=patience)

    def began(self, connection: Connection) -> None:
        self._connections.add(connection)

    def ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [each for each in self._connections if each.deadline < now]:
            connection.expire()
        self._timer = loop.call_later(self.limits.sweep, self._sweep)
