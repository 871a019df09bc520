"""Objects as rows for people (meta/v1 Table): what `kubectl get` prints, column by column.

All columns are always sent; those of priority 1 are shown on request (`-o wide`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinstack.api import times
from twinstack.api.resources import Resource
from twinstack.api.validation import ip_family
from twinstack.ip import IPFamily
from twinstack.server import pod_rows
from twinstack.server.ages import UNKNOWN, age
from twinstack.server.subresources import selector_text

JSON = dict[str, Any]
Cells = list[Any]

NONE = "<none>"
_SHOWN = 3  # how many ports and addresses of a slice fit


def columns(resource: Resource) -> list[JSON]:
    """`columnDefinitions` of a resource. The caller must not change them."""
    return _columns(resource.group, resource.plural)


def row(resource: Resource, obj: JSON, now: float, include: str, version: str = "v1") -> JSON:
    """One row. `include` is Metadata, Object or None; `version` that of meta.k8s.io the client asked for."""
    cells = _cells(resource)(obj, now)
    result: JSON = {"cells": cells}
    conditions = pod_rows.conditions(obj) if resource.kind == "Pod" else []
    if conditions:
        result["conditions"] = conditions
    if include == "Object":
        result["object"] = {"kind": resource.kind, "apiVersion": resource.group_version} | obj
    elif include == "Metadata":
        meta = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}
        result["object"] = meta
    else:
        result["object"] = None
    return result


@functools.cache
def _columns(group: str, plural: str) -> list[JSON]:
    text = _COLUMNS.get((group, plural)) or _COLUMNS.get(("", plural)) or "Name|Created At:date"
    definitions: list[JSON] = []
    for part in text.split("|"):
        name, _, kind = part.rstrip("*").partition(":")
        definitions.append(
            {
                "name": name,
                "type": kind or "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": 1 if part.endswith("*") else 0,
            }
        )
    return definitions


# `Name:type*`, the type a string unless named, the star for priority 1.
_COLUMNS = {
    ("", "services"): "Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*",
    ("", "pods"): "Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*",
    ("", "nodes"): (
        "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*"
    ),
    ("", "namespaces"): "Name|Status|Age",
    ("", "configmaps"): "Name|Data|Age",
    ("", "secrets"): "Name|Type|Data|Age",
    ("", "serviceaccounts"): "Name|Age",
    ("", "endpoints"): "Name|Endpoints|Age",
    ("", "events"): "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*",
    ("apps", "deployments"): "Name|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*",
    ("apps", "replicasets"): ("Name|Desired:integer|Current:integer|Ready:integer|Age|Containers*|Images*|Selector*"),
    ("coordination.k8s.io", "leases"): "Name|Holder|Age",
    ("discovery.k8s.io", "endpointslices"): "Name|AddressType|Ports|Endpoints|Age",
    ("networking.k8s.io", "servicecidrs"): "Name|CIDRs|Age",
    ("networking.k8s.io", "ipaddresses"): "Name|ParentRef",  # sic: upstream's rows have a third cell, the age
}


def _name(obj: JSON) -> str:
    return str(obj["metadata"].get("name", ""))


def _age(obj: JSON, now: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _labels_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else NONE


# One function a kind ------------------------------------------------------------------------------------------


def _service(obj: JSON, now: float) -> Cells:
    spec = obj["spec"]
    addresses = spec.get("clusterIPs") or []
    return [
        _name(obj),
        spec.get("type", ""),
        addresses[0] if addresses else NONE,
        _external_ip(spec, obj.get("status") or {}),
        ",".join(map(_port_text, spec.get("ports") or [])) or NONE,
        _age(obj, now),
        _labels_text(spec.get("selector")),
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


def _node(obj: JSON, now: float) -> Cells:
    status, spec = obj.get("status") or {}, obj.get("spec") or {}
    info = status.get("nodeInfo") or {}
    ready = next((c["status"] == "True" for c in status.get("conditions") or [] if c.get("type") == "Ready"), None)
    state = "Unknown" if ready is None else "Ready" if ready else "NotReady"
    return [
        _name(obj),
        f"{state},SchedulingDisabled" if spec.get("unschedulable") else state,
        ",".join(_roles(obj["metadata"].get("labels") or {})) or NONE,
        _age(obj, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(labels: Mapping[str, str]) -> list[str]:
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)} | {
        value for key, value in labels.items() if key == "kubernetes.io/role"
    }
    return sorted(roles - {""})


def _address(status: JSON, kind: str) -> str:
    return next((a.get("address", "") for a in status.get("addresses") or [] if a.get("type") == kind), NONE)


def _namespace(obj: JSON, now: float) -> Cells:
    return [_name(obj), (obj.get("status") or {}).get("phase", ""), _age(obj, now)]


def _config_map(obj: JSON, now: float) -> Cells:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now)]


def _secret(obj: JSON, now: float) -> Cells:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now)]


def _name_and_age(obj: JSON, now: float) -> Cells:
    return [_name(obj), _age(obj, now)]


def _template_cells(spec: JSON) -> Cells:
    """Containers, Images, Selector."""
    containers: Sequence[JSON] = spec["template"]["spec"].get("containers") or []
    return [
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
        selector_text(spec.get("selector") or {}) or NONE,
    ]


def _deployment(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj, now),
        *_template_cells(spec),
    ]


def _replica_set(obj: JSON, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, _age(obj, now), *_template_cells(spec)]


def _lease(obj: JSON, now: float) -> Cells:
    return [_name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", _age(obj, now)]


def _endpoint_slice(obj: JSON, now: float) -> Cells:
    ports = [_slice_port(port) for port in obj.get("ports") or []]
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return [_name(obj), obj.get("addressType", ""), _first_few(ports), _first_few(addresses), _age(obj, now)]


def _slice_port(port: JSON) -> str:
    if port.get("port") is not None:
        return str(port["port"])
    return str(port["name"]) if port.get("name") is not None else "*"


def _first_few(texts: Sequence[str], none: str = "<unset>") -> str:
    shown = ",".join(texts[:_SHOWN])
    if not shown:
        return none
    return f"{shown} + {len(texts) - _SHOWN} more..." if len(texts) > _SHOWN else shown


def _endpoints(obj: JSON, now: float) -> Cells:
    points: list[str] = []
    for subset in obj.get("subsets") or []:
        addresses = [address.get("ip", "") for address in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        points += [_host_port(ip, port.get("port", 0)) for port in ports for ip in addresses] if ports else addresses
    return [_name(obj), _first_few(points, NONE), _age(obj, now)]


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ip_family(ip) is IPFamily.IPV6 else f"{ip}:{port}"


def _service_cidr(obj: JSON, now: float) -> Cells:
    return [_name(obj), ",".join((obj.get("spec") or {}).get("cidrs") or []), _age(obj, now)]


def _ip_address(obj: JSON, now: float) -> Cells:
    parent = (obj.get("spec") or {}).get("parentRef") or {}
    resource = ".".join(filter(None, (parent.get("resource"), parent.get("group"))))
    text = "/".join(filter(None, (resource, parent.get("namespace"), parent.get("name"))))
    return [_name(obj), text, _age(obj, now)]


def _event(obj: JSON, now: float) -> Cells:
    """An event of either form."""
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series:
        last, count = series.get("lastObservedTime"), series.get("count", 0)
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    kind, name = about.get("kind", "").lower(), about.get("name", "")
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        _event_source(obj),
        (obj.get("message") or obj.get("note") or "").strip(),
        age(first, now),
        count,
        _name(obj),
    ]


def _event_source(obj: JSON) -> str:
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController")
    host = source.get("host") or obj.get("reportingInstance")
    return ", ".join(filter(None, (component, host)))


def _plain(obj: JSON, _now: float) -> Cells:
    created = obj["metadata"].get("creationTimestamp")
    return [_name(obj), created or times.format_time(0)]


_ROWS: dict[str, Callable[[JSON, float], Cells]] = {
    "ConfigMap": _config_map,
    "Deployment": _deployment,
    "EndpointSlice": _endpoint_slice,
    "Endpoints": _endpoints,
    "Event": _event,
    "IPAddress": _ip_address,
    "Lease": _lease,
    "Namespace": _namespace,
    "Node": _node,
    "Pod": pod_rows.cells,
    "ReplicaSet": _replica_set,
    "Secret": _secret,
    "Service": _service,
    "ServiceAccount": _name_and_age,
    "ServiceCIDR": _service_cidr,
}


def _cells(resource: Resource) -> Callable[[JSON, float], Cells]:
    return _ROWS.get(resource.kind, _plain)
