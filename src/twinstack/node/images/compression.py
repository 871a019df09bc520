"""Compressed streams, known by their first bytes: gzip (RFC 1952), zstd (RFC 8878), or none."""

from __future__ import annotations

import ctypes
import functools
import gzip
import hashlib
import io
import zlib
from typing import Any, Protocol

from twinstack.node.images.errors import ImageError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 18


class Reader(Protocol):
    """What bytes come from; fewer than asked for come at the end only."""

    def read(self, size: int = -1, /) -> bytes: ...


class Hashed:
    """A reader that knows the SHA-256 of what went through it, and lets no more than `limit` bytes through."""

    def __init__(self, source: Reader, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._hash = hashlib.sha256()
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            raise ValueError("an unbounded read")
        data = self._source.read(size)
        self.count += len(data)
        if self.count > self._limit:
            raise ImageError(f"more than the {self._limit} bytes that are allowed here")
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """Read what is left."""
        while self.read(_CHUNK):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def is_compressed(head: bytes) -> bool:
    """Whether a stream that begins like that has to be decompressed."""
    return head.startswith((_GZIP, _ZSTD))


def opened(source: Reader) -> Reader:
    """The content of a stream, decompressed if it is compressed. Reading raises ImageError where it is damaged."""
    head = source.read(4)
    whole = _Prefixed(head, source)
    if head.startswith(_GZIP):
        return _Gunzip(whole)
    if head.startswith(_ZSTD):
        return _Unzstd(whole)
    return whole


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, source: Reader) -> None:
        self._head = head
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


class _Gunzip:
    def __init__(self, source: _Prefixed) -> None:
        self._file = gzip.GzipFile(fileobj=source, mode="rb")

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._file.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ImageError(f"damaged gzip stream: {error}") from None


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer: an address, the size there, and how far it has been used."""

    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("used", ctypes.c_size_t)]


@functools.cache
def _libzstd() -> Any:
    """The C library, which Debian's package management itself needs: no dependency for what few layers use."""
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError:
        raise ImageError("a zstd layer needs the library libzstd.so.1 (Debian: apt install libzstd1)") from None
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer)]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library


class _Unzstd:
    def __init__(self, source: Reader) -> None:
        self._library = _libzstd()
        self._stream = self._library.ZSTD_createDStream()
        if not self._stream:
            raise MemoryError("ZSTD_createDStream")
        self._source = source
        self._in = ctypes.create_string_buffer(_CHUNK)
        self._given = _Buffer(ctypes.addressof(self._in), 0, 0)
        self._due = 0  # what the last call said: 0 at the end of a frame
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        out = ctypes.create_string_buffer(size)
        taken = _Buffer(ctypes.addressof(out), size, 0)
        while taken.used < size:
            if self._given.used == self._given.size and not self._ended:
                self._refill()
            if self._ended and self._due == 0:
                break
            before = taken.used
            self._due = self._library.ZSTD_decompressStream(
                self._stream, ctypes.byref(taken), ctypes.byref(self._given)
            )
            if self._library.ZSTD_isError(self._due):
                name = self._library.ZSTD_getErrorName(self._due).decode()
                raise ImageError(f"damaged zstd stream: {name}")
            if self._ended and taken.used == before:
                raise ImageError("damaged zstd stream: it is cut off")
        return out.raw[: taken.used]

    def _refill(self) -> None:
        data = self._source.read(_CHUNK)
        ctypes.memmove(self._in, data, len(data))
        self._given.size, self._given.used = len(data), 0
        self._ended = not data

    def __del__(self) -> None:
        if getattr(self, "_stream", None):
            self._library.ZSTD_freeDStream(self._stream)
