"""HTTP to a registry: connections of both families, TLS, redirects. Blocks; works in a thread.

A request goes to the first address that answers, of the registry or of the proxy that the environment names
(`proxies`). Names are looked up with a limit, because a machine without a network would wait for its resolver half a
minute.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import queue
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

from twinstack.node.images import proxies
from twinstack.node.images.access import Access
from twinstack.node.images.errors import ImageError

CONNECT, ANSWER = 5.0, 30.0  # seconds for a name or an address, and between bytes
_REDIRECTS = 6
_ERRORS = (OSError, http.client.HTTPException)


class Unreachable(ImageError):
    """No answer; another attempt may get one. `hopeless`: not soon."""

    def __init__(self, text: str, *, hopeless: bool = False) -> None:
        super().__init__(text)
        self.hopeless = hopeless


class Answer:
    """Status and headers, and the body to read. Close it."""

    def __init__(self, url: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self._connection = connection
        self._response = response

    def read(self, size: int = -1, /) -> bytes:
        """Raises Unreachable when the connection breaks."""
        try:
            return self._response.read(size)
        except _ERRORS as error:
            raise Unreachable(f'Get "{self.url}": {_text(error)}') from None

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """Requests to registries and to what they refer to."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._plain: set[str] = set()  # hosts that do not speak TLS
        self._contexts: dict[str, ssl.SSLContext] = {}

    def base(self, host: str) -> str:
        """The URL of a registry."""
        return f"{'http' if host in self._plain else 'https'}://{host}"

    def get(self, url: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes | None = None) -> Answer:
        """Follow redirects. Authorization goes to the first host only. Raises Unreachable, ImageError."""
        first = urllib.parse.urlsplit(url)
        own = dict(headers)
        for _ in range(_REDIRECTS):
            answer = self._send(url, own, method, body)
            target = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            answer.close()
            came, url = answer.url, urllib.parse.urljoin(answer.url, target)
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ImageError(f'Get "{came}": it leads to {url[:200]!r}')
            if parts.scheme == "http" and came.startswith("https:") and not self.may_be_plain(parts.netloc):
                raise ImageError(f'Get "{came}": it leads to {parts.netloc} without TLS')
            if parts.netloc != first.netloc:
                own.pop("Authorization", None)
        raise ImageError(f'Get "{url}": more than {_REDIRECTS} redirects')

    def may_be_plain(self, host: str) -> bool:
        """Whether plain HTTP is good enough for it."""
        return host in self._access.insecure or _is_loopback(_split(host)[0])

    def _send(self, url: str, headers: Mapping[str, str], method: str, body: bytes | None) -> Answer:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if "@" in host:
            raise ImageError(f'Get "{url}": a user in the host is not supported')
        if parts.scheme == "http" and host not in self._plain and not self.may_be_plain(host):
            raise ImageError(f'Get "{url}": {host} is neither on loopback nor among the insecure registries')
        plain = parts.scheme == "http"
        proxy = _proxy(host, plain=True) if plain else None
        sent = {"User-Agent": "twinstack", **headers}
        if proxy is not None and proxy.authorization:
            sent["Proxy-Authorization"] = proxy.authorization
        connection = self._connection(url, host, plain=plain)
        try:
            connection.request(method, path if proxy is None else url, body=body, headers=sent)
            return Answer(url, connection, connection.getresponse())
        except ssl.SSLError as error:
            connection.close()
            raise ImageError(f'{method.title()} "{url}": tls: {_text(error)}') from None
        except _ERRORS as error:
            connection.close()
            raise Unreachable(f'{method.title()} "{url}": {_text(error)}') from None

    def _connection(self, url: str, host: str, *, plain: bool) -> http.client.HTTPConnection:
        """Connected, with TLS unless `plain`."""
        name, port = _split(host)
        port = port or (80 if plain else 443)
        proxy = _proxy(host, plain=plain)
        raw = _dial(url, name, port) if proxy is None else _dial(url, proxy.host, proxy.port)
        if proxy is not None and not plain:
            try:
                proxies.tunnel(raw, proxy, name, port)
            except (OSError, ImageError) as error:
                raw.close()
                raise Unreachable(f'Get "{url}": {_text(error)}') from None
        connection = http.client.HTTPConnection(host, timeout=ANSWER)
        if plain:
            connection.sock = raw
            return connection
        try:
            connection.sock = self._context(host).wrap_socket(raw, server_hostname=name)
        except ssl.SSLError as error:
            raw.close()
            raise NoTLS(f'Get "{url}": tls: {_text(error)}') from None
        except OSError as error:
            raw.close()
            raise Unreachable(f'Get "{url}": {_text(error)}') from None
        return connection

    def find_scheme(self, host: str) -> None:
        """Ask a registry that may speak plain HTTP by TLS first. Raises Unreachable, ImageError."""
        if not self.may_be_plain(host) or host in self._plain:
            return
        url = f"https://{host}/v2/"
        try:
            self._connection(url, host, plain=False).close()
        except NoTLS as error:
            if "certificate" in str(error).lower():
                raise
            self._plain.add(host)
        except Unreachable as error:
            if error.hopeless:
                raise
            self._plain.add(host)  # it broke off what it did not understand

    def _context(self, host: str) -> ssl.SSLContext:
        known = self._contexts.get(host)
        if known is not None:
            return known
        context = ssl.create_default_context()
        place = self._access.certificates / host
        if place.is_dir():
            for authority in sorted(place.glob("*.crt")):
                context.load_verify_locations(cafile=str(authority))
            for own in sorted(place.glob("*.cert")):
                context.load_cert_chain(str(own), str(own.with_suffix(".key")))
        if host in self._access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._contexts[host] = context
        return context


