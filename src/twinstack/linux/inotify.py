"""Changes of files and directories as they happen (inotify(7))."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from twinstack.linux.syscalls import check, libc

MODIFY = 0x2
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200

_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_HEADER = struct.Struct("=iIII")


class Change(NamedTuple):
    """One event: which watch, what happened, and the name inside a watched directory."""

    watch: int
    mask: int
    name: str


class Inotify:
    """A non-blocking descriptor that becomes readable when something watched has changed."""

    def __init__(self) -> None:
        self._descriptor = check(libc.inotify_init1(_CLOEXEC | _NONBLOCK), "inotify_init1")

    def fileno(self) -> int:
        return self._descriptor

    def watch(self, path: str, mask: int) -> int:
        """Report changes of `path`; returns the watch's number. Raises OSError."""
        return check(libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask), f"watch {path}")

    def read(self) -> list[Change]:
        """What has happened since the last call; empty when nothing has."""
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        changes = []
        offset = 0
        while offset + _HEADER.size <= len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            changes.append(Change(watch, mask, os.fsdecode(name)))
            offset += length
        return changes

    def close(self) -> None:
        os.close(self._descriptor)
