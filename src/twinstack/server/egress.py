"""Connections of the server to nodes, made where nodes can be reached: in the cluster's network namespace."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from twinstack.ip import Address
from twinstack.linux import namespaces
from twinstack.server.listeners import endpoint

_PATIENCE = 10.0  # seconds


class Unreachable(Exception):
    """No connection; the message names the address and the reason, in the words of Go's net package."""


class NotConnected(Unreachable):
    """Nobody there took the connection."""


class Egress:
    """Makes sockets in one network namespace; an empty path is the process's own."""

    def __init__(self, namespace: str = "") -> None:
        self._namespace = namespace

    async def connect(self, address: Address, port: int) -> socket.socket:
        """A connected TCP socket, the caller's to close. Raises NotConnected."""
        target = endpoint(address, port)
        try:
            sock = self._socket(address)
        except OSError as error:
            raise NotConnected(f"dial tcp {target}: {error}") from error
        try:
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(sock, (str(address), port)), _PATIENCE)
        except TimeoutError:
            sock.close()
            raise NotConnected(f"dial tcp {target}: i/o timeout") from None
        except OSError as error:
            sock.close()
            raise NotConnected(f"dial tcp {target}: connect: {_reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    def _socket(self, address: Address) -> socket.socket:
        def make() -> socket.socket:
            sock = socket.socket(address.family.af, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock

        return namespaces.inside(self._namespace, make) if self._namespace else make()


def _reason(error: OSError) -> str:
    code = error.errno
    return os.strerror(code).lower() if code is not None and code in errno.errorcode else str(error)
