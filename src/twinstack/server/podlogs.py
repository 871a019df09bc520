"""`pods/log`: finds the pod's node and passes on what its kubelet answers (core/v1 PodLogOptions)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from twinstack.api.errors import (
    FieldError,
    StatusError,
    bad_request,
    forbidden_field,
    internal_error,
    invalid,
    invalid_object,
    not_found,
)
from twinstack.api.resources import resource
from twinstack.api.times import parse_time
from twinstack.ip import Address, IPFamily
from twinstack.server import framed
from twinstack.server.egress import Unreachable
from twinstack.server.kubelet import KubeletClient
from twinstack.server.messages import Answer, Request, Response, Route, StreamResponse
from twinstack.server.outgoing import Exchange, copy_body
from twinstack.server.strategy.base import Reader

JSON = dict[str, Any]

_PODS = resource("", "pods")
_NODES = resource("", "nodes")
_KUBELET_PORT = 10250
_FLAGS = ("follow", "previous", "timestamps")
LONGEST_ERROR = 64 << 10  # bytes of a kubelet's error text that are passed on


class PodLogs:
    """Handles GET of one pod's log."""

    def __init__(self, reader: Reader, kubelets: KubeletClient) -> None:
        self._reader = reader
        self._kubelets = kubelets

    async def handle(self, request: Request, route: Route) -> Answer:
        pod = self._reader.get(_PODS, route.namespace, route.name)
        if pod is None:
            raise not_found("pods", route.name)
        query = kubelet_query(request, route.name)
        container = container_of(pod, request.parameter("container"))
        node_name = pod.get("spec", {}).get("nodeName", "")
        if not node_name:
            return Response(status=204, content_type="text/plain")
        address, port = kubelet_of(self._reader, node_name)
        target = f"/containerLogs/{route.namespace}/{route.name}/{container}" + (f"?{query}" if query else "")
        try:
            status, answer = await self._kubelets.get(address, port, target)
        except Unreachable as error:
            host = f"[{address}]" if address.family is IPFamily.IPV6 else str(address)
            raise StatusError(500, "", f'Get "https://{host}:{port}{target}": {error}') from error
        if status >= 300:
            raise await _failure(status, answer, route)
        stream = StreamResponse(
            status=200,
            produce=lambda writer: copy_body(answer, writer, tolerant=True),
            content_type="text/plain",
            patient=True,
        )
        return framed.log(request, stream)


async def _failure(status: int, answer: Exchange, route: Route) -> StatusError:
    """A kubelet's refusal as upstream passes it on."""
    text = bytearray()
    try:
        while len(text) < LONGEST_ERROR and (part := await answer.read()):
            text += part
    finally:
        answer.close()
    message = text.decode(errors="replace").strip()
    if status == 400:
        return bad_request(message)
    if status == 404:
        details = {
            "name": route.name,
            "kind": "pods",
            "causes": [{"reason": "UnexpectedServerResponse", "message": message}],
        }
        text_404 = f"the server could not find the requested resource ( pods/log {route.name})"
        return StatusError(404, "NotFound", text_404, details=details)
    return internal_error(message or f"the kubelet answered {status}")


def kubelet_of(reader: Reader, node_name: str) -> tuple[Address, int]:
    """Where the kubelet of a node listens. Raises StatusError when there is no such node, or it has no address."""
    node = reader.get(_NODES, "", node_name)
    if node is None:
        raise not_found("nodes", node_name)
    return kubelet_endpoint(node)


def kubelet_endpoint(node: JSON) -> tuple[Address, int]:
    """Where a node's kubelet listens: its first InternalIP. Raises StatusError when it has none."""
    status = node.get("status", {})
    port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0) or _KUBELET_PORT
    for entry in status.get("addresses", ()):
        if entry.get("type") == "InternalIP":
            return Address.parse(entry["address"]), port
    name = node.get("metadata", {}).get("name", "")
    raise internal_error(
        f"no preferred addresses found for node {name}; known addresses: {status.get('addresses', [])}"
    )


def container_of(pod: JSON, wanted: str) -> str:
    """The container whose log is meant. Raises StatusError 400 in upstream's words."""
    name = str(pod["metadata"]["name"])
    spec = pod.get("spec", {})
    plain, init, ephemeral = (
        [str(container["name"]) for container in spec.get(field) or ()]
        for field in ("containers", "initContainers", "ephemeralContainers")
    )
    if wanted:
        if wanted in plain or wanted in init or wanted in ephemeral:
            return wanted
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    if len(plain) == 1:
        return plain[0]
    message = f"a container name must be specified for pod {name}"
    if plain:
        message += f", choose one of: [{' '.join(plain)}]"
        message += f" or one of the init containers: [{' '.join(init)}]" if init else ""
        message += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]" if ephemeral else ""
    raise bad_request(message)


def kubelet_query(request: Request, name: str) -> str:
    """The query for the kubelet, checked. Raises StatusError 400 for no number, 422 for one out of range."""
    query = {flag: "true" for flag in _FLAGS if _is_true(request, flag)}
    errors: list[FieldError] = []
    for field, least, words in (
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
        ("tailLines", 0, "must be greater than or equal to 0"),
    ):
        text = request.parameter(field)
        if not text:
            continue
        number = _integer(text)
        if number < least:
            errors.append(invalid(field, number, words))
        query[field] = text
    since = request.parameter("sinceTime")
    if since:
        if "sinceSeconds" in query:
            detail = "at most one of `sinceTime` or `sinceSeconds` may be specified"
            errors.append(forbidden_field("", detail))
        query["sinceTime"] = _checked_time(since)
    if errors:
        raise invalid_object("PodLogOptions", name, errors)
    return urlencode(sorted(query.items()))


def _is_true(request: Request, name: str) -> bool:
    values = request.query.get(name)
    return values is not None and values[0].lower() not in ("0", "false")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _checked_time(text: str) -> str:
    try:
        parse_time(text)
    except ValueError:
        raise bad_request(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"') from None
    return text
