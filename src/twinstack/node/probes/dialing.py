"""What goes wrong with a connection, in the words of Go's net package: kubelet's events quote them."""

from __future__ import annotations

import os
import socket

from twinstack.ip import Address, IPFamily


def join(host: str, port: int) -> str:
    """`10.0.0.1:80`, `[fd00::1]:80`, `name:80`."""
    try:
        bracketed = Address.parse(host).family is IPFamily.IPV6
    except ValueError:
        bracketed = False
    return f"[{host}]:{port}" if bracketed else f"{host}:{port}"


def dial_error(host: str, port: int, error: OSError) -> str:
    """Why a TCP connection could not be made."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(error, TimeoutError):
        return f"dial tcp {join(host, port)}: i/o timeout"
    return f"dial tcp {join(host, port)}: connect: {errno_text(error)}"


def errno_text(error: OSError) -> str:
    """`connection refused`, `no route to host`, …"""
    return os.strerror(error.errno).lower() if error.errno else str(error).lower()