class NoTLS(ImageError):
    """The handshake failed."""


def _proxy(host: str, *, plain: bool) -> proxies.Proxy | None:
    name, port = _split(host)
    return proxies.find(os.environ, "http" if plain else "https", name, port or (80 if plain else 443))


def _dial(url: str, name: str, port: int) -> socket.socket:
    """A connection to the first of the addresses that takes one. Raises Unreachable."""
    problems = []
    for family, kind, protocol, _, address in _look_up(url, name, port):
        own = socket.socket(family, kind, protocol)
        try:
            own.settimeout(CONNECT)
            own.connect(address)
        except OSError as error:
            own.close()
            problems.append(f"dial tcp {_address(address)}: {_text(error)}")
            continue
        own.settimeout(ANSWER)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return own
    raise Unreachable(f'Get "{url}": {"; ".join(problems)}', hopeless=True)


def _look_up(url: str, name: str, port: int) -> list[Any]:
    """getaddrinfo(3) in a thread of its own, which is not waited for longer than CONNECT. Raises Unreachable."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look, name="resolver", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        found = answers.get(timeout=CONNECT)
        if isinstance(found, list):
            return found
        reason = "no such host" if isinstance(found, socket.gaierror) else _text(found)
        raise Unreachable(f'Get "{url}": dial tcp: lookup {name}: {reason}', hopeless=True)
    raise Unreachable(f'Get "{url}": dial tcp: lookup {name}: no answer within {CONNECT:.0f} s', hopeless=True)


def _split(host: str) -> tuple[str, int]:
    """Name and port, 0 if there is none; an IPv6 address without its brackets. Raises ImageError."""
    parts = urllib.parse.urlsplit(f"//{host}")
    try:
        return parts.hostname or "", parts.port or 0
    except ValueError:
        raise ImageError(f"{host} has a port that cannot be") from None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _address(address: tuple[Any, ...]) -> str:
    return f"[{address[0]}]:{address[1]}" if len(address) > 2 else f"{address[0]}:{address[1]}"


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"failed to verify certificate: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
