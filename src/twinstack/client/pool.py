"""The connections of one client: kept alive between requests, replaced when the server has closed them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from twinstack.client import tls
from twinstack.client.connection import Connection
from twinstack.client.kubeconfig import ClusterAccess, KubeconfigError

CONNECT_TIMEOUT = 10.0  # seconds, TLS handshake included
IDLE_SECONDS = 90.0  # how long an unused connection is kept
TOKEN_SECONDS = 60.0  # how long a token file's content is believed
_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})  # RFC 9110 section 9.2.2


class Pool:
    """Hands out connections for one exchange each. As many as are needed at once; callers bound that."""

    def __init__(self, access: ClusterAccess, user_agent: str) -> None:
        self._access = access
        url = urlsplit(access.server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise KubeconfigError(f"server {access.server!r} is no http or https URL")
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._prefix = url.path.rstrip("/")
        self._secure = url.scheme == "https"
        self._fixed_headers = f"Host: {url.netloc.rpartition('@')[2]}\r\nUser-Agent: {user_agent}\r\n"
        self._tls: ssl.SSLContext | None = None  # made at the first connection
        self._token, self._token_read = access.token, -TOKEN_SECONDS
        self._idle: dict[Connection, asyncio.TimerHandle] = {}
        self._busy: set[Connection] = set()
        self._attempts: set[asyncio.Task[Connection]] = set()
        self._closed = False
        self._down = False  # the last attempt to connect failed
        self._back = asyncio.Event()

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, body: bytes | None, content_type: str, accept: str
    ) -> AsyncIterator[Connection]:
        """Send a request and give the connection once its answer's head is there.

        An idempotent request that meets a kept connection which the server has closed meanwhile is sent once
        more on a new one. A body that is not read to its end costs the connection.
        """
        data = self._head(method, path, body, content_type, accept) + (body or b"")
        connection = await self._take()
        stale = not connection.fresh
        try:
            connection.send(data)
            await connection.head()
        except ConnectionError:
            self._give_back(connection)
            if not stale or connection.answered or method not in _IDEMPOTENT:
                raise
            connection = await self._connect()
            try:
                connection.send(data)
                await connection.head()
            except BaseException:
                self._give_back(connection)
                raise
        except BaseException:
            self._give_back(connection)
            raise
        try:
            yield connection
        finally:
            self._give_back(connection)

    async def close(self) -> None:
        """Close every connection, also those in use and those being made."""
        self._closed = True
        for timer in self._idle.values():
            timer.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()
        self._busy.clear()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=1.0)

    async def rest(self, seconds: float) -> None:
        """Sleep, but no longer than until a connection succeeds after one had failed: the server is back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._back.wait()

    async def _take(self) -> Connection:
        while self._idle:
            connection, timer = self._idle.popitem()  # the one used last
            timer.cancel()
            connection.on_lost = None
            if connection.alive:
                self._busy.add(connection)
                return connection
        return await self._connect()

    async def _connect(self) -> Connection:
        if self._closed:
            raise ConnectionError("the client is closed")
        if self._secure and self._tls is None:
            self._tls = tls.context(self._access)
        # A handshake is never broken off, which uvloop would answer with tracebacks: who is cancelled leaves it
        # to end in the background.
        attempt = asyncio.create_task(self._open())
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        try:
            connection = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            attempt.add_done_callback(_abandon)
            raise
        except OSError:
            self._down = True
            raise
        self._busy.add(connection)
        if self._down:
            self._down = False
            self._back.set()  # wakes all who wait now, and nobody later
            self._back = asyncio.Event()
        return connection

    async def _open(self) -> Connection:
        return await Connection.open(self._host, self._port, self._tls, self._access.tls_server_name, CONNECT_TIMEOUT)

    def _give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed or not connection.reusable:
            connection.close()
            return
        connection.on_lost = self._forget
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, connection)
        self._idle[connection] = timer

    def _forget(self, connection: Connection) -> None:
        timer = self._idle.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        connection.close()

    def _head(self, method: str, path: str, body: bytes | None, content_type: str, accept: str) -> bytes:
        lines = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._fixed_headers}Accept: {accept}\r\n"
        token = self._bearer()
        if token:
            lines += f"Authorization: Bearer {token}\r\n"
        if body is not None:
            lines += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        return f"{lines}\r\n".encode("latin-1")

    def _bearer(self) -> str:
        file = self._access.token_file
        if file and time.monotonic() - self._token_read > TOKEN_SECONDS:
            with open(file, encoding="ascii") as stream:  # tokens of service accounts are renewed in place
                self._token = stream.read().strip()
            self._token_read = time.monotonic()
        return self._token


def _abandon(attempt: asyncio.Task[Connection]) -> None:
    """Close a connection that nobody waits for any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
