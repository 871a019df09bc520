"""Descriptors of programs in an event loop: output of several at once, input with back-pressure."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Mapping

_MOST = 64 << 10  # bytes read at once: what a pipe holds


class Outputs:
    """What a program writes to its descriptors, which this owns; the numbers of its streams are the keys."""

    def __init__(self, descriptors: Mapping[int, int]) -> None:
        self._open = dict(descriptors)
        self._ready = asyncio.Event()
        self._last = False
        for descriptor in descriptors.values():
            os.set_blocking(descriptor, False)

    def finish(self) -> None:
        """The program has ended: what is there now is the rest, even if others still hold its descriptors."""
        self._last = True
        self._ready.set()

    async def read(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Pieces as they come, until every descriptor is at its end."""
        while self._open:
            last, some = self._last, False
            for stream, descriptor in list(self._open.items()):
                data = _read(descriptor)
                if data:
                    some = True
                    yield stream, data
                elif data is not None:
                    self._drop(stream)
            if not some and self._open:
                if last:
                    return
                await self._wait()

    async def _wait(self) -> None:
        """Watch only while nothing is there, so that a slow taker costs nothing."""
        loop = asyncio.get_running_loop()
        watched = list(self._open.values())
        for descriptor in watched:
            loop.add_reader(descriptor, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            for descriptor in watched:
                loop.remove_reader(descriptor)
        if not self._last:
            self._ready.clear()

    def _drop(self, stream: int) -> None:
        os.close(self._open.pop(stream))

    def close(self) -> None:
        for stream in list(self._open):
            self._drop(stream)


def _read(descriptor: int) -> bytes | None:
    """None when nothing is there now, empty at the end."""
    try:
        return os.read(descriptor, _MOST)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:  # a terminal that no program has open any more
            raise
        return b""


async def write(descriptor: int, data: bytes) -> bool:
    """Write all of it to a descriptor that does not block; False when nobody reads any more."""
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            writable = asyncio.Event()
            loop.add_writer(descriptor, writable.set)
            try:
                await writable.wait()
            finally:
                loop.remove_writer(descriptor)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return False
    return True
