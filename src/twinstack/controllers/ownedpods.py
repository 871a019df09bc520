"""The Pods of one kind of owner: adopted and released, created and deleted, each deed told as an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from twinstack.api.core import Pod, PodTemplateSpec
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PODS
from twinstack.api.meta import Object
from twinstack.api.selectors import LabelSelector
from twinstack.client.events import EventRecorder
from twinstack.client.informer import Informer
from twinstack.controllers.claims import Claims
from twinstack.controllers.context import Context, namespace_ends, synced
from twinstack.controllers.owners import controller_of, orphan_namespace, owner_uid, reference_to
from twinstack.controllers.podstate import is_active

T = TypeVar("T", bound=Object)

FIRST_BATCH = 4  # creations at once; doubled while they succeed, so that a quota costs few refusals
BURST = 500  # Pods created or deleted in one round


class Wording(NamedTuple):
    """Messages of events, about `pod` and `owner` by name, and an `error`."""

    created: str = "Created pod: {pod}"
    not_created: str = "Error creating: {error}"
    deleted: str = "Deleted pod: {pod}"
    not_deleted: str = "Error deleting: {error}"


class OwnedPods(Generic[T]):
    """Never lets an owner act twice on one observation.

    What was created is in the informer at once, what was deleted is `doomed` from then on.
    """

    def __init__(
        self,
        context: Context,
        owners: Informer[T],
        events: EventRecorder,
        selector: Callable[[T], LabelSelector],
        *,
        finalizer: str = "",
        wording: Wording = Wording(),  # noqa: B008 - it never changes
        adoptable: Callable[[T, Pod], bool] = lambda _owner, _pod: True,
    ) -> None:
        """`finalizer` is put on Pods with their adoption, and taken off with their release.

        `adoptable` says which of the Pods that the selector matches may be adopted.
        """
        self.informer = context.informers.of(PODS)
        self._client = context.client
        self._events = events
        self._owners = owners
        self._selector = selector
        self._wording = wording
        self._adoptable = adoptable
        self._finalizers = (finalizer,) if finalizer else ()
        self._owners_by_namespace = owners.index(lambda owner: [owner.metadata.namespace])
        self._by_owner = self.informer.index(owner_uid)
        self._orphans = self.informer.index(orphan_namespace)
        self._doomed: set[str] = set()  # uids of Pods deleted here whose deletion the watch has not shown yet

    async def synced(self) -> None:
        await synced(self._owners, self.informer)

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """Call `wake` with the key of every owner that a change of a Pod concerns."""

        def changed(old: Pod | None, new: Pod | None) -> None:
            if old is not None and (new is None or new.metadata.deletion_timestamp is not None):
                self._doomed.discard(old.metadata.uid)
            for key in {key for pod in (old, new) if pod is not None for key in self._concerned(pod, pod is new)}:
                wake(key)

        self.informer.subscribe(changed)

    def _concerned(self, pod: Pod, present: bool) -> list[str]:
        namespace, owner = pod.metadata.namespace, controller_of(pod)
        if owner is not None:
            ours = owner.kind == self._owners.kind.resource.kind
            return [f"{namespace}/{owner.name}"] if ours else []
        if not present:
            return []
        candidates = self._owners_by_namespace[namespace].values()
        return [one.key for one in candidates if self._selector(one).matches(pod.metadata.labels)]

    def of(self, owner: T) -> list[Pod]:
        """All that `owner` controls, also finished and terminating ones."""
        return list(self._by_owner[owner.metadata.uid].values())

    def is_doomed(self, pod: Pod) -> bool:
        """Whether it is on its way out, though its object may not say so yet."""
        return pod.metadata.deletion_timestamp is not None or pod.metadata.uid in self._doomed

    async def claim(self, owner: T) -> None:
        """Adopt what the selector matches and nobody controls, release what it matches no longer."""
        wanted = self._selector(owner)
        claims = Claims(self._client, self._owners.kind, owner, self._finalizers)
        for pod in list(self._orphans[owner.metadata.namespace].values()):
            if is_active(pod) and wanted.matches(pod.metadata.labels) and self._adoptable(owner, pod):
                await claims.adopt(self.informer, pod)
        for pod in self.of(owner):
            if not wanted.matches(pod.metadata.labels):
                await claims.release(self.informer, pod)

    async def create(self, owner: T, bodies: Sequence[dict[str, Any]]) -> None:
        """Create at most BURST, in growing batches. Raises the first failure of a batch, all of which is told."""
        batch, done = FIRST_BATCH, 0
        bodies = bodies[:BURST]
        while done < len(bodies):
            await all_of([self._create_one(owner, body) for body in bodies[done : done + batch]])
            done += batch
            batch *= 2

    async def _create_one(self, owner: T, body: dict[str, Any]) -> None:
        try:
            pod = await self._client.create(PODS, body)
        except StatusError as error:
            if namespace_ends(error):
                return
            if error.reason != "AlreadyExists":  # else the watch is behind, and there is nothing to tell
                self._tell(owner, "FailedCreate", self._wording.not_created, body["metadata"].get("name", ""), error)
            raise
        self.informer.wrote(pod)
        self._tell(owner, "SuccessfulCreate", self._wording.created, pod.metadata.name)

    async def delete(self, owner: T, pods: Sequence[Pod]) -> None:
        """Delete at most BURST. Raises the first failure."""
        await all_of([self._delete_one(owner, pod) for pod in pods[:BURST]])

    async def _delete_one(self, owner: T, pod: Pod) -> None:
        meta = pod.metadata
        self._doomed.add(meta.uid)
        try:
            await self._client.delete(PODS, meta.name, meta.namespace, uid=meta.uid)
        except (StatusError, OSError) as error:
            self._doomed.discard(meta.uid)
            if isinstance(error, StatusError) and error.code == 404:
                return
            self._tell(owner, "FailedDelete", self._wording.not_deleted, meta.name, error)
            raise
        self._tell(owner, "SuccessfulDelete", self._wording.deleted, meta.name)

    def _tell(self, owner: T, reason: str, message: str, pod: str, error: Exception | None = None) -> None:
        text = message.format(pod=pod, owner=owner.metadata.name, error=error)
        self._events.event(owner, "Normal" if error is None else "Warning", reason, text)


def pod_metadata(owner: Object, template: PodTemplateSpec) -> dict[str, Any]:
    """The metadata of a Pod that a template describes; its name is the caller's or the server's."""
    copied = {
        field: template.metadata[field]
        for field in ("labels", "annotations", "finalizers")
        if template.metadata.get(field)
    }
    return copied | {
        "namespace": owner.metadata.namespace,
        "ownerReferences": [msgspec.to_builtins(reference_to(owner))],
    }


async def all_of(work: list[Coroutine[Any, Any, None]]) -> None:
    """Run all to their end, then raise the first failure."""
    failures = [result for result in await asyncio.gather(*work, return_exceptions=True) if result is not None]
    if failures:
        raise failures[0]
