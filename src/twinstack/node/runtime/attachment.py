"""The streams of a running program as its conmon hands them out: packets of a Unix socket.

What conmon sends begins with a byte that names the stream; what it gets is input. It waits for those who take nothing,
and the program with it; so one that does not for a while is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

from twinstack.linux import processes, terminals
from twinstack.node.runtime.base import STDERR, STDOUT

PATIENCE = 5.0  # seconds until one that takes nothing is dropped
ACCEPTANCE = 0.02  # seconds until conmon knows of one who has connected
_INPUT = 8 << 10  # bytes that conmon takes at once
_OUTPUT = 64 << 10
_FIRST = 16  # packets that may come before it is known what came before them
_STREAMS = {2: STDOUT, 3: STDERR}


def begun(said: bytes, heard: bytes, least: int) -> bytes:
    """The line that had been begun before `heard`.

    `said` is the end of a log, which conmon writes first: it ends with the first bytes of what was heard, with `least`
    of them or more. The longest part that fits is the likely one. Nothing if none fits.
    """
    log, text = memoryview(said), memoryview(heard)
    for length in range(min(len(log), len(text)), least - 1, -1):
        if log[len(log) - length :] == text[:length]:
            return said[: len(said) - length].rpartition(b"\n")[2]
    return b""


def _output(packets: list[tuple[int, bytes]]) -> bytes:
    return b"".join(data for stream, data in packets if stream == STDOUT)


class Attachment:
    """A Session (see base) with a program that somebody else started. Made by `connect`."""

    def __init__(
        self,
        connection: socket.socket,
        program: processes.Process | None,
        *,
        stdin: bool,
        logged: Callable[[], bytes] | None,
        patience: float | None,
    ) -> None:
        self._connection = connection
        self._stdin = stdin
        self._logged = logged
        self._program = program
        self._patience = patience
        self._input_ended = False

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        for stream, data in await self._first():
            with self._patient():
                yield stream, data
        while True:
            try:
                packet = self._connection.recv(_OUTPUT)
            except BlockingIOError:
                await self._wait(write=False)
                continue
            except ConnectionResetError:  # once, when conmon ends without having read all input, before the rest
                continue
            except OSError:  # we have let go
                return
            if not packet:
                return
            with self._patient():
                yield _STREAMS.get(packet[0], STDOUT), packet[1:]

    async def _first(self) -> list[tuple[int, bytes]]:
        """The line that had been begun when conmon took us in, and what came after it."""
        logged, self._logged = self._logged, None
        if logged is None:
            return []
        await asyncio.sleep(ACCEPTANCE)
        found = self._there()
        said, logged_too = logged(), len(_output(found))
        if logged_too or not said.endswith(b"\n"):
            await asyncio.sleep(ACCEPTANCE)  # what came between the two may be in the log, too
            found += self._there()
        line = begun(said, _output(found), logged_too)
        return [(STDOUT, line), *found] if line else found

    def _there(self) -> list[tuple[int, bytes]]:
        """What has come, as far as it needs to be known at once."""
        found: list[tuple[int, bytes]] = []
        try:
            while len(found) < _FIRST and (packet := self._connection.recv(_OUTPUT)):
                found.append((_STREAMS.get(packet[0], STDOUT), packet[1:]))
        except OSError:
            pass  # nothing is there now, or no more will be
        return found

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _INPUT):
            await self._send(data[start : start + _INPUT])

    async def end_input(self) -> None:
        """conmon passes it on if the container takes only one input, and else waits for the next who has some.

        From one who never had any it would take it as well.
        """
        if self._stdin and not self._input_ended:
            self._input_ended = True
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def resize(self, columns: int, rows: int) -> None:
        """Not by conmon, which loses the second of two sizes that it reads at once; kubectl begins with two of them."""
        if self._program is not None and processes.is_alive(self._program):
            terminals.set_size(self._program.pid, columns, rows)

    async def exit_code(self) -> int:
        return 0

    async def close(self) -> None:
        self._connection.close()

    async def _send(self, packet: bytes) -> None:
        while packet and not self._input_ended:
            try:
                self._connection.send(packet)
            except BlockingIOError:
                await self._wait(write=True)
            except OSError:
                return  # what a container that has gone would have got is dropped
            else:
                return

    @contextlib.contextmanager
    def _patient(self) -> Iterator[None]:
        """Whoever takes what is given now gets it, unless that takes long."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._patience, self._drop) if self._patience is not None else None
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    def _drop(self) -> None:
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    async def _wait(self, *, write: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        (loop.add_writer if write else loop.add_reader)(self._connection, ready.set)
        try:
            await ready.wait()
        finally:
            (loop.remove_writer if write else loop.remove_reader)(self._connection)


def connect(
    directory: Path,
    program: processes.Process | None,
    *,
    stdin: bool,
    logged: Callable[[], bytes] | None = None,
    patience: float | None = PATIENCE,
) -> Attachment:
    """Attach to the program whose conmon keeps its files in `directory`. Raises OSError when it does not run.

    `program`: it, if it has a terminal whose window may change. `stdin`: there will be input. `logged`: the end of its
    output so far, so that whoever comes hears the line that has been begun.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    below = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{below}/attach")  # the kernel takes only short paths
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(below)
    return Attachment(connection, program, stdin=stdin, logged=logged, patience=patience)
