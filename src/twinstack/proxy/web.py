"""The few pages a proxy shows, over HTTP/1.1 without TLS (RFC 9112): one request a connection."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from twinstack.ip import Address, IPFamily

_LONGEST_REQUEST = 16 << 10
_PATIENCE = 10.0  # seconds a client may take to say what it wants

log = logging.getLogger(__name__)


class Page(NamedTuple):
    """An answer. The content type is never guessed by the browser."""

    code: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()  # more of them


def plain(text: str, code: int = 200) -> Page:
    return Page(code, "text/plain; charset=utf-8", text.encode())


Pages = Mapping[str, Callable[[], Page]] | Callable[[], Page]  # by path, or one for every path


class _Exchange(asyncio.Protocol):
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own are no subclass
        self._deadline = asyncio.get_running_loop().call_later(_PATIENCE, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._transport is None or self._transport.is_closing():
            return
        if b"\r\n\r\n" in self._received:
            self._answer(self._received.split(b"\r\n", 1)[0])
        elif len(self._received) > _LONGEST_REQUEST:
            self._transport.abort()

    def _answer(self, request: bytes) -> None:
        assert self._transport is not None
        words = request.decode("ascii", "replace").split(" ")
        page = plain("bad request\n", 400) if len(words) != 3 else self._page(words[0], words[1])
        head = (
            f"HTTP/1.1 {page.code} {http.HTTPStatus(page.code).phrase}\r\n"
            f"Content-Type: {page.content_type}\r\nX-Content-Type-Options: nosniff\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in page.headers)
            + f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + (b"" if words[0] == "HEAD" else page.body))
        self._transport.close()

    def _page(self, method: str, target: str) -> Page:
        show = self._pages if callable(self._pages) else self._pages.get(target.partition("?")[0])
        if show is None:
            return plain("not found\n", 404)
        if method not in ("GET", "HEAD"):
            return plain("method not allowed\n", 405)
        return show()


def parse_endpoint(text: str) -> tuple[str, int]:
    """`address:port`, `[address]:port` or an address alone with port 0. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"not address:port: {text!r}")
    return str(Address.parse(host)), int(port)


async def serve(endpoint: str, pages: Pages) -> asyncio.Server:
    """Show the pages at `address:port`. The IPv6 wildcard takes IPv4 too. Raises OSError, ValueError."""
    host, port = parse_endpoint(endpoint)
    address = Address.parse(host)
    loop = asyncio.get_running_loop()
    if address == Address(IPFamily.IPV6, 0):
        import socket

        sock = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        return await loop.create_server(lambda: _Exchange(pages), sock=sock)
    return await loop.create_server(lambda: _Exchange(pages), host, port)
