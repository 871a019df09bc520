"""What an HTTP connection writes to: a TCP transport, or TLS on top of one."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

from twinstack.server.http.limits import Limits

log = logging.getLogger(__name__)

_PLAIN_HTTP = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

# Every connection reads into the same buffer: the event loop asks for it right before a read and hands it back
# before it does anything else, and what was read is decrypted at once.
_SHARED = bytearray(1 << 16)
_SHARED_VIEW = memoryview(_SHARED)

# Long bodies are encrypted by the piece: the allocator gives the same memory again and again, where megabytes would
# be mapped, filled with zeros and unmapped for each of the copies on the way.
_PORTION = 64 << 10


class Wire(Protocol):
    """The part of asyncio's transports that connections use."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...

    def get_extra_info(self, name: str) -> Any: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class WireProtocol(Protocol):
    """What a wire calls, as transports call asyncio protocols."""

    def connected(self, wire: Wire) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Connection(Protocol):
    """What the server knows of a connection, in its handshake or after it."""

    deadline: float

    def expire(self) -> None: ...

    def stop(self) -> None: ...

    def cancel(self) -> None: ...

    def abort(self) -> None: ...


class Connections(Protocol):
    """Where connections report that they have begun and ended."""

    def began(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection) -> None: ...


class TLSWire(asyncio.BufferedProtocol):
    """TLS between a TCP transport and a protocol, which is made once the handshake is through.

    It holds 15 KB where a transport of the event loop holds 40 KB, its write buffer's size is the truth, and what a
    paused reader has not taken is still there when the peer has closed. `peer`: the server's name; this side is then
    the client. `error` says why a handshake failed.
    """

    __slots__ = ("_factory", "_incoming", "_outgoing", "_owner", "_protocol", "_tcp", "_tls", "deadline", "error")

    def __init__(
        self,
        owner: Connections,
        context: ssl.SSLContext,
        limits: Limits,
        factory: Callable[[], WireProtocol],
        peer: str | None = None,
    ) -> None:
        self._owner = owner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=peer is None, server_hostname=peer)
        self._factory = factory
        self._protocol: WireProtocol | None = None
        self.error: ssl.SSLError | None = None
        self.deadline = asyncio.get_running_loop().time() + limits.handshake_timeout

    # --- TCP below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast("asyncio.Transport", transport)
        self._owner.began(self)
        if not self._tls.server_side:
            self._shake_hands()

    def get_buffer(self, sizehint: int) -> bytearray:
        return _SHARED

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(_SHARED_VIEW[:nbytes])
        if self._protocol is None and not self._shake_hands():
            return
        protocol = cast("WireProtocol", self._protocol)
        tls, incoming = self._tls, self._incoming
        try:
            while data := tls.read(1 << 16):  # one TLS record
                protocol.data_received(data)
                if not incoming.pending and not tls.pending():
                    break  # cheaper than to be told so by an exception
            else:
                self.close()  # the peer has said good-bye
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            log.debug("TLS connection broken: %s", error)
            self._tcp.abort()
        if self._outgoing.pending:  # answers of TLS itself, such as to a key update
            self._flush()

    def _shake_hands(self) -> bool:
        """One step of the handshake; whether it is through."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            log.debug("TLS handshake failed: %s", error)
            self.error = error
            if error.reason == "HTTP_REQUEST":
                self._tcp.write(_PLAIN_HTTP)
            self._flush()  # the alert that tells the client why
            self._tcp.close()
            return False
        self._flush()
        self._owner.ended(self)  # the protocol takes its place
        self._protocol = self._factory()
        self._protocol.connected(self)
        return True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)
        else:
            self._owner.ended(self)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # --- the wire above

    def write(self, data: bytes) -> None:
        tcp = self._tcp
        if tcp.is_closing():
            return
        if len(data) <= _PORTION:
            self._tls.write(data)
            tcp.write(self._outgoing.read())
            return
        view = memoryview(data)
        written = 0
        while written < len(data):
            written += self._tls.write(view[written : written + _PORTION])
            tcp.write(self._outgoing.read())

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._tcp.write(data)

    def close(self) -> None:
        """Say good-bye and close once everything is written."""
        if self._tcp.is_closing():
            return
        with suppress(ssl.SSLError):  # the peer's good-bye is not waited for
            self._tls.unwrap()
        self._flush()
        self._tcp.close()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def get_extra_info(self, name: str) -> Any:
        if name in ("peercert", "peercert_der"):
            return self._tls.getpeercert(binary_form=name == "peercert_der")
        return self._tcp.get_extra_info(name)

    def pause_reading(self) -> None:
        if not self._tcp.is_closing():
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        if not self._tcp.is_closing():
            self._tcp.resume_reading()

    # --- the server, while there is no protocol yet

    def expire(self) -> None:
        self._tcp.abort()

    def stop(self) -> None:
        self._tcp.abort()

    def cancel(self) -> None:
        self._tcp.abort()
