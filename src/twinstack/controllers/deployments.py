"""Turns every Deployment into ReplicaSets: one a template, sized by the rollout (apps/v1)."""

from __future__ import annotations

import time
from typing import Any

from twinstack.api.apps import Deployment, ReplicaSet
from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import DEPLOYMENTS, PODS, REPLICA_SETS
from twinstack.api.meta import Condition
from twinstack.api.selectors import LabelSelector
from twinstack.client.rest import MERGE
from twinstack.client.workqueue import NotYet, WorkQueue
from twinstack.controllers import deploymentstatus, rollout, templates
from twinstack.controllers.claims import Claims
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.owners import controller_of, orphan_namespace, owner_uid
from twinstack.controllers.podstate import is_finished
from twinstack.controllers.replicas import wanted as spec_replicas
from twinstack.controllers.rollout import Limits, Sizes

DEFAULT_HISTORY = 10
GONE_DELAY = 0.5  # seconds until the watch has told what was deleted under our hands


class CreationFailed(NotYet):
    """The server refuses the ReplicaSet; `condition` tells why."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition.message)
        self.condition = condition


class DeploymentController:
    """One step of the rollout a round; each change of a ReplicaSet's status brings the next."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("deployment-controller")
        self._queue = WorkQueue("deployments")
        self._deployments = context.informers.of(DEPLOYMENTS)
        self._sets = context.informers.of(REPLICA_SETS)
        self._pods = context.informers.of(PODS)
        self._deployments_by_namespace = self._deployments.index(lambda deployment: [deployment.metadata.namespace])
        self._sets_by_owner = self._sets.index(owner_uid)
        self._orphans = self._sets.index(orphan_namespace)
        self._pods_by_owner = self._pods.index(owner_uid)

    async def run(self) -> None:
        await synced(self._deployments, self._sets, self._pods)
        self._deployments.subscribe(self._deployment_changed)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=8)

    def _deployment_changed(self, old: Deployment | None, new: Deployment | None) -> None:
        if new is not None:
            self._queue.add(new.key)

    def _set_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for replica_set in (old, new):
            if replica_set is None:
                continue
            owner = controller_of(replica_set)
            if owner is not None and owner.kind == "Deployment":
                self._queue.add(f"{replica_set.metadata.namespace}/{owner.name}")
            elif owner is None and replica_set is new:
                for deployment in self._deployments_by_namespace[replica_set.metadata.namespace].values():
                    if _selector(deployment).matches(replica_set.metadata.labels):
                        self._queue.add(deployment.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Recreate waits for the last old Pod to go, which no ReplicaSet's status need tell."""
        owner = controller_of(old) if old is not None and new is None else None
        if old is not None and owner is not None and owner.kind == "ReplicaSet":
            replica_set = self._sets.objects.get(f"{old.metadata.namespace}/{owner.name}")
            if replica_set is not None:
                self._set_changed(replica_set, None)

    async def _sync(self, key: str) -> None:
        try:
            await self._advance(key)
        except StatusError as error:
            if error.code != 404:
                raise
            self._queue.add(key, delay=GONE_DELAY)

    async def _advance(self, key: str) -> None:
        deployment = self._deployments.objects.get(key)
        if deployment is None or deployment.spec.selector is None:
            return
        limit = rollout.limits(deployment)
        news: Condition | None = None
        failure: CreationFailed | None = None
        if deployment.metadata.deletion_timestamp is None:
            await self._claim(deployment)
            try:
                news = await self._progress(deployment, limit)
            except CreationFailed as error:
                news, failure = error.condition, error
        await self._report(deployment, limit, news)
        if failure is not None:
            raise failure

    def _replica_sets(self, deployment: Deployment) -> tuple[ReplicaSet | None, list[ReplicaSet]]:
        """The one with the present template, and the others."""
        owned = list(self._sets_by_owner[deployment.metadata.uid].values())
        new = templates.matching(deployment, owned)
        return new, [replica_set for replica_set in owned if replica_set is not new]

    async def _claim(self, deployment: Deployment) -> None:
        selector = _selector(deployment)
        claims = Claims(self._client, DEPLOYMENTS, deployment)
        for replica_set in list(self._orphans[deployment.metadata.namespace].values()):
            if replica_set.metadata.deletion_timestamp is None and selector.matches(replica_set.metadata.labels):
                await claims.adopt(self._sets, replica_set)
        for replica_set in list(self._sets_by_owner[deployment.metadata.uid].values()):
            if not selector.matches(replica_set.metadata.labels):
                await claims.release(self._sets, replica_set)

    async def _progress(self, deployment: Deployment, limit: Limits) -> Condition | None:
        """Take the next step; returns what it did to the condition Progressing. Raises CreationFailed."""
        new, old = self._replica_sets(deployment)
        if new is not None:
            new = await self._annotate(deployment, new, old)
        everything = [*old, new] if new is not None else old
        if deployment.spec.paused or rollout.is_scaled(limit, everything):
            await self._resize(deployment, limit, everything, rollout.scaled(limit, new, old))
            if deployment.spec.paused:
                await self._retire(deployment, limit, old)
            return None
        if limit.recreate and (active := [rs for rs in old if spec_replicas(rs) > 0]):
            await self._resize(deployment, limit, active, {rs.metadata.name: 0 for rs in active})
            return None
        if limit.recreate and any(self._has_running_pods(replica_set) for replica_set in old):
            return None
        news = None
        if new is None:
            new = await self._create(deployment, limit, old)
            if new is None:
                return None
            news = deploymentstatus.created(new.metadata.name)
        if limit.recreate:
            await self._resize(deployment, limit, [new], {new.metadata.name: limit.replicas})
        else:
            await self._resize(deployment, limit, [new, *old], rollout.rolled(limit, new, old))
        await self._retire(deployment, limit, old)
        return news

    def _has_running_pods(self, replica_set: ReplicaSet) -> bool:
        return any(not is_finished(pod) for pod in self._pods_by_owner[replica_set.metadata.uid].values())

    async def _create(self, deployment: Deployment, limit: Limits, old: list[ReplicaSet]) -> ReplicaSet | None:
        """Create the ReplicaSet of the present template; None when its name or namespace forbids it for now."""
        revision = max(map(templates.revision, old), default=0) + 1
        body = templates.new_replica_set(deployment, rollout.initial_size(limit, old), revision, limit.maximum)
        name, namespace = body["metadata"]["name"], deployment.metadata.namespace
        try:
            made = await self._client.create(REPLICA_SETS, body)
        except StatusError as error:
            if namespace_ends(error):
                return None
            if error.reason != "AlreadyExists":
                failed = deploymentstatus.creation_failed(name, str(error))
                self._events.event(deployment, "Warning", failed.reason, failed.message)
                raise CreationFailed(failed) from error
            await self._collide(deployment, await self._client.get(REPLICA_SETS, name, namespace))
            return None
        self._sets.wrote(made)
        await self._set_revision(deployment, str(revision))
        if (size := spec_replicas(made)) > 0:
            self._tell_scaled(deployment, name, 0, size)
        return made

    async def _collide(self, deployment: Deployment, taken: ReplicaSet) -> None:
        """The hashed name is taken: by our own creation whose answer was lost, or by something else."""
        owner = controller_of(taken)
        ours = owner is not None and owner.uid == deployment.metadata.uid
        if ours and templates.matching(deployment, [taken]) is not None:
            self._sets.wrote(taken)
            self._queue.add(deployment.key)
            return
        count = (deployment.status.collision_count or 0) + 1
        await self._patch_status(deployment, {"collisionCount": count})

    async def _annotate(self, deployment: Deployment, new: ReplicaSet, old: list[ReplicaSet]) -> ReplicaSet:
        """Bring the revision and the copied annotations of the present ReplicaSet up to date: a rollback reuses one."""
        annotations = templates.copied_annotations(deployment)
        current, newest = templates.revision(new), max(map(templates.revision, old), default=0) + 1
        if current < newest:
            annotations[templates.REVISION] = str(newest)
            if current:
                history = new.metadata.annotations.get(templates.REVISION_HISTORY, "")
                annotations[templates.REVISION_HISTORY] = f"{history},{current}".lstrip(",")
        patch: dict[str, Any] = {}
        if any(new.metadata.annotations.get(name) != value for name, value in annotations.items()):
            patch["metadata"] = {"annotations": annotations}
        if new.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
            patch["spec"] = {"minReadySeconds": deployment.spec.min_ready_seconds}
        if patch:
            new = await self._patch_set(new, patch)
        await self._set_revision(deployment, new.metadata.annotations.get(templates.REVISION, ""))
        return new

    async def _set_revision(self, deployment: Deployment, revision: str) -> None:
        if deployment.metadata.annotations.get(templates.REVISION) != revision:
            meta = deployment.metadata
            patch = {"metadata": {"uid": meta.uid, "annotations": {templates.REVISION: revision}}}
            answer = await self._client.patch(DEPLOYMENTS, meta.name, meta.namespace, patch, content_type=MERGE)
            self._deployments.wrote(answer)

    async def _resize(
        self, deployment: Deployment, limit: Limits, replica_sets: list[ReplicaSet], sizes: Sizes
    ) -> None:
        """Give ReplicaSets their sizes, and those in use a note of what they were sized for."""
        note = {templates.DESIRED_REPLICAS: str(limit.replicas), templates.MAX_REPLICAS: str(limit.maximum)}
        for replica_set in replica_sets:
            name, before = replica_set.metadata.name, spec_replicas(replica_set)
            after = sizes.get(name, before)
            noted = replica_set.metadata.annotations.items() >= note.items()
            if after == before and (noted or before == 0):
                continue
            await self._patch_set(replica_set, {"spec": {"replicas": after}, "metadata": {"annotations": note}})
            if after != before:
                self._tell_scaled(deployment, name, before, after)

    async def _patch_set(self, replica_set: ReplicaSet, patch: dict[str, Any]) -> ReplicaSet:
        """A merge patch that fails when somebody else has changed the ReplicaSet meanwhile."""
        meta = replica_set.metadata
        guard = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        body = patch | {"metadata": patch.get("metadata", {}) | guard}
        answer = await self._client.patch(REPLICA_SETS, meta.name, meta.namespace, body, content_type=MERGE)
        self._sets.wrote(answer)
        return answer

    def _tell_scaled(self, deployment: Deployment, name: str, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        message = f"Scaled {direction} replica set {name} from {before} to {after}"
        self._events.event(deployment, "Normal", "ScalingReplicaSet", message)

    async def _retire(self, deployment: Deployment, limit: Limits, old: list[ReplicaSet]) -> None:
        """Delete what the history need not keep, once the rollout is over."""
        history = deployment.spec.revision_history_limit
        if not deploymentstatus.is_complete(limit, deployment.status):
            return
        revisions = {replica_set.metadata.name: templates.revision(replica_set) for replica_set in old}
        for stale in rollout.retired(DEFAULT_HISTORY if history is None else history, old, revisions):
            meta = stale.metadata
            await self._client.delete(REPLICA_SETS, meta.name, meta.namespace, uid=meta.uid, propagation="Background")
            self._sets.removed(stale)

    async def _report(self, deployment: Deployment, limit: Limits, news: Condition | None) -> None:
        deployment = self._deployments.objects.get(deployment.key, deployment)
        new, old = self._replica_sets(deployment)
        now = time.time()
        status = deploymentstatus.status_of(deployment, limit, new, old, now, news)
        if status != deployment.status:
            await self._patch_status(deployment, deploymentstatus.to_patch(status))
        wait = deploymentstatus.deadline(deployment, limit, status, now)
        if wait is not None:
            self._queue.add(deployment.key, delay=wait + 1.0)

    async def _patch_status(self, deployment: Deployment, status: dict[str, Any]) -> None:
        meta = deployment.metadata
        patch = {"metadata": {"uid": meta.uid}, "status": status}
        try:
            answer = await self._client.patch(
                DEPLOYMENTS, meta.name, meta.namespace, patch, subresource="status", content_type=MERGE
            )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
        else:
            self._deployments.wrote(answer)


def _selector(deployment: Deployment) -> LabelSelector:
    return LabelSelector.from_object(deployment.spec.selector)
