"""The desired state of a node from manifests, without a cluster: Services, slices, the Node, the Service ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from sys import stdin
from typing import Any

import msgspec

from twinstack.api.core import Node, Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.networking import ServiceCIDR
from twinstack.dataplane.claims import Claims
from twinstack.dataplane.tracker import Tracker
from twinstack.ip import IPFamily
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.snapshot import Snapshot
from twinstack.proxy.tracker import node_view, surroundings_of

_KINDS = {"Service": Service, "EndpointSlice": EndpointSlice, "Node": Node, "ServiceCIDR": ServiceCIDR}

Known = Service | EndpointSlice | Node | ServiceCIDR


def read(path: str) -> list[dict[str, Any]]:
    """The objects of a file, or of standard input for `-`: JSON or YAML, Lists taken apart. Raises ValueError."""
    import yaml

    try:
        data = stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        documents = list(yaml.load_all(data, Loader=yaml.CSafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {'standard input' if path == '-' else path}: {error}") from None
    return list(_objects(documents))


def _objects(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise ValueError(f"no Kubernetes object: {str(document)[:60]!r}")
        if document["kind"].endswith("List") and isinstance(document.get("items"), list):
            kind = document["kind"].removesuffix("List")
            yield from _objects({"kind": kind} | item if kind else item for item in document["items"])
        else:
            yield document


def snapshot(
    documents: Iterable[dict[str, Any]], configuration: Configuration, families: list[IPFamily]
) -> tuple[Snapshot, list[str]]:
    """What a node would do, and remarks on what it would not. Raises ValueError for an object of a wrong form."""
    remarks: list[str] = []
    objects = [each for document in documents if (each := _typed(document, remarks)) is not None]
    nodes = [each for each in objects if isinstance(each, Node)]
    node = next((each for each in nodes if each.metadata.name == configuration.node_name), None)
    desired = Tracker(families, node_view(configuration, node))
    for obj in objects:
        obj.metadata.namespace = obj.metadata.namespace or "default"
        if isinstance(obj, Service) and desired.put_service(obj) is None and obj.spec.type != "ExternalName":
            remarks.append(f"Service {obj.key} has no address yet: spec.clusterIPs is empty or None")
        elif isinstance(obj, EndpointSlice):
            desired.put_slice(obj)
    ranges = [each for each in objects if isinstance(each, ServiceCIDR)]
    changes = desired.take()
    claims = {family: Claims() for family in families}
    for family in families:
        claims[family].apply([change for change in changes if change.family is family])
    around = {family: surroundings_of(configuration, family, node, ranges) for family in families}
    return Snapshot(claims, around, desired), remarks


def _typed(document: dict[str, Any], remarks: list[str]) -> Known | None:
    kind = _KINDS.get(document["kind"])
    name = (document.get("metadata") or {}).get("name", "")
    if kind is None:
        remarks.append(f"{document['kind']} {name}: not a matter of the proxy")
        return None
    try:
        found: Known = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{document['kind']} {name}: {error}") from None
    return found
