"""Pod templates of a Deployment: which ReplicaSet has the present one, and the ReplicaSet for a new one. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from twinstack.api.apps import Deployment, ReplicaSet
from twinstack.controllers.owners import reference_to

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_OWN = frozenset({REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS})
_NOT_COPIED = _OWN | {"kubectl.kubernetes.io/last-applied-configuration", "deprecated.deployment.rollback.to"}
_DIGITS = str.maketrans("0123456789", "456789bcdf")  # no vowels: no words by accident


def matching(deployment: Deployment, replica_sets: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """The oldest ReplicaSet whose template is the Deployment's, the hash label aside."""
    wanted = _comparable(deployment.spec.template)
    candidates = [replica_set for replica_set in replica_sets if _comparable(replica_set.spec.template) == wanted]
    return min(candidates, key=lambda rs: (rs.metadata.creation_timestamp, rs.metadata.name), default=None)


def _comparable(template: Any) -> tuple[Any, Any]:
    """A template without what nobody set: servers before 1.35 write `creationTimestamp: null`."""
    metadata = {field: value for field, value in template.metadata.items() if value is not None}
    labels = {name: value for name, value in (metadata.pop("labels", None) or {}).items() if name != HASH_LABEL}
    return {"labels": labels} | metadata, template.spec


def template_hash(deployment: Deployment, collisions: int) -> str:
    """A short name of the template; `collisions` counts the names that were taken by something else."""
    return short_hash([deployment.spec.template, collisions])


def short_hash(value: Any) -> str:
    """Some ten letters and digits that fit into a name."""
    text = msgspec.json.encode(value, order="deterministic")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
    return str(number).translate(_DIGITS)


def new_replica_set(deployment: Deployment, replicas: int, revision: int, maximum: int) -> dict[str, Any]:
    """The ReplicaSet for the present template: its name, labels and selector carry the template's hash."""
    hashed = {HASH_LABEL: template_hash(deployment, deployment.status.collision_count or 0)}
    template = deployment.spec.template
    labels = (template.metadata.get("labels") or {}) | hashed
    selector = msgspec.to_builtins(deployment.spec.selector)
    selector["matchLabels"] = selector.get("matchLabels", {}) | hashed
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": selector,
        "template": {"metadata": template.metadata | {"labels": labels}, "spec": template.spec},
    }
    if deployment.spec.min_ready_seconds:
        spec["minReadySeconds"] = deployment.spec.min_ready_seconds
    meta = deployment.metadata
    return {
        "metadata": {
            "name": f"{meta.name}-{hashed[HASH_LABEL]}",
            "namespace": meta.namespace,
            "labels": labels,
            "annotations": copied_annotations(deployment)
            | {REVISION: str(revision), DESIRED_REPLICAS: str(wanted(deployment)), MAX_REPLICAS: str(maximum)},
            "ownerReferences": [msgspec.to_builtins(reference_to(deployment))],
        },
        "spec": spec,
    }


def copied_annotations(deployment: Deployment) -> dict[str, str]:
    """Annotations of the Deployment that its ReplicaSets carry too (`kubernetes.io/change-cause` for one)."""
    return {name: value for name, value in deployment.metadata.annotations.items() if name not in _NOT_COPIED}


def wanted(deployment: Deployment) -> int:
    return 1 if deployment.spec.replicas is None else deployment.spec.replicas


def revision(replica_set: ReplicaSet) -> int:
    """The number of the rollout that last used a ReplicaSet; 0 when it does not say."""
    return annotated(replica_set, REVISION)


def annotated(replica_set: ReplicaSet, name: str) -> int:
    """An annotation that is a number; 0 when absent or none."""
    text = replica_set.metadata.annotations.get(name, "")
    return int(text) if text.isdecimal() else 0
