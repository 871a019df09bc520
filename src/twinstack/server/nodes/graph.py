"""Which node may know of which object: the pods bound to it, what they name, and what their volumes name in turn.

Kept as objects change. An answer takes one or two look-ups; a Pod costs work when it is bound and when it goes, its
status changes cost a comparison.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from twinstack.api.resources import resource
from twinstack.server.nodes import references
from twinstack.server.nodes.restriction import MIRROR
from twinstack.server.watchcache import WatchCache
from twinstack.server.watchers import Change

JSON = dict[str, Any]

PODS = resource("", "pods")
VOLUMES = resource("", "persistentvolumes")
ATTACHMENTS = resource("storage.k8s.io", "volumeattachments")
_CSI_SECRETS = (
    "controllerExpandSecretRef",
    "controllerPublishSecretRef",
    "nodeExpandSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
)
_WITH_SECRET = ("cephfs", "cinder", "flexVolume", "iscsi", "rbd")


class Target(NamedTuple):
    """An object by the plural of its kind."""

    plural: str
    namespace: str
    name: str


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    ephemeral_containers: list[msgspec.Raw] = []


class _Head(msgspec.Struct):
    """What of a Pod decides whether its edges may have changed: the rest of its spec never does."""

    metadata: _Metadata
    spec: _Spec


_HEAD = msgspec.json.Decoder(_Head)


class _Edges(NamedTuple):
    """What one object says: `start` may know of `targets`. `mark` differs when that may have changed."""

    start: object
    targets: tuple[Target, ...]
    mark: object


class NodeGraph:
    """Edges from nodes to what their pods name, and from claims to what their volumes are made of."""

    def __init__(self) -> None:
        self._edges: dict[str, _Edges] = {}  # by storage key
        self._starts: dict[Target, dict[object, int]] = defaultdict(dict)  # who may know of it, how often

    def relates(self, node: str, target: Target) -> bool:
        """Whether `node` may know of an object."""
        starts = self._starts.get(target)
        if not starts:
            return False
        if node in starts:
            return True
        return any(isinstance(start, Target) and node in self._starts.get(start, ()) for start in starts)

    def put_pod(self, key: str, value: bytes) -> None:
        """`value` is the stored JSON."""
        head = _HEAD.decode(value)
        mark = (head.metadata.uid, head.spec.node_name, len(head.spec.ephemeral_containers))
        before = self._edges.get(key)
        if before is not None and before.mark == mark:
            return
        self.drop(key)
        if head.spec.node_name:
            self._put(key, _Edges(head.spec.node_name, tuple(_pod_targets(msgspec.json.decode(value))), mark))

    def put_volume(self, key: str, value: bytes) -> None:
        """A PersistentVolume that is bound belongs to its claim, and so do the Secrets that it names."""
        self.drop(key)
        obj: JSON = msgspec.json.decode(value)
        claim = (obj.get("spec") or {}).get("claimRef") or {}
        if claim.get("name"):
            start = Target("persistentvolumeclaims", claim.get("namespace", ""), claim["name"])
            self._put(key, _Edges(start, tuple(_volume_targets(obj, start.namespace)), None))

    def put_attachment(self, key: str, value: bytes) -> None:
        self.drop(key)
        obj: JSON = msgspec.json.decode(value)
        target = Target(ATTACHMENTS.plural, "", obj["metadata"]["name"])
        self._put(key, _Edges(obj["spec"].get("nodeName", ""), (target,), None))

    def drop(self, key: str) -> None:
        """Forget what an object said."""
        edges = self._edges.pop(key, None)
        for target in edges.targets if edges is not None else ():
            starts = self._starts[target]
            assert edges is not None
            starts[edges.start] -= 1
            if not starts[edges.start]:
                del starts[edges.start]
                if not starts:
                    del self._starts[target]

    def _put(self, key: str, edges: _Edges) -> None:
        self._edges[key] = edges
        for target in edges.targets:
            starts = self._starts[target]
            starts[edges.start] = starts.get(edges.start, 0) + 1


def follow(cache: WatchCache, graph: NodeGraph) -> None:
    """Fill `graph` from a loaded cache, and keep it as objects change."""
    for row, put in ((PODS, graph.put_pod), (VOLUMES, graph.put_volume), (ATTACHMENTS, graph.put_attachment)):
        collection = cache.collection(row)
        for version in collection.versions(row.prefix):
            put(version.key, version.value)

        def observe(change: Change, put: Any = put) -> None:
            if change.new is None:
                graph.drop(change.key)
            else:
                put(change.key, change.new.value)

        collection.observe(observe)


def _pod_targets(pod: JSON) -> Iterator[Target]:
    meta, spec = pod["metadata"], pod["spec"]
    namespace = meta.get("namespace", "")
    yield Target("pods", namespace, meta["name"])
    if MIRROR in (meta.get("annotations") or {}):
        return  # what a node says itself gives it nothing
    named: Iterable[tuple[str, Iterable[str]]] = (
        ("serviceaccounts", [spec.get("serviceAccountName", "")]),
        ("secrets", references.secrets(spec)),
        ("configmaps", references.config_maps(spec)),
        ("persistentvolumeclaims", references.claims(pod)),
    )
    for plural, names in named:
        yield from (Target(plural, namespace, name) for name in set(names) if name)


def _volume_targets(volume: JSON, namespace: str) -> Iterator[Target]:
    spec = volume["spec"]
    yield Target("persistentvolumes", "", volume["metadata"]["name"])
    csi = spec.get("csi") or {}
    refs = [csi.get(field) or {} for field in _CSI_SECRETS]
    refs += [
        (spec.get(kind) or {}).get("secretRef") or {} for kind in ("cephfs", "cinder", "flexVolume", "iscsi", "rbd")
    ]
    for ref in refs:
        if ref.get("name"):
            yield Target("secrets", ref.get("namespace") or namespace, ref["name"])
    azure = spec.get("azureFile") or {}
    if azure.get("secretName"):
        yield Target("secrets", azure.get("secretNamespace") or namespace, azure["secretName"])
