"""Starts the programs that make containers, and waits for their end."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

PATIENCE = 30.0  # seconds that a runtime may take
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)


class RuntimeFailure(Exception):
    """An OCI runtime refused; the text is its own."""


def launch(words: Sequence[str], given: Mapping[int, int], environment: Mapping[str, str]) -> int:
    """Start a program in a session of its own; returns its process number.

    `given` are its descriptors; of 0 to 2 those that are missing are /dev/null. Raises OSError, and ValueError for
    words that no program can be given.
    """
    # Duplicates above the numbers that they become, so that none overwrites another.
    high = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for number, descriptor in given.items()}
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2) if number not in given
    ]
    actions += [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in high.items()]
    try:
        return os.posix_spawn(
            words[0],
            list(words),
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    finally:
        for descriptor in high.values():
            os.close(descriptor)


async def ended(pid: int) -> int:
    """Wait for a child's end; its exit code, negative for a signal."""
    descriptor = os.pidfd_open(pid)
    try:
        await readable(descriptor)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222 - it has ended


async def readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def call(words: Sequence[str]) -> None:
    """Run a runtime's command to its end; blocks. Raises RuntimeFailure, OSError."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeFailure(f"no end within {PATIENCE:.0f} s") from None
    if done.returncode:
        raise RuntimeFailure(explain(done.stderr.decode(errors="replace")) or f"exit code {done.returncode}")


def explain(said: str) -> str:
    """What a runtime means by lines of JSON on its standard error; other lines as they are."""
    texts = []
    for line in filter(None, map(str.strip, said.splitlines())):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            texts.append(line)
        elif entry.get("level") in ("error", "fatal", None):
            texts.append(str(entry.get("msg", "")))
    return "; ".join(dict.fromkeys(texts))
