"""`pods/exec`, `pods/attach`, `pods/portforward`: the request goes to the pod's kubelet, then bytes both ways.

Nothing of the protocol is looked at: whatever client and kubelet agree on passes (WebSocket, SPDY, both in one).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from twinstack.api.errors import StatusError, bad_request, not_found
from twinstack.api.resources import resource
from twinstack.server.egress import Unreachable
from twinstack.server.kubelet import KubeletClient
from twinstack.server.listeners import endpoint
from twinstack.server.messages import Answer, Duplex, Request, Response, Route, Upgrade, wants_upgrade
from twinstack.server.outgoing import Exchange, OutgoingRequest
from twinstack.server.podlogs import LONGEST_ERROR, container_of, kubelet_of
from twinstack.server.strategy.base import Reader

JSON = dict[str, Any]

_PODS = resource("", "pods")
_FLAGS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))  # upstream's names, kubelet's
_ONE_EACH_LINE = "x-stream-protocol-version"  # kubelets do not take a list
_PASSED = ("upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "user-agent", "origin")
_ANSWERED = ("upgrade", "sec-websocket-accept", "sec-websocket-protocol", _ONE_EACH_LINE)


class PodStreams:
    """Handles the three subresources."""

    def __init__(self, reader: Reader, kubelets: KubeletClient) -> None:
        self._reader = reader
        self._kubelets = kubelets

    async def handle(self, request: Request, route: Route) -> Answer:
        pod = self._reader.get(_PODS, route.namespace, route.name)
        if pod is None:
            raise not_found("pods", route.name)
        target = kubelet_target(request, route, pod)
        node_name = pod.get("spec", {}).get("nodeName", "")
        if not node_name:
            raise bad_request(f"pod {route.name} does not have a host assigned")
        if not wants_upgrade(request.headers):
            raise bad_request("Upgrade request required")
        address, port = kubelet_of(self._reader, node_name)
        asked = OutgoingRequest(request.method, target, upgrade_headers(request.headers))
        try:
            answer = await self._kubelets.send(address, port, asked)
        except Unreachable as error:
            raise StatusError(500, "", f"error dialing backend: {error}") from error
        if await answer.head() == 101:
            headers = [pair for pair in answer.headers if pair[0].lower() in _ANSWERED]
            return Upgrade(run=lambda client: pass_through(client, answer), headers=headers)
        return await _refusal(answer, f"https://{endpoint(address, port)}{target}")


def kubelet_target(request: Request, route: Route, pod: JSON) -> str:
    """Path and query for the kubelet. Raises StatusError 400."""
    where = f"{quote(route.namespace)}/{quote(route.name)}"
    if route.subresource == "portforward":
        ports = ",".join(request.query.get("ports", ()))
        return f"/portForward/{where}" + (f"?{urlencode({'port': ports})}" if ports else "")
    container = container_of(pod, request.parameter("container"))
    query = [("command", word) for word in request.query.get("command", ())] if route.subresource == "exec" else []
    query += [(theirs, "1") for ours, theirs in _FLAGS if _is_true(request, ours)]
    return f"/{route.subresource}/{where}/{quote(container)}?{urlencode(query)}"


def _is_true(request: Request, name: str) -> bool:
    values = request.query.get(name)
    return values is not None and values[0].lower() not in ("0", "false")


def upgrade_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """What a kubelet needs to know of a request for an upgrade; not who asked, and no credentials."""
    passed = [("Connection", "Upgrade")]
    passed += [(name, headers[name]) for name in _PASSED if name in headers]
    protocols = headers.get(_ONE_EACH_LINE, "")
    passed += [(_ONE_EACH_LINE, word) for part in protocols.split(",") if (word := part.strip())]
    return passed


async def pass_through(client: Duplex, server: Exchange) -> None:
    """Everything both ways, at the pace of the slower side, until one of them ends; both are closed then."""
    ways = [asyncio.ensure_future(_copy(client, server)), asyncio.ensure_future(_copy(server, client))]
    stop = asyncio.ensure_future(client.closed())
    try:
        await asyncio.wait({*ways, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*ways, stop):
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        server.finish()


async def _copy(source: Duplex | Exchange, target: Duplex | Exchange) -> None:
    while data := await source.read():
        target.write(data)
        await target.drain()


async def _refusal(answer: Exchange, url: str) -> Response:
    """A kubelet's answer other than 101, as it is."""
    body = bytearray()
    try:
        while len(body) < LONGEST_ERROR and (part := await answer.read()):
            body += part
    finally:
        answer.close()
    status = await answer.head()
    if status < 400:
        raise StatusError(500, "", f"unable to upgrade connection: {url} answered {status}")
    return Response(status=status, body=bytes(body), content_type="text/plain; charset=utf-8")
