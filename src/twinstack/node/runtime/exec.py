"""One more program in a container, as the agent holds it: its launcher, its streams, its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

from twinstack.linux import terminals
from twinstack.node.runtime import descriptors, launcher
from twinstack.node.runtime.base import STDERR, STDOUT, StartError
from twinstack.node.runtime.spawning import spawn

START_TIMEOUT = 30.0  # seconds
KILLED = 128 + signal.SIGKILL


class ExecSession:
    """A Session (see base) with a program of its own. Made by `start`."""

    def __init__(self, launcher_pid: int, control: socket.socket) -> None:
        self._control = control
        self._process = os.pidfd_open(launcher_pid)
        self._pid = launcher_pid
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._outputs = descriptors.Outputs({})
        self._input: int | None = None
        self._terminal: int | None = None
        asyncio.get_running_loop().add_reader(self._process, self._ended)

    def attach(self, outputs: dict[int, int], given: int | None, terminal: int | None) -> None:
        """Take over the agent's ends: outputs by stream, input, and the terminal's master if there is one."""
        if terminal is not None:
            outputs, given = {STDOUT: terminal}, os.dup(terminal)
        if given is not None:
            os.set_blocking(given, False)
        self._outputs, self._input, self._terminal = descriptors.Outputs(outputs), given, terminal

    def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        return self._outputs.read()

    async def write(self, data: bytes) -> None:
        if self._input is not None and not await descriptors.write(self._input, data):
            self._close_input()

    async def end_input(self) -> None:
        """A terminal has no end of input but the character that stands for it, which is the client's to send."""
        if self._terminal is None:
            self._close_input()

    def resize(self, columns: int, rows: int) -> None:
        if self._input is not None and self._terminal is not None:
            terminals.set_size(self._input, columns, rows)

    async def exit_code(self) -> int:
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        self._close_input()
        self._outputs.close()
        self._control.close()  # the launcher kills the program
        await self.exit_code()

    def _close_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process)
        os.close(self._process)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._code.set_result(code if code >= 0 else KILLED)
        self._outputs.finish()

    async def report(self) -> int | None:
        """Wait until the program runs; its terminal's master, if it has one. Raises StartError, TimeoutError."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await readable.wait()
        finally:
            loop.remove_reader(self._control)
        said, given, _, _ = socket.recv_fds(self._control, 4096, 1)
        if said != b"+":
            raise StartError(said.decode(errors="replace") or "the process beside the program ended early")
        return given[0] if given else None


async def start(directory: Path, container: int, command: list[str], *, stdin: bool, tty: bool) -> ExecSession:
    """Run `command` in the container whose records are in `directory` and whose first process `container` names.

    Raises StartError.
    """
    ours: dict[int, int] = {}  # by the number that the program knows them under
    theirs: dict[int, int] = {}
    if not tty:
        for number in ((0,) if stdin else ()) + (STDOUT, STDERR):
            read, write = os.pipe()
            ours[number], theirs[number] = (write, read) if number == 0 else (read, write)
    control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.setblocking(False)
    arguments = [str(directory), "tty" if tty else "pipes", *command]
    try:
        given = theirs | {launcher.CONTROL: far.fileno(), launcher.CONTAINER: container}
        session = ExecSession(spawn(launcher.__name__, arguments, given), control)  # a millisecond, and never cut short
    except BaseException as error:
        control.close()
        for descriptor in ours.values():
            os.close(descriptor)
        if isinstance(error, ValueError | OSError):
            raise StartError(str(error)) from error
        raise
    finally:
        far.close()
        for descriptor in theirs.values():
            os.close(descriptor)
    session.attach({n: d for n, d in ours.items() if n != 0}, ours.get(0), None)
    try:
        terminal = await session.report()
        if terminal is not None:
            session.attach({}, None, terminal)
    except BaseException as error:
        await session.close()
        if isinstance(error, TimeoutError):
            raise StartError(f"it did not run within {START_TIMEOUT:.0f} s") from error
        raise
    return session
