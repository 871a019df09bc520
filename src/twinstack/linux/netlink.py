"""Netlink messages and the socket that carries them (RFC 3549, linux/netlink.h).

One codec for rtnetlink, nfnetlink and conntrack. Messages are bytes built by the modules beside this one;
the socket sends many in one system call and waits for their acknowledgements.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ROUTE, NETFILTER = 0, 12  # protocols

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300  # header flags
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP_INTERRUPTED = 0x10

NESTED = 0x8000

_ERROR, _DONE = 2, 3
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_ACK_TLVS = 0x200  # the error carries attributes after the echoed header
_ATTR_MESSAGE = 1
_LONGEST = 1 << 16  # the kernel answers by 32 KiB at most; for a longer buffer the C library maps memory each time

_SIOCGIFINDEX = 0x8933
_INDEX_REQUEST = struct.Struct("=16si20x")  # struct ifreq

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")


class NetlinkError(OSError):
    """The kernel refused message number `index` of a request; the text is the kernel's own if it gave one."""

    def __init__(self, code: int, index: int, detail: str) -> None:
        super().__init__(code, f"{os.strerror(code)}{': ' + detail if detail else ''} (message {index})")
        self.index = index
        self.detail = detail


class DumpInterrupted(Exception):
    """The kernel's table changed while it was being listed: list again."""


def attr(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTR.pack(4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute made of attributes."""
    return attr(kind | NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated string attribute."""
    return attr(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=B", value))


def u32(kind: int, value: int) -> bytes:
    """Host order, as rtnetlink wants it."""
    return attr(kind, struct.pack("=I", value))


def i32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=i", value))


def be16(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">H", value))


def be32(kind: int, value: int) -> bytes:
    """Network order, as nfnetlink wants it."""
    return attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A request; sequence number and acknowledgement are filled in when it is sent."""
    return _HEADER.pack(16 + len(body), kind, flags | REQUEST, 0, 0) + body


class Reply(NamedTuple):
    """One message of a dump."""

    kind: int
    flags: int
    body: bytes


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` from `offset` on, without the nested bit."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class NetlinkSocket:
    """A socket in the network namespace of the thread that makes it. Safe to share between threads."""

    def __init__(self, protocol: int, groups: int = 0, *, buffer: int = 8 << 20) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._lock = threading.Lock()
        self._sequence = 0
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, buffer)
            self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, max(buffer, 64 << 20))
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self._socket.bind((0, groups))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def request(self, messages: Sequence[bytes]) -> None:
        """Send messages in one call and wait until the kernel has worked on all.

        It goes on after one that it refused; raises NetlinkError for the first such. Refusals come without being
        asked for, so one acknowledgement, that of the last message, is enough.
        """
        if not messages:
            return
        with self._lock:
            first = self._sequence + 1
            self._sequence += len(messages)
            parts = [_stamp(m, first + i, 0) for i, m in enumerate(messages[:-1])]
            self._socket.send(b"".join([*parts, _stamp(messages[-1], self._sequence, ACK)]))
            failure = self._acknowledged(first, self._sequence)
        if failure is not None:
            raise failure

    def transaction(self, begin: bytes, messages: Sequence[bytes], end: bytes) -> None:
        """Send an nfnetlink batch: all or nothing, one acknowledgement. Raises NetlinkError."""
        with self._lock:
            first = self._sequence + 1
            last = first + len(messages) + 1
            self._sequence = last
            parts = [_stamp(begin, first, 0)]
            parts += [_stamp(m, first + 1 + i, 0) for i, m in enumerate(messages[:-1])]
            parts += [_stamp(messages[-1], last - 1, ACK), _stamp(end, last, 0)]
            self._socket.send(b"".join(parts))
            failure = self._acknowledged(last - 1, last - 1, base=first + 1)
        if failure is not None:
            raise failure

    def dump(self, kind: int, body: bytes, flags: int = DUMP) -> list[Reply]:
        """List; raises DumpInterrupted when the table changed meanwhile."""
        with self._lock:
            self._sequence += 1
            self._socket.send(_stamp(message(kind, flags, body), self._sequence, 0))
            replies: list[Reply] = []
            interrupted = False
            while True:
                for reply_kind, reply_flags, sequence, body_part in _split(self._socket.recv(_LONGEST)):
                    if sequence != self._sequence:
                        continue
                    interrupted |= bool(reply_flags & DUMP_INTERRUPTED)
                    if reply_kind in (_DONE, _ERROR):
                        failure = _failure(reply_flags, body_part, 0)
                        if failure is not None:
                            raise failure
                        if interrupted:
                            raise DumpInterrupted
                        return replies
                    replies.append(Reply(reply_kind, reply_flags, body_part))
                    if not flags & DUMP:
                        return replies

    def get(self, kind: int, body: bytes) -> Reply:
        """Ask for one object. Raises NetlinkError (ENOENT, ENODEV …)."""
        replies = self.dump(kind, body, 0)
        if not replies:
            raise NetlinkError(errno.ENOENT, 0, "")
        return replies[0]

    def index_of(self, name: str) -> int:
        """The index of the link of this name (netdevice(7)), for less than a look at the whole link costs.

        Raises OSError: ENODEV when there is none.
        """
        answer = fcntl.ioctl(self._socket, _SIOCGIFINDEX, _INDEX_REQUEST.pack(name.encode(), 0))
        return int(_INDEX_REQUEST.unpack(answer)[1])

    def receive(self) -> list[Reply]:
        """Read what a multicast group has sent; blocks unless the caller polled the descriptor."""
        return [Reply(kind, flags, body) for kind, flags, _, body in _split(self._socket.recv(_LONGEST))]

    def _acknowledged(self, first: int, last: int, base: int | None = None) -> NetlinkError | None:
        """Wait for the acknowledgement of `last`, or for the error that takes its place in a batch."""
        failure: NetlinkError | None = None
        origin = first if base is None else base
        while True:
            for kind, flags, sequence, body in _split(self._socket.recv(_LONGEST)):
                if kind != _ERROR or not origin - 1 <= sequence <= last + 1:
                    continue
                error = _failure(flags, body, sequence - origin)
                failure = failure or error
                if sequence == last or (base is not None and error is not None):
                    if base is not None and failure is not None:
                        self._drain()
                    return failure

    def _drain(self) -> None:
        """A refused batch may report several errors: throw the rest away."""
        while True:
            try:
                self._socket.recv(_LONGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return


def _stamp(data: bytes, sequence: int, flags: int) -> bytes:
    length, kind, old, _, port = _HEADER.unpack_from(data)
    return _HEADER.pack(length, kind, old | flags, sequence, port) + data[16:]


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _failure(flags: int, body: bytes, index: int) -> NetlinkError | None:
    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if code == 0:
        return None
    detail = ""
    if flags & _ACK_TLVS:
        for kind, value in attributes(body, 20):
            if kind == _ATTR_MESSAGE:
                detail = value.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(code, index, detail)
