"""Reads kind's cluster files (kind.x-k8s.io/v1alpha4) for `up --config`: pure.

What stands there is acted on, or named in a remark, or refused with its path: nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twinstack.cluster.configuration import DEFAULT_NAME, FAMILIES, Terms
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.kubeadm import checked_labels
from twinstack.cluster.wishes import Wishes

API_VERSION, KIND = "kind.x-k8s.io/v1alpha4", "Cluster"

_TERMS = Terms("networking.serviceSubnet", "networking.podSubnet", "nodes:", "networking.ipFamily")
_ROLES = ("control-plane", "worker")
_PROXY_MODES = ("nftables", "iptables", "ipvs", "none")
_CLUSTER = {"kind", "apiVersion", "name", "nodes", "networking"}
_CLUSTER_IDLE = {
    "featureGates",
    "runtimeConfig",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "containerdConfigPatches",
    "containerdConfigPatchesJSON6902",
}
_NETWORKING = {
    "ipFamily",
    "podSubnet",
    "serviceSubnet",
    "apiServerPort",
    "apiServerAddress",
    "disableDefaultCNI",
    "kubeProxyMode",
}
_NODE = {"role", "labels"}
_NODE_IDLE = {
    "image",
    "extraMounts",
    "extraPortMappings",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
}

JSON = dict[str, Any]


class KindCluster(NamedTuple):
    """What a file asks for, and what is to be said of it."""

    wishes: Wishes
    remarks: list[str]


def read(document: object) -> KindCluster:
    """Wishes and remarks from a parsed file. Raises ClusterError with the path of what cannot be."""
    remarks: list[str] = []
    cluster = _mapping(document, "the file")
    if cluster.get("kind") != KIND or cluster.get("apiVersion") != API_VERSION:
        raise ClusterError(
            f"the file is {cluster.get('kind')!r} of {cluster.get('apiVersion')!r}",
            f"write kind: {KIND} and apiVersion: {API_VERSION}",
        )
    _fields(cluster, "", _CLUSTER, _CLUSTER_IDLE, remarks)
    networking = _mapping(cluster.get("networking") or {}, "networking")
    _fields(networking, "networking.", _NETWORKING, {"dnsSearch"}, remarks)
    nodes = cluster.get("nodes")
    labels = None if nodes is None else _nodes(nodes, remarks)
    wishes = Wishes(
        name=_value(cluster, "", "name", str) or DEFAULT_NAME,
        nodes=None if labels is None else len(labels),
        ip_family=_choice(networking, "ipFamily", tuple(FAMILIES)),
        service_cidr=_value(networking, "networking.", "serviceSubnet", str),
        pod_cidr=_value(networking, "networking.", "podSubnet", str),
        api_port=_api_port(networking),
        proxy=_proxy(networking, remarks),
        node_labels=labels,
        terms=_TERMS,
    )
    _check_address(networking)
    if _value(networking, "networking.", "disableDefaultCNI", bool):
        raise ClusterError(
            "networking.disableDefaultCNI: nodes here have the built-in pod network and no other", "leave it out"
        )
    return KindCluster(wishes, remarks)


def load(path: str) -> KindCluster:
    """`read` a YAML or JSON file. Raises ClusterError with the file's name in front."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
    except OSError as error:
        raise ClusterError(f"--config {path}: {error.strerror}", "give the path of a file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterError(f"--config {path} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return read(document)
    except ClusterError as error:
        raise ClusterError(f"--config {path}: {error.problem}", error.advice) from None


def _nodes(nodes: object, remarks: list[str]) -> tuple[Mapping[str, str], ...]:
    if not isinstance(nodes, list) or not nodes:
        raise ClusterError("nodes is no list of nodes")
    found = []
    for number, value in enumerate(nodes):
        path = f"nodes[{number}]"
        node = _mapping(value, path)
        _fields(node, f"{path}.", _NODE, _NODE_IDLE, remarks)
        role = node.get("role", _ROLES[0])
        if role not in _ROLES:
            raise ClusterError(f"{path}.role {role!r} is not one of {', '.join(_ROLES)}")
        if role == _ROLES[0]:
            remark = "role control-plane: a node as the others; the control plane is processes of this machine"
            if remark not in remarks:
                remarks.append(remark)
        found.append(checked_labels(_mapping(node.get("labels") or {}, f"{path}.labels"), f"{path}.labels"))
    return tuple(found)


def _proxy(networking: JSON, remarks: list[str]) -> bool | None:
    mode = _choice(networking, "kubeProxyMode", _PROXY_MODES)
    if mode in ("iptables", "ipvs"):
        remarks.append(f"networking.kubeProxyMode {mode}: the proxy here works with nftables")
    return None if mode is None else mode != "none"


def _api_port(networking: JSON) -> int | None:
    """kind takes -1 and 0 for a port of its own choice."""
    port: int | None = _value(networking, "networking.", "apiServerPort", int)
    return None if port in (-1, 0) else port


def _check_address(networking: JSON) -> None:
    address = _value(networking, "networking.", "apiServerAddress", str)
    if address not in (None, "", "127.0.0.1", "localhost"):
        raise ClusterError(
            f"networking.apiServerAddress {address}: the API server listens on 127.0.0.1 of this machine alone",
            "leave it out",
        )


def _choice(networking: JSON, field: str, choices: tuple[str, ...]) -> str | None:
    value: str | None = _value(networking, "networking.", field, str)
    if not value:
        return None
    if value not in choices:
        raise ClusterError(f"networking.{field} {value!r} is not one of {', '.join(choices)}")
    return value


def _fields(value: JSON, path: str, known: set[str], idle: set[str], remarks: list[str]) -> None:
    for field in value:
        if field in idle:
            remarks.append(f"{path}{field}: not acted on")
        elif field not in known:
            raise ClusterError(f"unknown field {path}{field}", f"known here: {', '.join(sorted(known | idle))}")


def _mapping(value: object, path: str) -> JSON:
    if not isinstance(value, dict):
        raise ClusterError(f"{path} is no mapping")
    return value


_TYPES: dict[type, str] = {str: "text", int: "a number", bool: "true or false"}


def _value(value: JSON, path: str, field: str, kind: Callable[..., Any]) -> Any:
    found = value.get(field)
    if found is not None and type(found) is not kind:
        raise ClusterError(f"{path}{field} must be {_TYPES[kind]}, not {found!r}")  # type: ignore[index]
    return found
