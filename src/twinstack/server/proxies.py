"""`pods/proxy`, `services/proxy`, `nodes/proxy`: an HTTP request goes on to a backend inside the cluster.

All methods, bodies and upgrades. Credentials stay here; redirects are led back through the proxy. Links in HTML are
passed on as they are.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from twinstack.api.errors import StatusError, not_found
from twinstack.api.resources import resource
from twinstack.ip import Address
from twinstack.server import outgoing
from twinstack.server.backends import Backend, node_backend, parse_name, pod_backend, service_backend
from twinstack.server.egress import Egress, NotConnected, Unreachable
from twinstack.server.kubelet import KubeletClient
from twinstack.server.listeners import endpoint
from twinstack.server.messages import Answer, Request, Response, Route, StreamResponse, Upgrade, wants_upgrade
from twinstack.server.outgoing import Exchange, OutgoingRequest, copy_body
from twinstack.server.podstreams import pass_through
from twinstack.server.strategy.base import Reader

JSON = dict[str, Any]

_SLICES = resource("discovery.k8s.io", "endpointslices")
_OWNER_LABEL = "kubernetes.io/service-name"
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer")
) | {"transfer-encoding", "upgrade"}
_KEPT_HERE = _HOP_BY_HOP | {"authorization", "content-length", "host", "expect"}
_WHOLE = 64 << 10  # bytes of a body that is read whole before it is passed on


class Proxies:
    """Handles the three subresources."""

    def __init__(self, reader: Reader, kubelets: KubeletClient, egress: Egress) -> None:
        self._reader = reader
        self._kubelets = kubelets
        self._egress = egress
        self._context: ssl.SSLContext | None = None

    async def handle(self, request: Request, route: Route) -> Answer:
        backend = self._backend(route)
        prefix, rest = split_target(request, route)
        upgrade = wants_upgrade(request.headers)
        path, _, query = rest.partition("?")
        if not path and not upgrade and request.method in ("GET", "HEAD"):
            location = f"{prefix}/" + (f"?{query}" if query else "")
            return Response(status=301, headers=[("Location", location)], content_type="")
        target = (path or "/") + (f"?{query}" if query else "")
        asked = OutgoingRequest(request.method, target, _headers(request, prefix + path, upgrade=upgrade), request.body)
        try:
            answer = await self._send(backend, asked)
        except Unreachable as error:
            raise StatusError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error
        if await answer.head() == 101:
            headers = [pair for pair in answer.headers if pair[0].lower() != "connection"]
            return Upgrade(run=lambda client: pass_through(client, answer), headers=headers)
        hosts = {endpoint(address, backend.port) for address in backend.addresses}
        headers = [(name, _returned(name, value, hosts, prefix)) for name, value in answer.headers]
        return await _answer(answer, headers, request.method)

    def _backend(self, route: Route) -> Backend:
        plural = route.resource.plural
        name = parse_name(route.name, route.resource.singular)
        obj = self._reader.get(route.resource, route.namespace, name.name)
        if obj is None:
            raise not_found(plural, name.name)
        if plural == "pods":
            return pod_backend(obj, name)
        if plural == "nodes":
            return node_backend(obj, name)
        return service_backend(obj, self._slices(route.namespace, name.name), name, route.name, _any)

    def _slices(self, namespace: str, service: str) -> Iterable[JSON]:
        for each in self._reader.list(_SLICES, namespace):
            if each["metadata"].get("labels", {}).get(_OWNER_LABEL) == service:
                yield each

    async def _send(self, backend: Backend, request: OutgoingRequest) -> Exchange:
        """Ask the first address that takes the connection. Raises Unreachable, for the first of all if none does."""
        first: Unreachable | None = None
        for address in backend.addresses:
            try:
                return await self._send_to(address, backend, request)
            except NotConnected as error:
                first = first or error
        raise first or Unreachable("no address")

    async def _send_to(self, address: Address, backend: Backend, request: OutgoingRequest) -> Exchange:
        """How long an answer takes is for the server's own limit on requests to say."""
        if backend.kubelet:
            return await self._kubelets.send(address, backend.port, request)
        context = self._trusting() if backend.tls else None
        return await outgoing.send(self._egress, address, backend.port, request, context, patience=None)

    def _trusting(self) -> ssl.SSLContext:
        """TLS towards backends, whose certificates are not checked, as upstream: nothing is known of their names."""
        if self._context is None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        return self._context


def _any(candidates: Sequence[tuple[str, int]]) -> tuple[str, int]:
    return random.choice(candidates)


def split_target(request: Request, route: Route) -> tuple[str, str]:
    """The path up to and with `/proxy`, and what follows it, both as they came."""
    text = request.target.decode("latin-1")
    if not text.startswith("/"):  # absolute form
        parts = urlsplit(text)
        text = parts.path + (f"?{parts.query}" if parts.query else "")
    if not text:
        text = quote(request.path) + (f"?{urlencode(request.query, doseq=True)}" if request.query else "")
    path, mark, query = text.partition("?")
    segments = path.split("/")
    before = 8 if route.resource.namespaced else 6  # /api/v1/namespaces/NS/pods/NAME/proxy
    return "/".join(segments[:before]), "".join(f"/{segment}" for segment in segments[before:]) + mark + query


def _headers(request: Request, uri: str, *, upgrade: bool) -> list[tuple[str, str]]:
    """The client's, without what is between it and this server."""
    headers = request.headers
    passed = [(name, value) for name, value in headers.items() if name not in _KEPT_HERE | _named_hops(headers)]
    if upgrade:
        passed += [("Connection", "Upgrade"), ("Upgrade", headers["upgrade"])]
    forwarded = {"X-Forwarded-Host": headers.get("host", ""), "X-Forwarded-Proto": "https", "X-Forwarded-Uri": uri}
    return [*passed, *forwarded.items()]


def _named_hops(headers: Mapping[str, str]) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in headers.get("connection", "").split(","))


def _returned(name: str, value: str, hosts: Container[str], prefix: str) -> str:
    """A redirect within the backend leads through the proxy again."""
    if name.lower() != "location":
        return value
    parts = urlsplit(value)
    if (parts.netloc and parts.netloc not in hosts) or not parts.path.startswith("/") or parts.path.startswith(prefix):
        return value
    return prefix + parts.path + (f"?{parts.query}" if parts.query else "")


async def _answer(answer: Exchange, headers: list[tuple[str, str]], method: str) -> Answer:
    """The backend's answer as ours: whole when it is short, otherwise as it comes."""
    status = await answer.head()
    lower = {name.lower(): value for name, value in headers}
    kind = lower.get("content-type", "")
    dropped = _HOP_BY_HOP | _named_hops(lower) | {"content-type", "date", "content-length"}
    kept = [(name, value) for name, value in headers if name.lower() not in dropped]
    length = lower.get("content-length", "")
    if method == "HEAD" or status in (204, 304):
        answer.close()
        if length and method == "HEAD":
            kept.append(("Content-Length", length))
        return Response(status=status, content_type=kind, headers=kept, measured=bool(length))
    if not length.isdecimal() or int(length) > _WHOLE:
        return StreamResponse(
            status=status, produce=lambda writer: copy_body(answer, writer), content_type=kind, headers=kept
        )
    body = await _whole(answer)
    return Response(status=status, body=body, content_type=kind, headers=kept)


async def _whole(answer: Exchange) -> bytes:
    body = bytearray()
    try:
        while part := await answer.read():
            body += part
    finally:
        answer.close()
    if answer.broken:
        raise StatusError(503, "ServiceUnavailable", "error trying to reach service: unexpected EOF")
    return bytes(body)
