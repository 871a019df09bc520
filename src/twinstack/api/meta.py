"""Types of meta/v1 and the base of every typed object.

A typed object holds what Twinstack acts on. Decoding drops other fields, so a component that changes an
object of somebody else sends a patch, never the typed object back.
"""

from __future__ import annotations

import msgspec

_UPPER = frozenset({"ip", "ips", "id", "pid", "ipc", "cidr", "cidrs", "uuid"})


def camel(name: str) -> str:
    """The API's spelling of a field: `cluster_ips` → `clusterIPs`, `pod_cidr` → `podCIDR`."""
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(_acronym(part) if part in _UPPER else part.capitalize() for part in rest)


def _acronym(part: str) -> str:
    return part[:-1].upper() + "s" if part.endswith("s") else part.upper()


class Struct(msgspec.Struct, kw_only=True, omit_defaults=True, rename=camel):
    """Base of all API types: camel-case names on the wire, unset fields left out."""


class OwnerReference(Struct):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Struct):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []


class Object(Struct):
    """What every kind has."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for cluster-scoped objects."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


class Condition(Struct):
    """meta/v1 Condition, and the conditions of Pods, Nodes and workloads, which are shaped alike."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str | None = None
    last_probe_time: str | None = None
    last_heartbeat_time: str | None = None
    last_update_time: str | None = None


class LabelSelectorRequirement(Struct):
    key: str = ""
    operator: str = ""
    values: list[str] = []


class LabelSelector(Struct):
    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []


class ObjectReference(Struct):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""
