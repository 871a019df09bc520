"""The object that a cluster's configuration is: ConfigMap kube-system/kubeadm-config.

`data.ClusterConfiguration` is kubeadm's form (kubeadm.k8s.io/v1beta4), so programs that look for it find it
where a cluster of kubeadm has it. `data.Nodes` lists this machine's nodes and their labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinstack.cluster.configuration import ClusterConfiguration, Terms, block_text, blocks, check
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.yamltext import to_yaml

NAMESPACE, NAME = "kube-system", "kubeadm-config"
API_VERSION, KIND = "kubeadm.k8s.io/v1beta4", "ClusterConfiguration"
DOMAIN = "cluster.local"

_PORT_FLAG = "service-node-port-range"
_TERMS = Terms("networking.serviceSubnet", "networking.podSubnet", "Nodes:", "")
# Fields that are read, and those of kubeadm that say nothing a local cluster could obey or disobey.
_KNOWN = {
    "": {"apiVersion", "kind", "clusterName", "controlPlaneEndpoint", "networking", "apiServer", "proxy", "egress"},
    "networking": {"dnsDomain", "podSubnet", "serviceSubnet"},
    "apiServer": {"extraArgs"},
    "proxy": {"disabled"},
    "egress": {"enabled"},  # not of kubeadm
}

JSON = dict[str, Any]


def data(cluster: ClusterConfiguration) -> dict[str, str]:
    """The `data` of the ConfigMap."""
    configuration = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "clusterName": cluster.name,
        "controlPlaneEndpoint": f"127.0.0.1:{cluster.api_port}",
        "networking": {
            "dnsDomain": DOMAIN,
            "podSubnet": block_text(cluster.pod_cidrs),
            "serviceSubnet": block_text(cluster.service_cidrs),
        },
        "apiServer": {"extraArgs": [{"name": _PORT_FLAG, "value": cluster.node_ports}]},
        "proxy": {"disabled": not cluster.proxy},
        "egress": {"enabled": cluster.egress},
    }
    nodes = [{"name": cluster.node_name(i), "labels": dict(cluster.labels(i))} for i in cluster.node_indexes]
    return {KIND: to_yaml(configuration), "Nodes": to_yaml(nodes)}


def read(found: Mapping[str, str], existing: ClusterConfiguration) -> tuple[ClusterConfiguration, list[str]]:
    """The configuration in a ConfigMap's data, and the fields in it that have no effect here.

    Raises ClusterError with the path of the field that cannot be. `existing` gives what the form does not hold.
    """
    expected = data(existing)
    if all(found.get(key) == text for key, text in expected.items()):
        return existing, []
    document = _document(found, KIND, dict)
    if document.get("apiVersion") != API_VERSION or document.get("kind") != KIND:
        raise ClusterError(f"data.{KIND} is not a {KIND} of {API_VERSION}")
    networking = _mapping(document, "networking")
    nodes = _document(found, "Nodes", list)
    read_ = existing._replace(
        name=_text(document, "clusterName"),
        service_cidrs=blocks(_TERMS.services, _text(networking, "serviceSubnet", "networking.")),
        pod_cidrs=blocks(_TERMS.pods, _text(networking, "podSubnet", "networking.")),
        api_port=_port(_text(document, "controlPlaneEndpoint")),
        node_ports=_node_ports(document),
        proxy=not _mapping(document, "proxy").get("disabled", False),
        egress=bool(_mapping(document, "egress").get("enabled", False)),
        nodes=len(nodes),
        node_labels=tuple(_labels(node, number, existing.name) for number, node in enumerate(nodes, 1)),
    )
    if networking.get("dnsDomain", DOMAIN) != DOMAIN:
        raise ClusterError(f"networking.dnsDomain {networking['dnsDomain']!r}: the domain is {DOMAIN}")
    check(read_, _TERMS)
    if all(read_.labels(index) == existing.labels(index) for index in read_.node_indexes):
        read_ = read_._replace(node_labels=existing.node_labels)
    return read_, list(_without_effect(document))


def _document(found: Mapping[str, str], key: str, kind: type) -> Any:
    import yaml  # only once somebody has edited the object

    if key not in found:
        raise ClusterError(f"data.{key} is missing")
    try:
        value = yaml.safe_load(found[key])
    except yaml.YAMLError as error:
        raise ClusterError(f"data.{key} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, kind):
        raise ClusterError(f"data.{key} is no {'mapping' if kind is dict else 'list'}")
    return value


def _mapping(document: JSON, field: str) -> JSON:
    value = document.get(field) or {}
    if not isinstance(value, dict):
        raise ClusterError(f"{field} is no mapping")
    return value


def _text(document: JSON, field: str, path: str = "") -> str:
    value = document.get(field)
    if not isinstance(value, str):
        raise ClusterError(f"{path}{field} is missing" if value is None else f"{path}{field} is no text")
    return value


def _port(endpoint: str) -> int:
    host, _, port = endpoint.rpartition(":")
    if host != "127.0.0.1" or not port.isdecimal():
        raise ClusterError(f"controlPlaneEndpoint {endpoint!r}: the API server listens on 127.0.0.1, at one port")
    return int(port)


def _arguments(document: JSON) -> list[JSON]:
    arguments = _mapping(document, "apiServer").get("extraArgs") or []
    if not isinstance(arguments, list) or not all(isinstance(entry, dict) for entry in arguments):
        raise ClusterError("apiServer.extraArgs is no list of name and value")
    return arguments


def _node_ports(document: JSON) -> str:
    values = [str(entry.get("value")) for entry in _arguments(document) if entry.get("name") == _PORT_FLAG]
    if not values:
        raise ClusterError(f"apiServer.extraArgs has no {_PORT_FLAG}")
    return values[-1]


def _labels(node: object, number: int, cluster: str) -> dict[str, str]:
    name = f"{cluster}-{number}"
    if not isinstance(node, dict) or node.get("name") != name:
        raise ClusterError(f"Nodes[{number - 1}] must have the name {name}")
    labels = node.get("labels") or {}
    if not isinstance(labels, dict):
        raise ClusterError(f"Nodes[{number - 1}].labels is no mapping")
    return checked_labels(labels, f"Nodes[{number - 1}].labels")


def checked_labels(labels: Mapping[Any, Any], path: str) -> dict[str, str]:
    """Labels as the API takes them. Raises ClusterError with the first one that it would refuse."""
    from twinstack.api import validation
    from twinstack.api.nodelabels import is_restricted

    for key, value in labels.items():
        wrong = validation.qualified_name(str(key)) or validation.label_value(str(value))
        if not isinstance(key, str) or not isinstance(value, str):
            raise ClusterError(f"{path}: {key!r}: {value!r} is not text", "put it into quotes")
        if wrong:
            raise ClusterError(f"{path}: {key}={value} is no label: {wrong[0]}")
        if is_restricted(key):
            raise ClusterError(f"{path}: {key} is not a node's own to set", "set it by kubectl label node")
    return dict(labels)


def _without_effect(document: JSON) -> Iterator[str]:
    for parent, known in _KNOWN.items():
        for field in document if not parent else _mapping(document, parent):
            if field not in known:
                yield f"{parent}.{field}" if parent else field
    for entry in _arguments(document):
        if entry.get("name") != _PORT_FLAG:
            yield f"apiServer.extraArgs {entry.get('name')}"
