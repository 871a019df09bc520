"""Which port of the host the API server of a new cluster gets."""

from __future__ import annotations

import socket
from collections.abc import Collection

from twinstack.cluster.configuration import DEFAULT_API_PORT
from twinstack.cluster.errors import ClusterError

_CANDIDATES = 100


def choose(wanted: int | None, taken: Collection[int]) -> int:
    """`wanted`, or the first free port from 6443 on that no other cluster (`taken`) has. Raises ClusterError."""
    if wanted is not None:
        if not 1 <= wanted <= 65535:
            raise ClusterError(f"--api-port {wanted}: a port is a number from 1 to 65535")
        if wanted in taken or not _is_free(wanted):
            raise ClusterError(f"--api-port {wanted} is in use", "choose another one, or leave the flag out")
        return wanted
    for port in range(DEFAULT_API_PORT, DEFAULT_API_PORT + _CANDIDATES):
        if port not in taken and _is_free(port):
            return port
    raise ClusterError(
        f"no port from {DEFAULT_API_PORT} to {DEFAULT_API_PORT + _CANDIDATES - 1} is free", "give one with --api-port"
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
