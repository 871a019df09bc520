"""Keeps the status of every PodDisruptionBudget (policy/v1), by which the API server allows evictions or not."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec

from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Kind,
)
from twinstack.api.meta import OwnerReference, Struct
from twinstack.api.policy import PodDisruptionBudget, PodDisruptionBudgetStatus
from twinstack.api.selectors import LabelSelector
from twinstack.client.discovery import find_resource
from twinstack.client.informer import Informer
from twinstack.client.rest import MERGE, Client
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers import budgetplan
from twinstack.controllers.context import Context, synced
from twinstack.controllers.podstate import is_ready


class _Unscaled(Exception):
    """Nobody says how many Pods there should be; the text is for people."""


class _Scale(Struct):
    """As much of an autoscaling/v1 Scale as counts here."""

    class Spec(Struct):
        replicas: int = 0

    spec: Spec = msgspec.field(default_factory=Spec)


class _Replicated(Protocol):
    """The spec of whoever has replicas."""

    @property
    def replicas(self) -> int | None: ...


class DisruptionController:
    """Counts the Pods of each budget whenever one of them changes."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("controllermanager")
        self._queue = WorkQueue("poddisruptionbudgets")
        self._budgets = context.informers.of(POD_DISRUPTION_BUDGETS)
        self._in_namespace = self._budgets.index(lambda budget: [budget.metadata.namespace])
        self._pods = context.informers.of(PODS)
        self._pods_in = self._pods.index(lambda pod: [pod.metadata.namespace])
        self._scales = _Scales(context)

    async def run(self) -> None:
        await synced(self._budgets, self._pods)
        await self._scales.synced()
        self._budgets.subscribe(self._budget_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=2)

    def _budget_changed(self, old: PodDisruptionBudget | None, new: PodDisruptionBudget | None) -> None:
        if new is not None:
            self._queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _counted(old) == _counted(new):
            return
        namespace = (new or old or Pod()).metadata.namespace
        for key, budget in self._in_namespace[namespace].items():
            matches = _selector(budget).matches
            if any(pod is not None and matches(pod.metadata.labels) for pod in (old, new)):
                self._queue.add(key)

    async def _sync(self, key: str) -> None:
        budget = self._budgets.objects.get(key)
        if budget is None:
            return
        matches = _selector(budget).matches
        pods = [pod for pod in self._pods_in[budget.metadata.namespace].values() if matches(pod.metadata.labels)]
        if not pods:
            self._events.event(budget, "Normal", "NoPods", "No matching pods found")
        now = time.time()
        disrupted = budgetplan.disrupted(budget.status, pods, now)
        try:
            scale = await self._scale(budget, pods) if budgetplan.needs_scale(budget.spec) else 0
        except _Unscaled as error:
            status = budgetplan.failed(budget, str(error), now)
        else:
            self._tell_overdue(budget, disrupted.overdue)
            wanted = budgetplan.expected(budget.spec, len(pods), scale)
            healthy = budgetplan.healthy(pods, disrupted.going)
            status = budgetplan.judged(budget, healthy, wanted, disrupted.going, now)
        if status != budget.status:
            await _write(self._client, self._budgets, budget, status)
        if disrupted.next is not None:
            self._queue.add(key, delay=disrupted.next + 0.001)

    async def _scale(self, budget: PodDisruptionBudget, pods: list[Pod]) -> int:
        """Replicas that the owners of these Pods want; Pods without one do not count. Raises _Unscaled."""
        try:
            return await self._scales.of(pods)
        except _Unscaled as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            self._events.event(budget, "Warning", "CalculateExpectedPodCountFailed", message)
            raise

    def _tell_overdue(self, budget: PodDisruptionBudget, pods: list[Pod]) -> None:
        for pod in pods:
            message = f"Pod was expected by PDB {budget.key} to be deleted but it wasn't"
            self._events.event(pod, "Warning", "NotDeleted", message)


