"""How conmon and the OCI runtime below it are called (conmon(8), runc(8), crun(1))."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twinstack.node.runtime import children
from twinstack.node.runtime.base import StartError

SYNC, LOCK, START, ATTACH = 3, 4, 5, 6  # descriptors of conmon
_MOST = 64 << 10


class Engine(NamedTuple):
    """The programs, and where the runtime keeps its state."""

    conmon: str
    runtime: str
    state: Path

    def command(self, *words: str) -> list[str]:
        return [self.runtime, f"--root={self.state}", "--log-format=json", *words]

    def start(self, identity: str) -> None:
        """Let a created container run. Blocks for some milliseconds. Raises RuntimeFailure."""
        children.call(self.command("start", identity))

    def delete(self, identity: str) -> None:
        """Kill what is left of a container, and forget it. Blocks. Raises RuntimeFailure; not for an unknown one."""
        if self.knows(identity):
            children.call(self.command("delete", "--force", identity))

    def update(self, identity: str, resources: Path) -> None:
        """Hold a running container to what the file, LinuxResources, says. Blocks. Raises RuntimeFailure."""
        children.call(self.command("update", f"--resources={resources}", identity))

    def knows(self, identity: str) -> bool:
        return (self.state / identity).exists()

    def waits(self, identity: str) -> bool:
        """Whether a container was created and not started yet."""
        return (self.state / identity / "exec.fifo").exists()

    def monitor(self, identity: str, name: str, bundle: Path, log: Path, options: Sequence[str]) -> list[str]:
        """conmon's words for a container whose `config.json` is in `bundle`, where it keeps its own files, too."""
        words = [
            *self._conmon(identity, identity, bundle),
            "--name",
            name,
            "--conmon-pidfile",
            f"{bundle}/conmon.pid",
        ]
        return [
            *words,
            "--container-pidfile",
            f"{bundle}/pid",
            "--log-path",
            f"k8s-file:{log}",
            "--no-sync-log",
            *options,
        ]

    def further(self, identity: str, session: str, directory: Path, *, terminal: bool) -> list[str]:
        """conmon's words for one more program, described by `process.json` in `directory`."""
        words = [*self._conmon(identity, session, directory), "--exec", "--container-pidfile", f"{directory}/pid"]
        words += ["--exec-process-spec", f"{directory}/process.json"]
        if terminal:
            # crun tells the terminal, where nobody would know it from the program's own words.
            words.append(f"--runtime-arg=--log={directory}/log")
            return [*words, "--terminal", "--stdin", "--exec-attach", "--log-path", "none"]
        return [*words, "--log-path", "passthrough"]

    def _conmon(self, identity: str, session: str, directory: Path) -> list[str]:
        return [
            *("/usr/bin/env", f"--chdir={directory}"),  # where it leaves a file when memory runs out
            *(self.conmon, "--api-version", "1", "--cid", identity, "--cuuid", session),
            *("--runtime", self.runtime, f"--runtime-arg=--root={self.state}", "--runtime-arg=--log-format=json"),
            *("--bundle", str(directory), "--persist-dir", str(directory), "--full-attach"),
        ]


class Messages:
    """What conmon says on its pipe, line by line. Owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        os.set_blocking(descriptor, False)

    async def next(self) -> Mapping[str, Any] | None:
        """None at the end."""
        while b"\n" not in self._rest:
            try:
                data = os.read(self._descriptor, _MOST)
            except BlockingIOError:
                await children.readable(self._descriptor)
                continue
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(line)
        return message if isinstance(message, dict) else {}

    async def process(self) -> int | None:
        """The number of the process that conmon's runtime has made; None if there is none. Raises StartError."""
        message = await self.next()
        if message is None:
            return None
        if message.get("data", -1) < 0:
            raise StartError(children.explain(str(message.get("message", ""))) or "the runtime gave no reason")
        return int(message["data"])

    def close(self) -> None:
        os.close(self._descriptor)


def begin(words: Sequence[str], given: Mapping[int, int]) -> tuple[int, Messages]:
    """Start conmon; the number of the process that ends once it has become a daemon, and what it says."""
    read, write = os.pipe()
    environment = {"PATH": os.environ.get("PATH", ""), "TZ": "UTC", "_OCI_SYNCPIPE": str(SYNC)}
    if START in given:
        environment |= {"_OCI_STARTPIPE": str(START), "_OCI_ATTACHPIPE": str(ATTACH)}
    try:
        return children.launch(words, {**given, SYNC: write}, environment), Messages(read)
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)


async def created(words: Sequence[str], lock: int) -> int:
    """Have a container made; its first process, which waits. Raises StartError, TimeoutError, OSError.

    It goes on being made if this is cut short: whoever comes next finds `lock` held as long as anything of it lives.
    """
    monitor, messages = begin(words, {LOCK: lock})
    try:
        async with asyncio.timeout(children.PATIENCE):
            first = await messages.process()
        if first is None:
            raise StartError("conmon ended early")
        return first
    finally:
        messages.close()
        await asyncio.shield(children.ended(monitor))
