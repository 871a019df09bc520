"""Bytes to requests: the callbacks of the HTTP parser, with the limits on what a client may send."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import httptools

from twinstack.api.errors import StatusError, bad_request
from twinstack.server.http.limits import Limits
from twinstack.server.http.targets import parse_target
from twinstack.server.messages import Request, UserInfo

_FORGOTTEN = Request(method="", path="", query={}, headers={}, body=b"", user=UserInfo(name=""))
_MOST_NAMES = 512

_names: dict[bytes, str] = {}  # header names seen before, so that they are made and kept once


class Refused(Exception):
    """What the client sends is not read further; `error` says why."""

    def __init__(self, error: StatusError) -> None:
        super().__init__(error.message)
        self.error = error


class Exchange:
    """A request read whole, and what its answer must know of it."""

    __slots__ = ("keep_alive", "old", "request", "upgrade")

    def __init__(self, request: Request, *, keep_alive: bool, old: bool, upgrade: bool) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.old = old  # HTTP/1.0: no chunks
        self.upgrade = upgrade

    def forget(self) -> None:
        """Let go of the request: a watch lives long, its headers need not."""
        self.request = _FORGOTTEN


class Receiver(Protocol):
    """Where requests go."""

    def head_begun(self) -> None: ...

    def head_read(self, *, wants_continue: bool) -> None: ...

    def request_read(self, exchange: Exchange) -> None: ...


class RequestReader:
    """One connection's incoming side.

    After a request that asks for an upgrade it only keeps what follows, in `held`, until it is told by
    `resume` or `take_held` what the answer was.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_head_size",
        "_header_lines",
        "_headers",
        "_limits",
        "_parser",
        "_receiver",
        "_target",
        "_user",
        "held",
        "in_body",
    )

    def __init__(self, receiver: Receiver, limits: Limits, user: UserInfo) -> None:
        self._receiver = receiver
        self._limits = limits
        self._user = user
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_lines = 0
        self._head_size = 0  # bytes that came while a head was open
        self._body: list[bytes] = []
        self._body_size = 0
        self.in_body = False
        self.held: bytearray | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        return not self.in_body and not self._head_size

    def feed(self, data: bytes) -> None:
        """Read on. Raises Refused."""
        if self.held is not None:
            self.held += data
            return
        if not self.in_body:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.held = bytearray(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            raise Refused(StatusError(400, "BadRequest", f"malformed HTTP request: {error}")) from error
        if not self.in_body and self._head_size > self._limits.head:
            raise Refused(_head_too_large())

    def take_held(self) -> bytes:
        """The upgrade was made: what came after the request belongs to the new protocol."""
        held, self.held = self.held, None
        return bytes(held or b"")

    def resume(self) -> None:
        """The upgrade was not made: what came after the request is HTTP. Raises Refused."""
        held = self.take_held()
        self._parser = httptools.HttpRequestParser(self)
        if held:
            self.feed(held)

    def end(self) -> None:
        """Break the circle with the parser."""
        self._parser = None

    # --- parser callbacks

    def on_message_begin(self) -> None:
        self._target = b""
        self._header_lines = 0
        self._body_size = 0
        self._receiver.head_begun()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body:
            return  # a trailer
        self._header_lines += 1
        if self._header_lines > self._limits.header_lines:
            raise Refused(_head_too_large())
        key = _names.get(name) or _header_name(name)
        text = value.decode("latin-1")
        present = self._headers.get(key)
        if present is not None and key == "host":
            raise Refused(bad_request("too many Host headers"))
        separator = "\n" if key.startswith("impersonate-") else ", "  # the names of groups may have commas
        self._headers[key] = text if present is None else f"{present}{separator}{text}"

    def on_headers_complete(self) -> None:
        self.in_body = True
        self._head_size = 0
        headers = self._headers
        if "host" not in headers and self._parser.get_http_version() != "1.0":
            raise Refused(bad_request("missing required Host header"))
        length = headers.get("content-length", "")
        if length and int(length) > self._limits.body:
            raise Refused(_body_too_large(self._limits))
        expects = headers.get("expect", "").lower() == "100-continue"
        self._receiver.head_read(wants_continue=expects and (bool(length) or "transfer-encoding" in headers))

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._body_size > self._limits.body:
            raise Refused(_body_too_large(self._limits))
        self._body.append(part)

    def on_message_complete(self) -> None:
        self.in_body = False
        parser, body = self._parser, self._body
        try:
            path, query = parse_target(self._target)
        except ValueError as error:
            raise Refused(bad_request(f"malformed HTTP request: {error}")) from error
        exchange = Exchange(
            Request(
                method=parser.get_method().decode("ascii"),
                path=path,
                query=query,
                headers=self._headers,
                body=(body[0] if len(body) == 1 else b"".join(body)) if body else b"",
                user=self._user,
                target=self._target,
            ),
            keep_alive=parser.should_keep_alive(),
            old=parser.get_http_version() == "1.0",
            upgrade=parser.should_upgrade(),
        )
        self._headers, self._body = {}, []
        self._receiver.request_read(exchange)


def _header_name(name: bytes) -> str:
    key = sys.intern(name.decode("latin-1").lower())
    if len(_names) < _MOST_NAMES:
        _names[name] = key
    return key


def _head_too_large() -> StatusError:
    return StatusError(431, "RequestHeaderFieldsTooLarge", "Request header fields too large")


def _body_too_large(limits: Limits) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limits.body}")
