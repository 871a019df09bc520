"""One GET of a probe or a lifecycle hook over a connection of its own (v1 HTTPGetAction, RFC 9112).

Certificates are not checked, redirects are followed within the same host. Failures are told in the words of Go's
HTTP client, which kubelet's events quote.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from twinstack.node.probes.dialing import dial_error, errno_text, join

HEAD_LIMIT = 64 << 10
BODY_LIMIT = 10 << 10  # as much of the answer as kubelet reads
REDIRECTS = 10


class HttpError(Exception):
    """No answer came; the text is Go's."""


class Target(NamedTuple):
    """Where to ask, and with which headers."""

    url: SplitResult
    headers: Sequence[tuple[str, str]]


class Response(NamedTuple):
    """`url` is the last one after redirects; `body` its first ten kilobytes."""

    status: int
    body: bytes
    url: SplitResult


def target(action: Mapping[str, Any], port: int, address: str, agent: str) -> Target:
    """From an HTTPGetAction; `address` is the pod's, used unless the action names a host."""
    scheme = (action.get("scheme") or "HTTP").lower()
    path, _, query = (action.get("path") or "/").partition("?")
    path = path if path.startswith("/") else f"/{path}"
    url = SplitResult(scheme, join(action.get("host") or address, port), path, query, "")
    given = [(str(h.get("name", "")), str(h.get("value", ""))) for h in action.get("httpHeaders") or []]
    return Target(url, _with_defaults(given, url, agent))


def _with_defaults(given: Sequence[tuple[str, str]], url: SplitResult, agent: str) -> list[tuple[str, str]]:
    """An empty User-Agent or Accept says that none is to be sent."""
    names = {name.lower() for name, _ in given}
    defaults = (("Host", url.netloc), ("User-Agent", agent), ("Accept", "*/*"))
    headers = [(name, value) for name, value in defaults if name.lower() not in names]
    headers += [(n, v) for n, v in given if v or n.lower() not in ("user-agent", "accept")]
    return [*headers, ("Connection", "close")]


async def get(where: Target, timeout: float) -> Response:
    """Raises HttpError. `timeout` covers all, redirects included."""
    try:
        async with asyncio.timeout(timeout):
            return await _follow(where)
    except TimeoutError:
        text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise HttpError(f'Get "{urlunsplit(where.url)}": {text}') from None


async def _follow(where: Target) -> Response:
    url, headers = where
    for _ in range(REDIRECTS):
        response, location = await _ask(url, headers)
        if response.status not in (301, 302, 303, 307, 308) or not location:
            return response
        elsewhere = urlsplit(urljoin(urlunsplit(url), location))
        if elsewhere.hostname != where.url.hostname or elsewhere.scheme not in ("http", "https"):
            return response
        url = elsewhere
        if any(name == "Host" for name, _ in headers):
            headers = [(name, url.netloc if name == "Host" else value) for name, value in headers]
    raise HttpError(f'Get "{urlunsplit(url)}": stopped after {REDIRECTS} redirects')


async def _ask(url: SplitResult, headers: Sequence[tuple[str, str]]) -> tuple[Response, str]:
    """The answer, and where it redirects to."""
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    query = f"?{url.query}" if url.query else ""
    lines = [f"GET {url.path or '/'}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    loop = asyncio.get_running_loop()
    try:
        _, reader = await loop.create_connection(
            lambda: _Reader(request), host, port, ssl=_unverified() if url.scheme == "https" else None
        )
    except ssl.SSLError as error:
        plain = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
        text = "http: server gave HTTP response to HTTPS client" if plain else f"tls: {error.reason or error}"
        raise HttpError(f'Get "{urlunsplit(url)}": {text}') from None
    except OSError as error:
        raise HttpError(f'Get "{urlunsplit(url)}": {dial_error(host, port, error)}') from None
    try:
        status, fields, body = await reader.answer
    except HttpError as error:
        raise HttpError(f'Get "{urlunsplit(url)}": {error}') from None
    finally:
        reader.close()
    return Response(status, body, url), fields.get("location", "")


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_Answer = tuple[int, dict[str, str], bytes]


class _Reader(asyncio.Protocol):
    """Sends a request and reads the answer, of its body no more than BODY_LIMIT."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._data = bytearray()
        self._body = -1  # where it begins
        self._status = 0
        self._fields: dict[str, str] = {}
        self.answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            if self._body < 0:
                self._read_head()
            if self._body >= 0 and self._is_whole():
                self._finish()
        except (ValueError, IndexError):
            first = bytes(self._data).split(b"\r\n")[0].decode("latin-1")
            self._fail(f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{first}"')

    def connection_lost(self, exc: Exception | None) -> None:
        if self._body >= 0:
            self._finish()
        elif isinstance(exc, OSError) and exc.errno:
            self._fail(f"read tcp: {errno_text(exc)}")
        else:
            self._fail("EOF")

    def close(self) -> None:
        self._transport.close()

    def _read_head(self) -> None:
        """Raises ValueError, IndexError."""
        while self._data and self._body < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                if len(self._data) > HEAD_LIMIT or not self._data.startswith(b"HTTP/1."[: len(self._data)]):
                    raise ValueError
                return
            first, *lines = self._data[:end].decode("latin-1").split("\r\n")
            self._status = int(first.split(" ")[1])
            if 100 <= self._status < 200:
                del self._data[: end + 4]  # the real answer is still to come
                continue
            self._fields = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            self._body = end + 4

    def _is_whole(self) -> bool:
        size = len(self._data) - self._body
        if size >= BODY_LIMIT or self._status in (204, 304):
            return True
        if "chunked" in self._fields.get("transfer-encoding", "").lower():
            return self._data.endswith(b"0\r\n\r\n")
        length = self._fields.get("content-length")
        return length is not None and size >= int(length)

    def _finish(self) -> None:
        if not self.answer.done():
            body = bytes(self._data[self._body : self._body + BODY_LIMIT])
            self.answer.set_result((self._status, self._fields, body))

    def _fail(self, text: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(HttpError(text))
