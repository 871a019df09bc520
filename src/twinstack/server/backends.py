"""Where `pods|services|nodes/NAME/proxy` leads: the backend of a name `[SCHEME:]NAME[:PORT]`. Pure.

As upstream's ResourceLocation of each kind: a pod's addresses, a ready endpoint of a Service in either family,
a node's kubelet or one of its other ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from twinstack.api.errors import StatusError, bad_request
from twinstack.ip import CIDR, Address
from twinstack.server.podlogs import kubelet_endpoint

JSON = dict[str, Any]

# Upstream proxies to global unicast addresses alone, so that nobody reaches the server's own machine by it.
_FORBIDDEN = tuple(
    CIDR.parse(text)
    for text in (
        *("0.0.0.0/32", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
        *("::/128", "::1/128", "fe80::/10", "ff00::/8"),
    )
)
_DEFAULT_PORTS = {False: 80, True: 443}


class Backend(NamedTuple):
    """Addresses to connect to, the first that answers. `kubelet`: with the server's own certificate."""

    addresses: tuple[Address, ...]
    port: int
    tls: bool = False
    kubelet: bool = False


class ProxyName(NamedTuple):
    """The parts of `[SCHEME:]NAME[:PORT]`; the port is a number or, of a Service, a name."""

    name: str
    port: str = ""
    tls: bool = False


def parse_name(text: str, kind: str) -> ProxyName:
    """Raises StatusError 400; `kind` is for its words."""
    scheme, name, port = "", "", ""
    match text.split(":"):
        case [name]:
            pass
        case [name, port]:
            pass
        case [scheme, name, port]:
            pass
    if not name or scheme not in ("", "http", "https"):
        raise bad_request(f'invalid {kind} request "{text}"')
    return ProxyName(name, port, scheme == "https")


def pod_backend(pod: JSON, name: ProxyName) -> Backend:
    """The pod's addresses, for its program may listen in one family alone; without a port the first that its
    containers name. Raises StatusError 400."""
    status = pod.get("status", {})
    texts = [entry.get("ip", "") for entry in status.get("podIPs") or ()] or [status.get("podIP", "")]
    port = name.port
    if not port:
        declared = [p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
        port = str(declared[0]) if declared else ""
    return Backend(tuple(map(_proxyable, texts)), _number(port, name), name.tls)


def service_backend(
    service: JSON,
    slices: Iterable[JSON],
    name: ProxyName,
    text: str,
    choose: Callable[[Sequence[tuple[str, int]]], tuple[str, int]],
) -> Backend:
    """A ready endpoint of the Service's slices, of any family. `text` is the name as it was asked for.

    Raises StatusError 503 when there is none, 400 when it may not be reached this way.
    """
    port = name.port
    if port.isdecimal():
        declared = {entry.get("port"): entry.get("name", "") for entry in service["spec"].get("ports") or ()}
        if int(port) not in declared:
            raise _unavailable(f'no service port {port} found for service "{name.name}"')
        port = declared[int(port)]
    found = list(slices)
    if not any(_ready(endpoint) for each in found for endpoint in each.get("endpoints") or ()):
        raise _unavailable(f'no endpoints available for service "{name.name}"')
    candidates = [pair for each in found for pair in _endpoints(each, port)]
    if not candidates:
        raise _unavailable(f'no endpoints available for service "{text}"')
    address, number = choose(candidates)
    return Backend((_proxyable(address),), number, name.tls)


def _endpoints(endpoint_slice: JSON, port_name: str) -> Iterable[tuple[str, int]]:
    if endpoint_slice.get("addressType") not in ("IPv4", "IPv6"):
        return
    ports = [
        p["port"] for p in endpoint_slice.get("ports") or () if (p.get("name") or "") == port_name and p.get("port")
    ]
    for endpoint in endpoint_slice.get("endpoints") or ():
        if ports and _ready(endpoint) and endpoint.get("addresses"):
            yield endpoint["addresses"][0], ports[0]


def _ready(endpoint: JSON) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False


def node_backend(node: JSON, name: ProxyName) -> Backend:
    """The node's kubelet, unless another port is named. Raises StatusError."""
    address, kubelet = kubelet_endpoint(node)
    if name.port in ("", str(kubelet)):
        return Backend((address,), kubelet, tls=True, kubelet=True)
    return Backend((_proxyable(str(address)),), _number(name.port, name), name.tls)


def _proxyable(text: str) -> Address:
    try:
        address = Address.parse(text)
    except ValueError:
        raise bad_request("address not allowed") from None
    if any(block.contains(address) for block in _FORBIDDEN):
        raise bad_request("address not allowed")
    return address


def _number(port: str, name: ProxyName) -> int:
    if not port:
        return _DEFAULT_PORTS[name.tls]
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise bad_request(f'invalid port "{port}"')
    return int(port)


def _unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)
