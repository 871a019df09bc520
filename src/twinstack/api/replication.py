"""Types of core/v1 ReplicationControllers, which ReplicaSets have replaced."""

from __future__ import annotations

import msgspec

from twinstack.api.core import PodTemplateSpec
from twinstack.api.meta import Condition, Object, Struct


class ReplicationControllerSpec(Struct):
    replicas: int | None = None
    min_ready_seconds: int = 0
    selector: dict[str, str] = {}
    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)


class ReplicationControllerStatus(Struct):
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: list[Condition] = []


class ReplicationController(Object):
    """What a ReplicaSet was before it: its selector knows equality alone."""

    spec: ReplicationControllerSpec = msgspec.field(default_factory=ReplicationControllerSpec)
    status: ReplicationControllerStatus = msgspec.field(default_factory=ReplicationControllerStatus)
