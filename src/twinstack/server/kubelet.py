"""One GET from a node's kubelet API, its body streamed (HTTP/1.1 over TLS with the server's client certificate)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import httptools

from twinstack.ip import Address, IPFamily
from twinstack.server.egress import Egress, Unreachable

_PATIENCE = 30.0  # seconds until the head of an answer
_HIGH = 1 << 18  # bytes waiting for the reader before the node is told to wait


class KubeletAnswer(asyncio.Protocol):
    """The answer as it comes: `head` first, then `read` until it is empty; `close` at the end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._status = 0
        self._complete = False
        self._failure: Exception | None = None
        self._changed: asyncio.Event = asyncio.Event()

    # --- transport and parser callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._failure = Unreachable(f"malformed HTTP response: {error}")
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._failure = self._failure or exc
        self.end()

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._changed.set()

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > _HIGH and self._transport is not None:
            self._transport.pause_reading()
        self._changed.set()

    def on_message_complete(self) -> None:
        self.end()

    # --- for the reader

    async def head(self) -> int:
        """The answer's status. Raises Unreachable."""
        while not self._status:
            if self._complete:
                raise Unreachable(f"unexpected end of the connection: {self._failure or 'EOF'}")
            await self._next()
        return self._status

    async def read(self) -> bytes:
        """The next bytes of the body; empty at its end. A body that breaks off ends, as upstream's does."""
        while not self._parts and not self._complete:
            await self._next()
        data = b"".join(self._parts)
        self._parts.clear()
        if self._size > _HIGH and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._size = 0
        return data

    async def _next(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def end(self) -> None:
        """Nothing more will come, or be wanted."""
        self._complete = True
        self._changed.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class KubeletClient:
    """Speaks to the kubelets of all nodes. `context` is called once, when the first connection needs it."""

    def __init__(self, egress: Egress, context: Callable[[], ssl.SSLContext]) -> None:
        self._egress = egress
        self._make_context = context
        self._context: ssl.SSLContext | None = None

    async def get(self, address: Address, port: int, target: str) -> tuple[int, KubeletAnswer]:
        """The status of `GET target` and its body, the caller's to close. Raises Unreachable."""
        if self._context is None:
            self._context = self._make_context()
        host = f"[{address}]" if address.family is IPFamily.IPV6 else str(address)
        # No `Connection: close`: the event loop drops what a paused reader has not taken when a peer closes.
        request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        answer = KubeletAnswer(request)
        sock = await self._egress.connect(address, port)
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.get_running_loop().create_connection(
                    lambda: answer, sock=sock, ssl=self._context, server_hostname=str(address)
                )
                return await answer.head(), answer
        except (TimeoutError, ssl.SSLError, OSError) as error:
            answer.close()
            sock.close()
            reason = "i/o timeout" if isinstance(error, TimeoutError) else str(error)
            raise Unreachable(reason) from error
        except BaseException:
            answer.close()
            raise


def kubelet_context(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """TLS towards kubelets: our client certificate, and theirs checked when an authority is given, as upstream.

    Raises OSError and ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(cafile=authority)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
