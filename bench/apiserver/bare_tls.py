"""The floor: a uvloop server that sends bytes over TLS and does nothing else.

    python -m bench.apiserver.bare_tls FD CERTIFICATE KEY

GET /BYTES answers with as many bytes; GET /watch holds the stream; PUT / sends its body to all streams, then
answers. A request is one read.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

import uvloop
from bench.apiserver.measured import Measured

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@cache
def _answer(size: int) -> bytes:
    return _HEAD % size + b"x" * size


class _Bare(asyncio.Protocol):
    streams: list[asyncio.Transport] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /watch"):
            self._transport.write(_STREAM)
            self.streams.append(self._transport)
        elif data.startswith(b"GET"):
            self._transport.write(_answer(int(data[5 : data.index(b" ", 5)])))
        else:
            event = data[data.index(b"\r\n\r\n") + 4 :]
            for stream in self.streams:
                stream.write(event)
            self._transport.write(_answer(0))


async def _serve(listener: socket.socket, certificate: str, key: str) -> None:
    from twinstack.server.tls import server_context

    server = await asyncio.get_running_loop().create_server(
        _Bare, sock=listener, ssl=server_context(certificate, key, "")
    )
    await server.serve_forever()


@contextmanager
def bare_tls(directory: Path) -> Iterator[Measured]:
    """With the certificate of the API server whose state is in `directory`."""
    certificates = directory / "certificates"
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port, files = listener.getsockname()[1], [str(certificates / f"apiserver.{end}") for end in ("crt", "key")]
        command = [sys.executable, "-m", "bench.apiserver.bare_tls", str(listener.fileno()), *files]
        with subprocess.Popen(command, pass_fds=[listener.fileno()], cwd=Path(__file__).parents[2]) as process:
            try:
                yield Measured(process.pid, port)
            finally:
                process.kill()


if __name__ == "__main__":
    uvloop.run(_serve(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:4]))
