"""By which proxy a registry is reached: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment, in capitals or small.

Read as containerd and the docker client do (golang.org/x/net/http/httpproxy): whoever is on loopback is reached
directly; NO_PROXY is a list of names, which stand for those below them, too, of `.names` and `*.names`, which stand for
those below alone, of addresses and blocks, each but a block with a port if need be, or `*`.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from twinstack.node.images.errors import ImageError

_LONGEST_ANSWER = 1 << 16


class Proxy(NamedTuple):
    """`authorization`: the value of its header; empty without a user in the URL."""

    host: str
    port: int
    authorization: str = ""


def find(environment: Mapping[str, str], scheme: str, name: str, port: int) -> Proxy | None:
    """What leads to a server; None for itself. Raises ImageError for what cannot be read."""
    text = _variable(environment, f"{scheme}_proxy")
    if not text or not _is_for(_variable(environment, "no_proxy"), name.lower().rstrip("."), port):
        return None
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("only http:// is supported")
        user = urllib.parse.unquote(f"{parts.username or ''}:{parts.password or ''}")
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}" if user != ":" else ""
        return Proxy(parts.hostname, parts.port or 80, authorization)
    except ValueError as error:
        raise ImageError(f"{scheme.upper()}_PROXY: {error}") from None


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""


def _is_for(exceptions: str, name: str, port: int) -> bool:
    """Whether the proxy is asked for this server."""
    address = _address(name)
    if name == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_excepts(each.strip().lower(), name, address, port) for each in exceptions.split(","))


def _excepts(entry: str, name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    if "/" in entry:
        try:
            block = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
        return address is not None and address in block
    host = entry
    if _address(entry) is None:
        host, colon, wanted = entry.rpartition(":")
        if not colon:
            host = entry
        elif wanted != str(port):
            return False
    host = host.removeprefix("[").removesuffix("]").removeprefix("*")
    other = _address(host)
    if other is not None or address is not None:
        return other == address
    return name.endswith(host if host.startswith(".") else f".{host}") or name == host


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def tunnel(connection: socket.socket, proxy: Proxy, name: str, port: int) -> None:
    """Have the proxy connect to a server (RFC 9110, CONNECT). Raises OSError, ImageError."""
    target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "User-Agent: twinstack"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what follows is the server's
        part = connection.recv(1)
        if not part or len(answer) > _LONGEST_ANSWER:
            raise ImageError(f"proxyconnect tcp: {proxy.host}:{proxy.port} does not answer as a proxy does")
        answer += part
    status, _, reason = answer.partition(b"\r\n")[0].decode(errors="replace").partition(" ")[2].partition(" ")
    if not status.startswith("2"):
        raise ImageError(f"proxyconnect tcp: {proxy.host}:{proxy.port}: {reason or status}")
