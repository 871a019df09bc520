"""The streams of a container's own program, as the agent holds them: packets to and from the process beside it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

from twinstack.node.runtime import switchboard
from twinstack.node.runtime.switchboard import PACKET


class AttachSession:
    """A Session (see base) with a running container. Made by `connect`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        while True:
            try:
                packet = self._connection.recv(PACKET + 1)
            except BlockingIOError:
                await self._wait(write=False)
                continue
            except ConnectionError:
                return
            if not packet:
                return
            yield packet[0], packet[1:]

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), PACKET):
            await self._send(bytes([switchboard.INPUT]) + data[start : start + PACKET])

    async def end_input(self) -> None:
        await self._send(bytes([switchboard.END]))

    def resize(self, columns: int, rows: int) -> None:
        self._try_to_send(bytes([switchboard.RESIZE]) + b"%d %d" % (columns, rows))

    async def exit_code(self) -> int:
        return 0

    async def close(self) -> None:
        self._connection.close()

    async def _send(self, packet: bytes) -> None:
        while not self._try_to_send(packet):
            await self._wait(write=True)

    def _try_to_send(self, packet: bytes) -> bool:
        """False when there is no room for it now. What a container that has gone would have got is dropped."""
        try:
            self._connection.send(packet)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return True

    async def _wait(self, *, write: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        (loop.add_writer if write else loop.add_reader)(self._connection, ready.set)
        try:
            await ready.wait()
        finally:
            (loop.remove_writer if write else loop.remove_reader)(self._connection)


def connect(directory: Path, *, stdin: bool) -> AttachSession:
    """Attach to the container whose records are in `directory`. Raises OSError when it does not run."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    below = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{below}/{switchboard.SOCKET}")  # the kernel takes only short paths
        if stdin:
            connection.send(bytes([switchboard.INPUT]))  # from now on it speaks
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(below)
    return AttachSession(connection)
