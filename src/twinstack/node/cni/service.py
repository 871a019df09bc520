"""The service behind the executable `twinstack-cni`: calls come by a unix socket and are done in threads.

A call is `NAME=VALUE` of each variable `CNI_…`, a NUL between them, two at the end, then the configuration, until the
client shuts its side. The answer is the digit of the exit code and what the executable prints.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinstack.node.cni import plugin

LONGEST_CALL = 8 << 20
THREADS = 8  # of its own: those of the agent may all be waiting for plugins that have called here
PATIENCE = 10.0  # seconds for a client to say what it wants

log = logging.getLogger(__name__)
_workers = ThreadPoolExecutor(THREADS, thread_name_prefix="cni")  # no thread before the first call


async def serve(path: Path) -> asyncio.Server:
    """Listen at `path`, for root alone. Raises OSError; FileExistsError when somebody listens there."""
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    _clear(path)
    before = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
    finally:
        os.umask(before)
    return await asyncio.start_unix_server(_on_call, sock=listener, backlog=128)


def _clear(path: Path) -> None:
    """Remove the socket of a service that is no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"another service listens at {path}")


async def _on_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            data = await _read(reader)
        if data is None:
            return
        variables, _, configuration = data.partition(b"\0\0")
        environment = dict(part.decode(errors="surrogateescape").split("=", 1) for part in variables.split(b"\0"))
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(_workers, plugin.answer, environment, configuration)
        log.debug("%s %s: %d", environment.get("CNI_COMMAND"), environment.get("CNI_CONTAINERID"), made.code)
        writer.write(b"%d" % made.code + made.text)
        await writer.drain()
    except (TimeoutError, ConnectionError, ValueError) as error:
        log.warning("a call was not understood or not waited for: %s", error or type(error).__name__)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    """A whole call; None when the client only looked whether somebody listens. Raises ValueError for a long one."""
    data = bytearray()
    while part := await reader.read(1 << 16):
        data += part
        if len(data) > LONGEST_CALL:
            raise ValueError("it is too long")
    return bytes(data) or None
