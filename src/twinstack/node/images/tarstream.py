"""Reads tar archives that nobody vouches for: ustar, pax, GNU long names; with bounds, in one pass (pax(1)).

Nothing is believed but the bytes: headers have checksums, names and attributes have a largest length, what is read is
what the sizes say.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from twinstack.node.images.errors import ImageError

BLOCK = tarfile.BLOCKSIZE  # 512
CHUNK = 1 << 20
LONGEST_EXTENSION = 1 << 20  # bytes of a pax header or a long name
_ATTRIBUTE = "SCHILY.xattr."
_EXTENDED, _GLOBAL = tarfile.XHDTYPE, tarfile.XGLTYPE
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Reader(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes: ...


class Entry(NamedTuple):
    """One header: names are as they were written. `kind`: the type flag of tar (tarfile.REGTYPE …)."""

    name: str
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: float
    link: str
    size: int
    attributes: Mapping[str, bytes]

    @property
    def is_file(self) -> bool:
        return self.kind in REGULAR

    @property
    def is_directory(self) -> bool:
        return self.kind == tarfile.DIRTYPE


class TarStream:
    """Iterate over entries; read the content of each with `content` before the next one. `position`: bytes so far."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._left = 0  # of the present entry, with its padding
        self._unread = 0  # of its content
        self.position = 0

    def __iter__(self) -> Iterator[Entry]:
        """Raises ImageError for what is no tar archive."""
        local: dict[str, bytes] = {}
        everywhere: dict[str, bytes] = {}
        while True:
            self._skip()
            header = self._next_header()
            if header is None:
                return
            if header.type in (_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK):
                self._extend(header, local, everywhere)
                continue
            entry = _entry(header, everywhere | local)
            local = {}
            self._open(entry.size if entry.is_file else 0)
            yield entry

    def content(self) -> Iterator[bytes]:
        """The bytes of the present entry's file."""
        while self._unread:
            data = self._exactly(min(CHUNK, self._unread))
            self._unread -= len(data)
            self._left -= len(data)
            yield data

    def _open(self, size: int) -> None:
        self._unread = size
        self._left = size + -size % BLOCK

    def _skip(self) -> None:
        while self._left:
            self._left -= len(self._exactly(min(CHUNK, self._left)))
        self._unread = 0

    def _next_header(self) -> tarfile.TarInfo | None:
        block = self._read(BLOCK)
        if not block or not any(block):
            return None  # blocks of zeros end it
        if len(block) < BLOCK:
            raise ImageError("the archive is cut off in a header")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ImageError(f"not a tar archive: {error}") from None
        if header.size < 0:
            raise ImageError("an entry of the archive has a negative size")
        return header

    def _extend(self, header: tarfile.TarInfo, local: dict[str, bytes], everywhere: dict[str, bytes]) -> None:
        """What belongs to the next header, or to all that follow."""
        if header.size > LONGEST_EXTENSION:
            raise ImageError(f"an extended header of {header.size} bytes is too long")
        self._open(header.size)
        data = b"".join(self.content())
        if header.type == _LONG_NAME:
            local["path"] = data.rstrip(b"\0")
        elif header.type == _LONG_LINK:
            local["linkpath"] = data.rstrip(b"\0")
        else:
            target = everywhere if header.type == _GLOBAL else local
            target.update(_records(data))
            if sum(map(len, target.values())) > LONGEST_EXTENSION:
                raise ImageError("extended headers are too long")

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise ImageError("the archive is cut off")
        return data

    def _read(self, size: int) -> bytes:
        """Less only at the end."""
        data = self._source.read(size)
        while len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                break
            data += more
        self.position += len(data)
        return data


def _entry(header: tarfile.TarInfo, records: Mapping[str, bytes]) -> Entry:
    def number(key: str, otherwise: float) -> float:
        if key not in records:
            return otherwise
        try:
            return float(records[key]) if key == "mtime" else int(records[key])
        except ValueError:
            raise ImageError(f"an extended header has the {key} {records[key][:40]!r}") from None

    if any(key.startswith("GNU.sparse") for key in records) or header.type == tarfile.GNUTYPE_SPARSE:
        raise ImageError("sparse files in archives are not supported")
    path = _text(records.get("path"), header.name)
    kind = header.type
    if kind == tarfile.AREGTYPE and path.endswith("/"):
        kind = tarfile.DIRTYPE  # as archives before POSIX have it
    size = int(number("size", header.size))
    if size < 0:
        raise ImageError("an entry of the archive has a negative size")
    return Entry(
        name=path,
        kind=kind,
        mode=header.mode & 0o7777,
        uid=int(number("uid", header.uid)),
        gid=int(number("gid", header.gid)),
        mtime=number("mtime", header.mtime),
        link=_text(records.get("linkpath"), header.linkname),
        size=size,
        attributes={key[len(_ATTRIBUTE) :]: value for key, value in records.items() if key.startswith(_ATTRIBUTE)},
    )


def _text(value: bytes | None, otherwise: str) -> str:
    return otherwise if value is None else value.decode(errors="surrogateescape")


def _records(data: bytes) -> dict[str, bytes]:
    """`LENGTH KEY=VALUE\\n`, with the length of all of it in decimal."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        length, space, _ = data[at : at + 21].partition(b" ")
        end = at + int(length) if space and length.isdigit() else 0
        record = data[at + len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if end <= at or end > len(data) or not equals or not record.endswith(b"\n"):
            raise ImageError("an extended header is damaged")
        found[key.decode(errors="surrogateescape")] = value[:-1]
        at = end
    return found
