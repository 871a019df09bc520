"""Where its node is, as labels of a Pod (admission plugin PodTopologyLabels, KEP-4742)."""

from __future__ import annotations

from typing import Any

from twinstack.api.resources import resource
from twinstack.server.strategy.base import Reader

JSON = dict[str, Any]

_NODES = resource("", "nodes")
_COPIED = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")


def copy_topology(reader: Reader, node_name: str, meta: JSON) -> None:
    """Give `meta` the labels of the node, over those it has. A node that is not there has none."""
    node = reader.get(_NODES, "", node_name) or {"metadata": {}}
    labels = node["metadata"].get("labels") or {}
    copied = {name: labels[name] for name in _COPIED if name in labels}
    if copied:
        meta["labels"] = (meta.get("labels") or {}) | copied
