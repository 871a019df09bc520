"""Past templates of DaemonSets and StatefulSets, kept as ControllerRevisions: what `kubectl rollout` goes back to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from twinstack.api.apps import ControllerRevision, DaemonSet, StatefulSet
from twinstack.api.core import PodTemplateSpec
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CONTROLLER_REVISIONS, Kind
from twinstack.api.selectors import LabelSelector
from twinstack.client.informer import Informer
from twinstack.client.rest import MERGE
from twinstack.controllers.claims import Claims
from twinstack.controllers.context import Context
from twinstack.controllers.owners import controller_of, orphan_namespace, owner_uid, reference_to
from twinstack.controllers.templates import short_hash

T = TypeVar("T", DaemonSet, StatefulSet)

DEFAULT_HISTORY = 10
COLLISIONS = 10  # names tried in one round before the queue's pause


class Current(NamedTuple):
    """The revision of the present template; `collisions` counts the names that were taken by something else."""

    revision: ControllerRevision
    collisions: int


class Revisions(Generic[T]):
    """The history of the owners of one kind. `label` is what carries the hash of a revision."""

    def __init__(self, context: Context, owners: Informer[T], label: str) -> None:
        self.informer = context.informers.of(CONTROLLER_REVISIONS)
        self._client = context.client
        self._kind: Kind[T] = owners.kind
        self._label = label
        self._by_owner = self.informer.index(owner_uid)
        self._orphans = self.informer.index(orphan_namespace)

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """Call `wake` with the key of an owner whose history somebody else has changed."""

        def changed(old: ControllerRevision | None, new: ControllerRevision | None) -> None:
            for one in (old, new):
                owner = controller_of(one) if one is not None else None
                if one is not None and owner is not None and owner.kind == self._kind.resource.kind:
                    wake(f"{one.metadata.namespace}/{owner.name}")

        self.informer.subscribe(changed)

    def of(self, owner: T) -> list[ControllerRevision]:
        """Oldest first."""
        return sorted(self._by_owner[owner.metadata.uid].values(), key=_age)

    def hash_of(self, revision: ControllerRevision) -> str:
        return revision.metadata.labels.get(self._label, revision.metadata.name)

    async def claim(self, owner: T, selector: LabelSelector) -> None:
        """Adopt what an owner left that was deleted without its dependents."""
        claims = Claims(self._client, self._kind, owner)
        for revision in list(self._orphans[owner.metadata.namespace].values()):
            if revision.metadata.deletion_timestamp is None and selector.matches(revision.metadata.labels):
                await claims.adopt(self.informer, revision)

    async def current(self, owner: T) -> Current:
        """The revision of the present template, made or moved to the end of the history where needed."""
        collisions, history = owner.status.collision_count or 0, self.of(owner)
        number = history[-1].revision + 1 if history else 1
        found = next((one for one in reversed(history) if is_of(one, owner.spec.template)), None)
        if found is None:
            return await self._create(owner, number, collisions)
        if found is not history[-1]:
            found = await self._renumber(found, number)
        return Current(found, collisions)

    async def _renumber(self, revision: ControllerRevision, number: int) -> ControllerRevision:
        meta = revision.metadata
        patch = {"metadata": {"uid": meta.uid}, "revision": number}
        answer = await self._client.patch(CONTROLLER_REVISIONS, meta.name, meta.namespace, patch, content_type=MERGE)
        self.informer.wrote(answer)
        return answer

    async def _create(self, owner: T, number: int, collisions: int) -> Current:
        for taken in range(collisions, collisions + COLLISIONS):
            body = revision_body(owner, number, taken, self._label)
            try:
                made = await self._client.create(CONTROLLER_REVISIONS, body)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                made = await self._client.get(CONTROLLER_REVISIONS, body["metadata"]["name"], owner.metadata.namespace)
                holder = controller_of(made)
                if holder is None or holder.uid != owner.metadata.uid or not is_of(made, owner.spec.template):
                    continue
            self.informer.wrote(made)
            return Current(made, taken)
        raise LookupError(f"{COLLISIONS} names for a revision of {owner.key} are taken")

    async def truncate(self, owner: T, live: Iterable[str]) -> None:
        """Delete the oldest beyond the history to keep; those whose names or hashes are `live` stay beside it."""
        used, limit = set(live), owner.spec.revision_history_limit
        unused = [one for one in self.of(owner) if one.metadata.name not in used and self.hash_of(one) not in used]
        for stale in unused[: max(0, len(unused) - (DEFAULT_HISTORY if limit is None else limit))]:
            meta = stale.metadata
            try:
                await self._client.delete(CONTROLLER_REVISIONS, meta.name, meta.namespace, uid=meta.uid)
            except StatusError as error:
                if error.code != 404:
                    raise
            self.informer.removed(stale)


def _age(revision: ControllerRevision) -> tuple[int, str, str]:
    return revision.revision, revision.metadata.creation_timestamp, revision.metadata.name


def revision_data(template: PodTemplateSpec) -> dict[str, Any]:
    """A strategic merge patch that brings a template back."""
    return {"spec": {"template": _plain(template.metadata, template.spec) | {"$patch": "replace"}}}


def template_of(revision: ControllerRevision) -> PodTemplateSpec:
    """The template that a revision holds."""
    held = (revision.data.get("spec") or {}).get("template") or {}
    return PodTemplateSpec(metadata=held.get("metadata") or {}, spec=held.get("spec") or {})


def is_of(revision: ControllerRevision, template: PodTemplateSpec) -> bool:
    held = template_of(revision)
    return _plain(held.metadata, held.spec) == _plain(template.metadata, template.spec)


def _plain(metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Without what nobody set: servers before 1.35 write `creationTimestamp: null`."""
    return {"metadata": {field: value for field, value in metadata.items() if value is not None}, "spec": spec}


def revision_body(owner: DaemonSet | StatefulSet, number: int, collisions: int, label: str) -> dict[str, Any]:
    """The ControllerRevision of the present template."""
    template, meta = owner.spec.template, owner.metadata
    hashed = short_hash([template, collisions])
    return {
        "metadata": {
            "name": f"{meta.name}-{hashed}",
            "namespace": meta.namespace,
            "labels": (template.metadata.get("labels") or {}) | {label: hashed},
            "annotations": meta.annotations,
            "ownerReferences": [msgspec.to_builtins(reference_to(owner))],
        },
        "data": revision_data(template),
        "revision": number,
    }
