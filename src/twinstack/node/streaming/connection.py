"""What streams are made of: the connection below them, and what has come for one of them and waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

_HIGH = 256 << 10  # bytes that wait for one reader before the whole connection has to
_PING_EVERY = 10.0  # seconds


class Connection(Protocol):
    """The raw bytes after an upgrade."""

    async def read(self) -> bytes:
        """The next bytes; empty once the peer has gone."""

    def write(self, data: bytes) -> None:
        """Queue bytes without waiting; dropped after the peer has gone."""

    async def drain(self) -> None:
        """Wait until the queue is short again."""


class Channel(Protocol):
    """One stream of bytes in both directions."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""

    async def write(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """Nothing more will be written. Idempotent."""


class Inbox:
    """Bytes in the order in which they came, until somebody takes them."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, data: bytes) -> None:
        if data and not self._ended:
            self._parts.append(data)
            self._size += len(data)
            self._changed.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._changed.set()

    async def read(self) -> bytes:
        """All that is there, or what comes next; empty at the end."""
        while not self._parts and not self._ended:
            await self._change()
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._changed.set()
        return data

    async def room(self, ping: Callable[[], None]) -> None:
        """Wait until its reader has caught up.

        Nothing is read from the peer meanwhile, so its end could not be seen. What it is sent by `ping` is refused by
        its machine if it has gone, and that can be seen.
        """
        while self._size > _HIGH and not self._ended:
            try:
                async with asyncio.timeout(_PING_EVERY):
                    await self._change()
            except TimeoutError:
                ping()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
