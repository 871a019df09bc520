"""What a client may ask of a connection."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. Those that upstream has are upstream's."""

    body: int = 3 << 20
    head: int = 128 << 10
    header_lines: int = 1000  # upstream's clients send a dozen
    connections: int = 1 << 15  # at a time; fewer where the system gives fewer descriptors
    pipeline: int = 16  # requests waiting behind one another on a connection
    handshake_timeout: float = 10.0
    head_timeout: float = 32.0
    body_timeout: float = 60.0
    request_timeout: float = 60.0
    idle_timeout: float = 100.0  # Go's clients drop idle connections after 90 s, so they never race with us
    stall_timeout: float = 60.0  # a peer that takes nothing of its answer
    look: float = 10.0  # how often a stream that may stand still is asked for its peer
    linger: float = 2.0  # between a refusal and the close
    sweep: float = 5.0  # how often deadlines are looked at