class _Scales:
    """How many replicas the owner at the top of a Pod wants."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._replica_sets = context.informers.of(REPLICA_SETS)
        self._deployments = context.informers.of(DEPLOYMENTS)
        self._others: dict[tuple[str, str], Informer[Any]] = {
            _naming(kind): context.informers.of(kind) for kind in (STATEFUL_SETS, REPLICATION_CONTROLLERS)
        }

    async def synced(self) -> None:
        await synced(self._replica_sets, self._deployments, *self._others.values())

    async def of(self, pods: list[Pod]) -> int:
        """The sum over all owners. Raises _Unscaled, StatusError, OSError."""
        wanted: dict[str, int] = {}  # by the uid of who is scaled
        seen: set[str] = set()
        for pod in pods:
            owner = _controller(pod.metadata.owner_references)
            if owner is None or owner.uid in seen:
                continue
            seen.add(owner.uid)
            found = await self._replicas(pod.metadata.namespace, owner)
            if found is None:
                raise _Unscaled(f'found no controllers for pod "{pod.metadata.name}"')
            top, replicas = found
            wanted[top] = replicas
        return sum(wanted.values())

    async def _replicas(self, namespace: str, owner: OwnerReference) -> tuple[str, int] | None:
        """The uid of who is scaled, and its replicas; None when it is gone. Raises _Unscaled."""
        if _reference(owner) == _naming(REPLICA_SETS):
            replica_set = self._replica_sets.objects.get(f"{namespace}/{owner.name}")
            if replica_set is None or replica_set.metadata.uid != owner.uid:
                return None
            above = _controller(replica_set.metadata.owner_references)
            if above is None or _reference(above) != _naming(DEPLOYMENTS):
                return owner.uid, _wanted(replica_set.spec)
            return _known(self._deployments, namespace, above)
        informer = self._others.get(_reference(owner))
        return _known(informer, namespace, owner) if informer is not None else await self._asked(namespace, owner)

    async def _asked(self, namespace: str, owner: OwnerReference) -> tuple[str, int] | None:
        """By the `scale` subresource, which every other kind may have."""
        resource = await find_resource(self._client, owner.api_version, owner.kind)
        if resource is None:
            return None
        path = resource.path(namespace, owner.name)
        try:
            held = await self._client.request("GET", path)
        except StatusError as error:
            if error.code != 404:
                raise
            return None
        if msgspec.json.decode(held, type=_Named).metadata.uid != owner.uid:
            return None
        try:
            body = await self._client.request("GET", f"{path}/scale")
        except StatusError as error:
            if error.code != 404:
                raise
            group = _group(owner)
            name = f"{resource.plural}.{group}" if group else resource.plural
            raise _Unscaled(f"{name} does not implement the scale subresource") from error
        return owner.uid, msgspec.json.decode(body, type=_Scale).spec.replicas


class _Named(Struct):
    class Metadata(Struct):
        uid: str = ""

    metadata: Metadata = msgspec.field(default_factory=Metadata)


def _known(informer: Informer[Any], namespace: str, owner: OwnerReference) -> tuple[str, int] | None:
    found = informer.objects.get(f"{namespace}/{owner.name}")
    return (owner.uid, _wanted(found.spec)) if found is not None and found.metadata.uid == owner.uid else None


def _wanted(spec: _Replicated) -> int:
    return 1 if spec.replicas is None else spec.replicas


def _controller(references: list[OwnerReference]) -> OwnerReference | None:
    return next((reference for reference in references if reference.controller), None)


def _group(owner: OwnerReference) -> str:
    return owner.api_version.rpartition("/")[0]


def _reference(owner: OwnerReference) -> tuple[str, str]:
    return _group(owner), owner.kind


def _naming(kind: Kind[Any]) -> tuple[str, str]:
    return kind.resource.group, kind.resource.kind


def _selector(budget: PodDisruptionBudget) -> LabelSelector:
    return LabelSelector.from_object(budget.spec.selector)


def _counted(pod: Pod) -> tuple[object, ...]:
    """What a budget looks at in a Pod."""
    meta = pod.metadata
    return meta.labels, meta.uid, meta.deletion_timestamp, meta.owner_references, is_ready(pod)


async def _write(
    client: Client,
    informer: Informer[PodDisruptionBudget],
    budget: PodDisruptionBudget,
    status: PodDisruptionBudgetStatus,
) -> None:
    """Onto the version that was judged alone: an eviction that was allowed meanwhile must be counted first.

    Raises StatusError (409: the newer version is on its way), OSError.
    """
    meta = budget.metadata
    forgotten = {name: None for name in budget.status.disrupted_pods if name not in status.disrupted_pods}
    body = {
        "observedGeneration": status.observed_generation,
        "disruptedPods": status.disrupted_pods | forgotten,
        "disruptionsAllowed": status.disruptions_allowed,
        "currentHealthy": status.current_healthy,
        "desiredHealthy": status.desired_healthy,
        "expectedPods": status.expected_pods,
        "conditions": [msgspec.to_builtins(entry) | {"message": entry.message} for entry in status.conditions],
    }
    patch = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": body}
    try:
        answer = await client.patch(
            informer.kind, meta.name, meta.namespace, patch, subresource="status", content_type=MERGE
        )
    except StatusError as error:
        if error.code != 404:
            raise
        return
    informer.wrote(answer)
