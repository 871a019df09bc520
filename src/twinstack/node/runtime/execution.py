"""One more program in a container (`kubectl exec`, probes, hooks): its conmon, its streams, its exit code.

Without a terminal the program has pipes of ours, so nothing is copied on its way, and it waits for those who read.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import uuid
from collections.abc import AsyncGenerator, Coroutine, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from twinstack.linux import processes, terminals
from twinstack.node.runtime import attachment, children, descriptors, engine
from twinstack.node.runtime.base import STDERR, STDOUT, StartError
from twinstack.node.runtime.engine import Engine, Messages
from twinstack.node.runtime.records import KILLED, ContainerDirectory
from twinstack.node.runtime.specification import further_process

HANG_UP_SECONDS = 0.5  # between the loss of the terminal, which a shell tells its jobs, and SIGKILL
_ERROR_TEXT = 4096


class Execution:
    """A Session (see base) with a program of its own. Made by `start`."""

    def __init__(self, directory: Path, messages: Messages) -> None:
        self._directory = directory
        self._messages = messages
        self._process: processes.Process | None = None
        self._outputs = descriptors.Outputs({})
        self._input: int | None = None
        self._terminal: attachment.Attachment | None = None
        self._end: asyncio.Task[int] | None = None

    def take(self, outputs: dict[int, int], given: int | None) -> None:
        """Our ends of the program's pipes."""
        if given is not None:
            os.set_blocking(given, False)
        self._outputs, self._input = descriptors.Outputs(outputs), given

    def take_terminal(self, terminal: attachment.Attachment) -> None:
        self._terminal = terminal

    async def started(self) -> bool:
        """Whether the program runs now. Raises StartError, TimeoutError."""
        async with asyncio.timeout(children.PATIENCE):
            pid = await self._messages.process()
        if pid is None:
            return False
        self._process = processes.identify(pid)
        self._end = asyncio.get_running_loop().create_task(self._wait())
        return True

    async def complaint(self) -> str:
        """What the runtime said when it could not start the program: on its standard error, or in the log."""
        if self._terminal is not None:
            with suppress(FileNotFoundError):
                return children.explain((self._directory / "log").read_text(errors="replace"))
        said = b""
        async for stream, data in self._outputs.read():
            said += data if stream == STDERR else b""
            if len(said) > _ERROR_TEXT:
                break
        return children.explain(said.decode(errors="replace"))

    def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        return self._terminal.output() if self._terminal is not None else self._outputs.read()

    async def write(self, data: bytes) -> None:
        if self._terminal is not None:
            await self._terminal.write(data)
        elif self._input is not None and not await descriptors.write(self._input, data):
            self._close_input()

    async def end_input(self) -> None:
        """A terminal has no end of input but the character that stands for it, which is the client's to send."""
        self._close_input()

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None and self._process is not None and processes.is_alive(self._process):
            terminals.set_size(self._process.pid, columns, rows)

    async def exit_code(self) -> int:
        return await asyncio.shield(self._end) if self._end is not None else 0

    async def close(self) -> None:
        self._close_input()
        self._outputs.close()
        if self._end is not None and not self._end.done():
            await self._kill()
            await self._end
        if self._terminal is not None:
            await self._terminal.close()
        self._messages.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _kill(self) -> None:
        """It, and what it has started in its session."""
        if self._terminal is not None:
            self._signal(signal.SIGHUP)
            with suppress(TimeoutError):
                async with asyncio.timeout(HANG_UP_SECONDS):
                    await self.exit_code()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None and processes.is_alive(self._process):
            with suppress(ProcessLookupError):
                processes.signal_group(self._process.pid, number)  # crun leaves it in that of its conmon

    async def _wait(self) -> int:
        """Its exit code, once conmon tells; it was killed if conmon was."""
        message = await self._messages.next()
        if message is None:
            self._signal(signal.SIGKILL)
        self._outputs.finish()
        return KILLED if message is None else int(message.get("exit_code", message.get("data", KILLED)))

    def _close_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None


async def start(
    programs: Engine, container: ContainerDirectory, identity: str, command: Sequence[str], *, stdin: bool, tty: bool
) -> Execution:
    """Run `command` in a running container. Raises StartError."""
    if any("\0" in word for word in command):
        raise StartError("embedded null byte")
    session = uuid.uuid4().hex
    directory = container.sessions / session
    first = json.loads((container.path / "config.json").read_bytes())["process"]
    directory.mkdir(parents=True)
    (directory / "process.json").write_text(json.dumps(further_process(first, command, terminal=tty)))
    words = programs.further(identity, session, directory, terminal=tty)
    begin = _start_terminal(words, directory) if tty else _start_pipes(words, directory, stdin=stdin)
    try:
        begun = await _whole(begin)
    except BaseException as error:
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, TimeoutError):
            raise StartError(f"it did not run within {children.PATIENCE:.0f} s") from error
        if isinstance(error, OSError):
            raise StartError(str(error)) from error
        raise
    return begun


async def _whole(begin: Coroutine[Any, Any, Execution]) -> Execution:
    """Let it come to its end even if nobody waits for it any more: only then is it known what there is to be ended."""
    beginning = asyncio.ensure_future(begin)
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        with suppress(StartError, OSError):  # it never ran
            await (await beginning).close()
        raise


async def _start_pipes(words: Sequence[str], directory: Path, *, stdin: bool) -> Execution:
    ours: dict[int, int] = {}  # by the number that the program knows them under
    theirs: dict[int, int] = {}
    for number in ((0,) if stdin else ()) + (STDOUT, STDERR):
        read, write = os.pipe()
        ours[number], theirs[number] = (write, read) if number == 0 else (read, write)
    try:
        monitor, messages = engine.begin(words, theirs)
    except BaseException:
        for descriptor in ours.values():
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs.values():
            os.close(descriptor)
    session = Execution(directory, messages)
    session.take({number: end for number, end in ours.items() if number}, ours.get(0))
    try:
        if not await session.started():
            raise StartError(await session.complaint() or "the runtime gave no reason")
    except BaseException:
        await session.close()
        raise
    finally:
        await asyncio.shield(children.ended(monitor))
    return session


async def _start_terminal(words: Sequence[str], directory: Path) -> Execution:
    """conmon begins the program only when it is told that somebody is attached: so nothing that it says is lost."""
    their_start, start_now = os.pipe()
    attach_now, their_attach = os.pipe()
    try:
        monitor, messages = engine.begin(words, {engine.START: their_start, engine.ATTACH: their_attach})
    except BaseException:
        os.close(start_now)
        os.close(attach_now)
        raise
    finally:
        os.close(their_start)
        os.close(their_attach)
    session, ready = Execution(directory, messages), Messages(attach_now)
    try:
        os.write(start_now, b"0")
        async with asyncio.timeout(children.PATIENCE):
            await ready.next()
        session.take_terminal(attachment.connect(directory, None, stdin=True, patience=None))
        os.write(start_now, b"0")
        if not await session.started():
            raise StartError(await session.complaint() or "the runtime gave no reason")
    except BaseException:
        await session.close()
        raise
    finally:
        os.close(start_now)
        ready.close()
        await asyncio.shield(children.ended(monitor))
    return session


def end_all(container: ContainerDirectory, members: Set[int]) -> None:
    """Kill the programs that an earlier agent ran beside the container's own: nobody hears them any more.

    `members`: the processes in the container's control groups.
    """
    if not container.sessions.is_dir():
        return
    for directory in container.sessions.iterdir():
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int((directory / "pid").read_text())
            if pid in members:
                processes.signal_group(pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
