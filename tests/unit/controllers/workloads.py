"""ReplicaSets, Deployments and Pods for tests."""

from __future__ import annotations

from typing import Any

from twinstack.api.apps import Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus
from twinstack.api.core import ContainerStatus, Pod, PodSpec, PodStatus, PodTemplateSpec
from twinstack.api.meta import Condition, LabelSelector, ObjectMeta, OwnerReference
from twinstack.api.times import format_time
from twinstack.controllers.templates import DESIRED_REPLICAS, MAX_REPLICAS

NOW = 1_800_000_000.0


def deployment(replicas: int | None = 3, **spec: Any) -> Deployment:
    template = PodTemplateSpec(metadata={"labels": {"app": "web"}}, spec={"containers": [{"name": "c", "image": "i"}]})
    fields: dict[str, Any] = {"selector": LabelSelector(match_labels={"app": "web"}), "template": template} | spec
    return Deployment(
        api_version="apps/v1",
        kind="Deployment",
        metadata=ObjectMeta(name="web", namespace="shop", uid="d1", generation=4),
        spec=DeploymentSpec(replicas=replicas, **fields),
    )


def replica_set(
    name: str,
    replicas: int,
    available: int | None = None,
    *,
    age: int = 0,
    desired: int | None = None,
    maximum: int = 0,
) -> ReplicaSet:
    """One with `age` minutes; all of its Pods exist, `available` of them serve."""
    annotations = {} if desired is None else {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(maximum or desired)}
    serving = replicas if available is None else available
    return ReplicaSet(
        api_version="apps/v1",
        kind="ReplicaSet",
        metadata=ObjectMeta(
            name=name,
            namespace="shop",
            uid=f"uid-{name}",
            creation_timestamp=format_time(NOW - 60 * age),
            annotations=annotations,
        ),
        spec=ReplicaSetSpec(replicas=replicas, template=PodTemplateSpec(metadata={"labels": {"app": "web"}})),
        status=ReplicaSetStatus(replicas=replicas, ready_replicas=serving, available_replicas=serving),
    )


def pod(
    name: str,
    *,
    node: str = "n1",
    phase: str = "Running",
    ready_for: float | None = 100.0,
    restarts: int = 0,
    age: int = 0,
    deleted: bool = False,
    owner: str = "",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> Pod:
    """One that has been ready for `ready_for` seconds, None: is not ready."""
    ready = Condition(type="Ready", status="False")
    if ready_for is not None:
        ready = Condition(type="Ready", status="True", last_transition_time=format_time(NOW - ready_for))
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="shop",
            uid=f"uid-{name}",
            labels={"app": "web"} if labels is None else labels,
            annotations=annotations or {},
            creation_timestamp=format_time(NOW - 60 * age),
            deletion_timestamp=format_time(NOW) if deleted else None,
            owner_references=[OwnerReference(kind="ReplicaSet", uid=owner, controller=True)] if owner else [],
        ),
        spec=PodSpec(node_name=node),
        status=PodStatus(phase=phase, conditions=[ready], container_statuses=[ContainerStatus(restart_count=restarts)]),
    )
