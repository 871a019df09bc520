"""Services and what leads to them: slices, ranges, Ingresses, policies."""

from __future__ import annotations

from typing import Any

from twinstack.api.validation import parse_sloppy_ip
from twinstack.ip import IPFamily
from twinstack.server.tables.cells import NONE, Cells, Table, age_of, first_few, labels_text, name_of, selector_of

JSON = dict[str, Any]


def _service(obj: JSON, now: float) -> Cells:
    spec = obj["spec"]
    addresses = spec.get("clusterIPs") or []
    return [
        name_of(obj),
        spec.get("type", ""),
        addresses[0] if addresses else NONE,
        _external_ip(spec, obj.get("status") or {}),
        ",".join(map(_port_text, spec.get("ports") or [])) or NONE,
        age_of(obj, now),
        labels_text(spec.get("selector")),
    ]


def _port_text(port: JSON) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node_port}/{port.get('protocol', '')}"


def _external_ip(spec: JSON, status: JSON) -> str:
    kind, extra = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind == "LoadBalancer":
        ingress = (status.get("loadBalancer") or {}).get("ingress") or []
        points = {point.get("ip") or point.get("hostname") or "" for point in ingress} - {""}
        return ",".join([*sorted(points), *extra]) or "<pending>"
    return ",".join(extra) or NONE


def _endpoint_slice(obj: JSON, now: float) -> Cells:
    ports = [_slice_port(port) for port in obj.get("ports") or []]
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return [name_of(obj), obj.get("addressType", ""), first_few(ports), first_few(addresses), age_of(obj, now)]


def _slice_port(port: JSON) -> str:
    if port.get("port") is not None:
        return str(port["port"])
    return str(port["name"]) if port.get("name") is not None else "*"


def _endpoints(obj: JSON, now: float) -> Cells:
    points: list[str] = []
    for subset in obj.get("subsets") or []:
        addresses = [address.get("ip", "") for address in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        points += [_host_port(ip, port.get("port", 0)) for port in ports for ip in addresses] if ports else addresses
    return [name_of(obj), first_few(points, NONE), age_of(obj, now)]


def _host_port(ip: str, port: int) -> str:
    parsed = parse_sloppy_ip(ip)
    return f"[{ip}]:{port}" if parsed and parsed.address.family is IPFamily.IPV6 else f"{ip}:{port}"


def _service_cidr(obj: JSON, now: float) -> Cells:
    return [name_of(obj), ",".join((obj.get("spec") or {}).get("cidrs") or []), age_of(obj, now)]


def _ip_address(obj: JSON, now: float) -> Cells:
    parent = (obj.get("spec") or {}).get("parentRef") or {}
    resource = ".".join(filter(None, (parent.get("resource"), parent.get("group"))))
    text = "/".join(filter(None, (resource, parent.get("namespace"), parent.get("name"))))
    return [name_of(obj), text, age_of(obj, now)]


def _ingress(obj: JSON, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or [] if rule.get("host")]
    points = (status.get("loadBalancer") or {}).get("ingress") or []
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        first_few(hosts, "*"),
        ",".join(sorted(filter(None, (point.get("ip") or point.get("hostname") for point in points)))),
        "80, 443" if spec.get("tls") else "80",
        age_of(obj, now),
    ]


def _ingress_class(obj: JSON, now: float) -> Cells:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = NONE
    if parameters:
        kind = ".".join(filter(None, (parameters.get("kind"), parameters.get("apiGroup"))))
        shown = f"{kind}/{parameters.get('name', '')}"
    return [name_of(obj), spec.get("controller", ""), shown, age_of(obj, now)]


def _network_policy(obj: JSON, now: float) -> Cells:
    return [name_of(obj), selector_of((obj.get("spec") or {}).get("podSelector")), age_of(obj, now)]


_GROUP = "networking.k8s.io"
TABLES: dict[tuple[str, str], Table] = {
    ("", "endpoints"): ("Name|Endpoints|Age", _endpoints),
    ("", "services"): ("Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*", _service),
    ("discovery.k8s.io", "endpointslices"): ("Name|AddressType|Ports|Endpoints|Age", _endpoint_slice),
    (_GROUP, "ingressclasses"): ("Name|Controller|Parameters|Age", _ingress_class),
    (_GROUP, "ingresses"): ("Name|Class|Hosts|Address|Ports|Age", _ingress),
    (_GROUP, "ipaddresses"): ("Name|ParentRef", _ip_address),
    (_GROUP, "networkpolicies"): ("Name|Pod-Selector|Age", _network_policy),
    (_GROUP, "servicecidrs"): ("Name|CIDRs|Age", _service_cidr),
}
