"""A container's output as its log: `TIME stdout|stderr F|P LINE` (CRI log format). P: the line goes on.

Imports nothing but os and time: the process that is left beside every container runs this.
"""

from __future__ import annotations

import os
import time

LONGEST_LINE = 16 << 10  # longer ones are split into parts, as the CRI does
LOG_SIZE = 10 << 20  # bytes after which the log is moved to `.1` and begun anew
_NAMES = {1: b" stdout ", 2: b" stderr "}


class Log:
    """Writes one log. Streams are 1 and 2, as descriptors are."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = {1: b"", 2: b""}
        self._second = 0
        self._prefix = b""
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def write(self, stream: int, data: bytes) -> None:
        """A piece of a stream; empty at its end, where a line without an end is written, too."""
        name = _NAMES[stream]
        lines = (self._rest[stream] + data).split(b"\n")
        rest = lines.pop()
        parts = [record for line in lines for record in self._records(name, line)]
        while len(rest) > LONGEST_LINE or (rest and not data):
            parts.append(self._stamp() + name + b"P " + rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._rest[stream] = rest
        if parts:
            self._append(b"\n".join(parts) + b"\n")

    def unfinished(self, stream: int) -> bytes:
        """The line that has been begun on a stream, and is not in the log yet."""
        return self._rest[stream]

    def _records(self, name: bytes, line: bytes) -> list[bytes]:
        stamp = self._stamp()
        records = []
        while len(line) > LONGEST_LINE:
            records.append(stamp + name + b"P " + line[:LONGEST_LINE])
            line = line[LONGEST_LINE:]
        records.append(stamp + name + b"F " + line)
        return records

    def _stamp(self) -> bytes:
        """RFC 3339 with nanoseconds, in UTC."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%s.%09dZ" % (self._prefix, nanoseconds)

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > LOG_SIZE:
            os.close(self._file)
            os.rename(self._path, self._path + ".1")
            self._open()
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)
