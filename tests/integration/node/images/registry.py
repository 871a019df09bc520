"""A registry for tests: the pulling half of the distribution API, on loopback, with what can go wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.node.images.making import Made, sha256

USER, PASSWORD, TOKEN = "me", "secret:word", "token-1"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Registry(ThreadingHTTPServer):
    """`authentication`: "", "basic" or "bearer". `requests`: method, path and headers of all that were made.

    `cut`: after how many bytes the connection ends, once for each number. `busy`: how many requests are told to come
    again. `away`: where blobs are instead. `hold`: blobs wait for it.
    """

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, host: str, context: ssl.SSLContext | None = None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        port = self.server_address[1]
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.scheme = "http" if context is None else "https"
        self.authentication = ""
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cut: list[int] = []
        self.busy = 0
        self.away = ""
        self.hold: threading.Event | None = None

    def push(self, made: Made, path: str, tag: str) -> None:
        self.blobs |= made.blobs
        self.add_manifest(path, tag, made.manifest, made.descriptor["mediaType"])

    def add_manifest(self, path: str, tag: str, data: bytes, kind: str) -> None:
        for name in (tag, sha256(data)):
            self.manifests[f"/v2/{path}/manifests/{name}"] = data, kind

    def asked(self, part: str) -> list[dict[str, str]]:
        """Headers of requests for paths with this in them."""
        return [headers for _, path, headers in self.requests if part in path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away when they please."""


@contextmanager
def running(host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Iterator[Registry]:
    registry = Registry(host, context)
    thread = threading.Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        if registry.hold is not None:
            registry.hold.set()
        registry.shutdown()
        thread.join()
        registry.server_close()


class Proxy(socketserver.ThreadingTCPServer):
    """Connects whoever asks by CONNECT to one port of loopback, whatever the name; `asked` holds the requests."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.port = port
        self.asked: list[str] = []
        self.refusal = ""


class _Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        words = self.rfile.readline().decode()
        headers = list(iter(self.rfile.readline, b"\r\n"))
        self.server.asked.append(words.strip())
        if self.server.refusal or b"Proxy-Authorization: Basic bWU6cHc=\r\n" not in headers:
            self.wfile.write(f"HTTP/1.1 {self.server.refusal or '407 Who are you'}\r\n\r\n".encode())
            return
        with socket.create_connection(("127.0.0.1", self.server.port)) as other:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(other, self.connection))
            back.start()
            _copy(self.connection, other)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def proxying(port: int) -> Iterator[Proxy]:
    with Proxy(port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests look at `requests`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.requests.append(("POST", f"{self.path}?{body}", dict(self.headers)))
        self.answer(200, json.dumps({"access_token": TOKEN}).encode())

    def do_GET(self) -> None:
        server, path = self.server, self.path
        server.requests.append(("GET", path, dict(self.headers)))
        if path.startswith("/token"):
            return self.give_token()
        if server.busy:
            server.busy -= 1
            return self.answer(503, b"")
        if server.authentication and not self.may_enter():
            challenge = (
                f'Bearer realm="{server.scheme}://{server.name}/token",service="tests",scope="repository:a:pull"'
            )
            header = 'Basic realm="x"' if server.authentication == "basic" else challenge
            errors = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}).encode()
            return self.answer(401, errors, {"WWW-Authenticate": header})
        if path in server.manifests:
            data, kind = server.manifests[path]
            return self.answer(200, data, {"Content-Type": kind})
        digest = path.rpartition("/")[2]
        if "/blobs/" in path and digest in server.blobs:
            return self.give_blob(server.blobs[digest])
        return self.answer(404, b"{}")

    def give_token(self) -> None:
        known = self.headers.get("Authorization")
        if known == BASIC:
            return self.answer(200, json.dumps({"token": TOKEN}).encode())
        return self.answer(401, b"")

    def may_enter(self) -> bool:
        wanted = BASIC if self.server.authentication == "basic" else f"Bearer {TOKEN}"
        return self.headers.get("Authorization") == wanted

    def give_blob(self, data: bytes) -> None:
        server = self.server
        if server.away:
            return self.answer(307, b"", {"Location": f"{server.away}{self.path}"})
        if server.hold is not None:
            server.hold.wait(30)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        part = data[start:]
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if server.cut and len(part) > server.cut[0]:
            return self.answer(206 if start else 200, part, headers, cut=server.cut.pop(0))
        return self.answer(206 if start else 200, part, headers)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
