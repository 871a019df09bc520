"""Calls to a cluster of etcd members: one connection at a time, to whichever member answers.

When a member is lost, or has lost its leader, the next one is tried; after all of them the pauses grow. What reads
is repeated until its time is up. What writes is repeated only if it surely had no effect.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from twinstack.store.etcd.http2 import Code, Connection, Ended, Stream

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_DEFAULT_PORT = 2379
_NAMES = {each.value: each.name.title().replace("_", "") for each in Code}  # as in Go: DeadlineExceeded
NO_LEADER = "etcdserver: no leader"


class RPCError(Exception):
    """A call that failed: a gRPC status. The text is the one that etcd's own client gives."""

    def __init__(self, code: int, message: str) -> None:
        known = message.startswith("etcdserver: ") or code == Code.DEADLINE_EXCEEDED
        super().__init__(message if known else f"rpc error: code = {_name(code)} desc = {message}")
        self.code = code
        self.message = message


def _name(code: int) -> str:
    return _NAMES.get(code, str(code))


class Endpoint(NamedTuple):
    """Where a member listens for clients."""

    host: str
    port: int
    secure: bool

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoints_of(text: str) -> list[Endpoint]:
    """`https://a:2379,https://b:2379`: http or https, the port is 2379 without one. Raises ValueError."""
    return [_endpoint(part.strip()) for part in text.split(",")]


def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is no URL of an etcd member; write it like https://10.0.0.1:{_DEFAULT_PORT}")
    return Endpoint(parts.hostname, parts.port or _DEFAULT_PORT, parts.scheme == "https")


class Channel:
    """`tls` is for the endpoints that are https."""

    def __init__(self, endpoints: Sequence[Endpoint], tls: ssl.SSLContext | None) -> None:
        self._endpoints = list(endpoints)
        self._tls = tls
        self._at = 0  # the endpoint to try next
        self._connection: Connection | None = None
        self._open: set[Connection] = set()  # also those that were left and are not yet gone
        self._connecting: asyncio.Task[Connection] | None = None
        self._trouble = ""  # why there is no connection
        self._closed = False

    async def call(self, path: str, request: bytes, *, seconds: float, repeat: bool) -> bytes:
        """One request, one answer. `repeat`: it may run twice. Raises RPCError."""
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout(seconds):
                while True:
                    connection = self._connection or await self._connected()
                    answer, how = await _exchange(connection, path, request, repeat)
                    if how.code == Code.OK and answer is not None:
                        return answer
                    if how.code != Code.UNAVAILABLE:
                        raise RPCError(how.code, how.message or "no message")
                    self._trouble = how.message
                    self.leave(connection)
                    if not (repeat or how.unsent or how.message == NO_LEADER):
                        raise RPCError(how.code, how.message)
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, _LONGEST_PAUSE)
        except TimeoutError:
            if self._connection is None and self._trouble:
                raise RPCError(Code.UNAVAILABLE, self._trouble) from None
            if self._connection is not None:
                self.leave(self._connection)  # another member may be quicker
            raise RPCError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from None

    async def stream(self, path: str, request: bytes, on_message: Callable[[bytes], None]) -> Ended:
        """Send one message, hand over what comes until the call ends; cancel to end it. Waits for a connection."""
        connection = self._connection or await self._connected()
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        stream = connection.open(path, request, on_message, ended.set_result, last=False)
        try:
            how = await asyncio.shield(ended)
        except asyncio.CancelledError:
            connection.cancel(stream)
            raise
        if how.code == Code.UNAVAILABLE:
            self.leave(connection)
        return how

    def leave(self, connection: Connection) -> None:
        """Go on to the next member. What is under way at this one fails."""
        if connection is self._connection:
            self._connection = None
            self._at += 1
            connection.abort("another member is tried")

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self._connection = None
        for connection in self._open:
            connection.abort("the client is closing")
        if self._open:
            await asyncio.wait([connection.closed for connection in self._open], timeout=_CONNECT_SECONDS)

    async def _connected(self) -> Connection:
        """A live connection, however long it takes. Raises RPCError once the channel is closed."""
        if self._closed:
            raise RPCError(Code.CANCELLED, "the client connection is closing")
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Connection:
        pause = _FIRST_PAUSE
        try:
            while True:
                for _ in self._endpoints:
                    endpoint = self._endpoints[self._at % len(self._endpoints)]
                    try:
                        connection = await self._dial(endpoint)
                    except (OSError, TimeoutError) as error:
                        reason = "i/o timeout" if isinstance(error, TimeoutError) else str(error)
                        self._trouble = (
                            f'connection error: desc = "transport: Error while dialing {endpoint.authority}: {reason}"'
                        )
                        self._at += 1
                        continue
                    log.debug("connected to etcd at %s", endpoint.authority)
                    return connection
                log.warning("no etcd member can be reached: %s", self._trouble)
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._connecting = None

    async def _dial(self, endpoint: Endpoint) -> Connection:
        loop = asyncio.get_running_loop()
        scheme = "https" if endpoint.secure else "http"
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(scheme, endpoint.authority),
                endpoint.host,
                endpoint.port,
                ssl=self._tls if endpoint.secure else None,
            )
        self._connection = connection
        self._open.add(connection)
        connection.closed.add_done_callback(lambda _: self._lost(connection))
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection is self._connection:
            self._trouble = connection.reason
            self._connection = None
            self._at += 1


async def _exchange(connection: Connection, path: str, request: bytes, stop: bool) -> tuple[bytes | None, Ended]:
    """What the call answered, and how it ended. `stop` it when the caller is cancelled; a write runs on."""
    done: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    answers: list[bytes] = []

    def end(how: Ended) -> None:
        if not done.done():
            done.set_result(how)

    stream: Stream = connection.open(path, request, answers.append, end, last=True)
    try:
        how = await done
    except asyncio.CancelledError:
        if stop:
            connection.cancel(stream)
        raise
    return (answers[0] if answers else None), how
