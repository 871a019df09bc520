"""What the kernel knows of a TCP connection (tcp(7))."""

from __future__ import annotations

import socket

_CLOSED = 7  # TCP_CLOSE of tcp_states.h


def is_dead(connection: socket.socket) -> bool:
    """Whether the peer has broken it off, or is known to be gone.

    For a connection from which nothing is read at the moment: an event loop that does not read does not notice.
    """
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED


def keep_alive(connection: socket.socket, *, idle: int = 60, interval: int = 15, count: int = 4) -> None:
    """Ask a silent peer whether it is still there; seconds. For a listener: its connections inherit it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
