"""Reads a container's log as `kubectl logs` wants it (v1 PodLogOptions, CRI log format).

A record is `TIME stdout|stderr F|P TEXT`: P is a part of a line that goes on in the next record. A full log is
moved to `.1` and begun anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

CHUNK = 64 << 10
_UTC = b"+00:00"  # how conmon writes it


class LogOptions(NamedTuple):
    """What part of a log, in what form. `since` is the start of a record's time, as the log spells it."""

    follow: bool = False
    tail_lines: int | None = None
    since: bytes = b""
    timestamps: bool = False
    limit_bytes: int | None = None


class LogReader:
    """One reading of one log. `read` gives what there is now; call it again when there is more."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path = path
        self._options = options
        self._left = options.limit_bytes
        self._rest = b""
        self._line_begins = True
        self._files = [file for file in (_open(path.with_name(path.name + ".1")), _open(path)) if file is not None]
        if options.tail_lines is not None:
            self._skip_to_tail(options.tail_lines)

    @property
    def exhausted(self) -> bool:
        """Whether the limit of bytes is reached."""
        return self._left is not None and self._left <= 0

    def read(self) -> Iterator[bytes]:
        """The output up to the log's present end, in pieces."""
        while not self.exhausted:
            data = self._next()
            if not data:
                return
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            output = b"".join(map(self._format, lines))
            if self._left is not None:
                output = output[: self._left]
                self._left -= len(output)
            if output:
                yield output

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _next(self) -> bytes:
        """The next bytes of the log, across its parts; empty at the present end."""
        while self._files:
            data = self._files[0].read(CHUNK)
            if data:
                return data
            if len(self._files) == 1 and not self._follow_rotation():
                return b""
            self._files.pop(0).close()
            self._rest = b""  # a part ends with a whole record
        newest = _open(self._path)
        if newest is None:
            return b""
        self._files.append(newest)
        return newest.read(CHUNK)

    def _follow_rotation(self) -> bool:
        """Open the log that was begun after the one at hand, if there is one."""
        newest = _open(self._path)
        if newest is None:
            return False
        if os.path.samestat(os.fstat(newest.fileno()), os.fstat(self._files[-1].fileno())):
            newest.close()
            return False
        self._files.append(newest)
        return True

    def _format(self, record: bytes) -> bytes:
        time, _, rest = record.partition(b" ")
        if time.endswith(_UTC):
            time = time[: -len(_UTC)] + b"Z"  # as kubelet shows it
        if time < self._options.since:
            return b""
        _, _, rest = rest.partition(b" ")
        tag, _, text = rest.partition(b" ")
        begins, self._line_begins = self._line_begins, not tag.startswith(b"P")
        prefix = time + b" " if self._options.timestamps and begins else b""
        return prefix + text + (b"\n" if self._line_begins else b"")

    def _skip_to_tail(self, lines: int) -> None:
        """Move the newest part that holds enough lines to where they begin, and drop the older ones."""
        for index in reversed(range(len(self._files))):
            lines = _seek_lines(self._files[index], lines)
            if lines == 0:
                for file in self._files[:index]:
                    file.close()
                del self._files[:index]
                return


def _open(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        return None


def _seek_lines(file: BinaryIO, lines: int) -> int:
    """Seek to the last `lines` whole lines; returns how many of them the file does not have.

    Continued records (P) count as part of their line.
    """
    end = file.seek(0, os.SEEK_END)
    if lines == 0:
        return 0
    data, position = b"", end
    while position > 0:
        step = min(CHUNK, position)
        position -= step
        file.seek(position)
        data = file.read(step) + data
        starts = _line_starts(data, at_start=position == 0)
        if len(starts) >= lines:
            file.seek(position + starts[-lines])
            return 0
    file.seek(0)
    return lines - len(_line_starts(data, at_start=True))


def _line_starts(data: bytes, *, at_start: bool) -> list[int]:
    """Where lines begin in a piece of a log; the first record counts only if the piece begins with it."""
    starts = []
    begins = True
    offset = 0 if at_start else data.find(b"\n") + 1
    if not at_start and offset == 0:
        return []
    if not at_start:
        begins = not _is_part(data[:offset])
    while offset < len(data):
        end = data.find(b"\n", offset)
        if end < 0:
            break
        if begins:
            starts.append(offset)
        begins = not _is_part(data[offset:end])
        offset = end + 1
    return starts


def _is_part(record: bytes) -> bool:
    fields = record.split(b" ", 3)
    return len(fields) > 2 and fields[2] == b"P"
