"""Keeps the numbered Pods of every StatefulSet, and their claims (apps/v1)."""

from __future__ import annotations

import time

import msgspec

from twinstack.api.apps import StatefulSet
from twinstack.api.core import Pod, PodTemplateSpec
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PERSISTENT_VOLUME_CLAIMS, STATEFUL_SETS
from twinstack.api.meta import OwnerReference
from twinstack.api.selectors import LabelSelector
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers import statefulplan
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.ownedpods import OwnedPods, Wording
from twinstack.controllers.revisions import Current, Revisions, template_of
from twinstack.controllers.statefulplan import Plan
from twinstack.controllers.statefulpods import (
    HASH_LABEL,
    claim_bodies,
    claim_name,
    identity,
    ordinal_of,
    pod_body,
)
from twinstack.controllers.statuswriting import write_status

UNCERTAIN_DELAY = 1.0  # seconds after a deed without an answer: the watch may show that it was done
_WORDING = Wording(
    created="create Pod {pod} in StatefulSet {owner} successful",
    not_created="create Pod {pod} in StatefulSet {owner} failed error: {error}",
    deleted="delete Pod {pod} in StatefulSet {owner} successful",
    not_deleted="delete Pod {pod} in StatefulSet {owner} failed error: {error}",
)


class StatefulSetController:
    """One step a round; each change of a Pod brings the next."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._events = context.recorder("statefulset-controller")
        self._queue = WorkQueue("statefulsets")
        self._sets = context.informers.of(STATEFUL_SETS)
        self._pods = OwnedPods(
            context,
            self._sets,
            self._events,
            _selector,
            wording=_WORDING,
            adoptable=lambda owner, pod: ordinal_of(owner, pod) >= 0,
        )
        self._revisions: Revisions[StatefulSet] = Revisions(context, self._sets, HASH_LABEL)

    async def run(self) -> None:
        await synced(self._revisions.informer)
        await self._pods.synced()
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._queue.add)
        self._revisions.subscribe(self._queue.add)
        await self._queue.run(self._sync, workers=5)

    def _set_changed(self, old: StatefulSet | None, new: StatefulSet | None) -> None:
        if new is not None:
            self._queue.add(new.key)

    async def _sync(self, key: str) -> None:
        owner = self._sets.objects.get(key)
        if owner is None or owner.metadata.deletion_timestamp is not None:
            return
        await self._revisions.claim(owner, _selector(owner))
        await self._pods.claim(owner)
        update = await self._revisions.current(owner)
        known = {revision.metadata.name: template_of(revision) for revision in self._revisions.of(owner)}
        known[update.revision.metadata.name] = owner.spec.template
        current = owner.status.current_revision
        if current not in known:
            current = update.revision.metadata.name
        failure: Exception | None = None
        try:
            await self._advance(owner, current, update, known)
        except (StatusError, OSError) as error:
            failure = error
        await self._report(owner, current, update)
        if isinstance(failure, StatusError):
            raise failure
        if failure is not None:
            self._queue.add(key, delay=UNCERTAIN_DELAY)
            return
        used = {statefulplan.revision_of(pod) for pod in self._pods.of(owner)}
        await self._revisions.truncate(owner, {*used, current, update.revision.metadata.name})

    async def _advance(
        self, owner: StatefulSet, current: str, update: Current, known: dict[str, PodTemplateSpec]
    ) -> None:
        pods = self._pods.of(owner)
        await self._identify(owner, pods)
        name = update.revision.metadata.name
        step = statefulplan.plan(owner, pods, self._pods.is_doomed, current, name, time.time())
        self._tell_ended(owner, step)
        if owner.spec.persistent_volume_claim_retention_policy.get("whenScaled") == "Delete":
            for pod in step.condemned:
                await self._bequeath(owner, pod)
        await self._pods.delete(owner, step.delete)
        for ordinal, _ in step.create:
            await self._claim_volumes(owner, ordinal)
        await self._pods.create(
            owner, [pod_body(owner, ordinal, known[revision], revision) for ordinal, revision in step.create]
        )

    def _tell_ended(self, owner: StatefulSet, step: Plan) -> None:
        for pod in step.ended:
            failed = pod.status.phase == "Failed"
            reason = "RecreatingFailedPod" if failed else "RecreatingTerminatedPod"
            message = (
                f"StatefulSet {owner.key} is recreating {'failed' if failed else 'terminated'} Pod {pod.metadata.name}"
            )
            self._events.event(owner, "Warning" if failed else "Normal", reason, message)

    async def _identify(self, owner: StatefulSet, pods: list[Pod]) -> None:
        """Pods that were adopted get the labels that others are made with."""
        for pod in pods:
            meta, ordinal = pod.metadata, ordinal_of(owner, pod)
            labels = identity(owner, ordinal)
            if ordinal < 0 or meta.labels.items() >= labels.items():
                continue
            patch = {"metadata": {"uid": meta.uid, "labels": labels}}
            informer = self._pods.informer
            informer.wrote(await self._client.patch(informer.kind, meta.name, meta.namespace, patch))

    async def _claim_volumes(self, owner: StatefulSet, ordinal: int) -> None:
        """Make the claims that are not there from an earlier Pod of this number. Nothing here provides volumes."""
        for body in claim_bodies(owner, ordinal):
            name, pod = body["metadata"]["name"], f"{owner.metadata.name}-{ordinal}"
            told = f"create Claim {name} Pod {pod} in StatefulSet {owner.metadata.name}"
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, body)
            except StatusError as error:
                if error.reason == "AlreadyExists" or namespace_ends(error):
                    continue
                self._events.event(owner, "Warning", "FailedCreate", f"{told} failed error: {error}")
                raise
            self._events.event(owner, "Normal", "SuccessfulCreate", f"{told} success")
            missing = f"these controllers provide no volumes: Pod {pod} waits until somebody binds claim {name}"
            self._events.event(owner, "Warning", "VolumesNotProvided", missing)

    async def _bequeath(self, owner: StatefulSet, pod: Pod) -> None:
        """Let the claims of a Pod go when it does, not when the set does (KEP-1847)."""
        heir = OwnerReference(api_version="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid)
        disowned = {"$patch": "delete", "uid": owner.metadata.uid}
        patch = {"metadata": {"ownerReferences": [disowned, msgspec.to_builtins(heir)]}}
        for template in owner.spec.volume_claim_templates:
            name = claim_name(template, pod.metadata.name)
            try:
                await self._client.patch(PERSISTENT_VOLUME_CLAIMS, name, owner.metadata.namespace, patch)
            except StatusError as error:
                if error.code != 404:
                    raise

    async def _report(self, owner: StatefulSet, current: str, update: Current) -> None:
        now, pods = time.time(), self._pods.of(owner)
        name = update.revision.metadata.name
        status = statefulplan.status_of(owner, pods, self._pods.is_doomed, current, name, update.collisions, now)
        if status != owner.status:
            await write_status(self._client, self._sets, owner, status)
        wait = statefulplan.next_available(owner, pods, now)
        if wait is not None:
            self._queue.add(owner.key, delay=wait)


def _selector(owner: StatefulSet) -> LabelSelector:
    return LabelSelector.from_object(owner.spec.selector)
