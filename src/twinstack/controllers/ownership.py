"""Whether an object's owners still exist, and what follows for it (garbage collection by ownerReferences). Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

from twinstack.api.meta import Object, OwnerReference

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(enum.Enum):
    """The state of one owner."""

    PRESENT = enum.auto()
    ABSENT = enum.auto()
    WAITING = enum.auto()  # being deleted in the foreground: it waits for its dependents


class Verdict(NamedTuple):
    """What to do with a dependent: keep it, drop the references to `forget` (uids), or delete it."""

    delete: bool = False
    forget: tuple[str, ...] = ()


def judge(references: list[OwnerReference], states: Mapping[str, Owner]) -> Verdict:
    """`states` by uid. An object lives while one of its owners does; it forgets those that have gone."""
    gone = tuple(reference.uid for reference in references if states[reference.uid] is not Owner.PRESENT)
    if not gone:
        return Verdict()
    if len(gone) < len(references):
        return Verdict(forget=gone)
    return Verdict(delete=True)


def blocks(dependent: Object, owner_uid: str) -> bool:
    """Whether the owner's deletion in the foreground waits for this dependent."""
    return any(ref.uid == owner_uid and ref.block_owner_deletion for ref in dependent.metadata.owner_references)


def forgetting(dependent: Object, uids: tuple[str, ...]) -> dict[str, Any]:
    """The strategic merge patch that removes references to `uids`."""
    removals = [{"$patch": "delete", "uid": uid} for uid in uids]
    return {"metadata": {"uid": dependent.metadata.uid, "ownerReferences": removals}}


def without_finalizer(obj: Object, finalizer: str) -> dict[str, Any]:
    """The merge patch that takes one finalizer off, unless the object has changed meanwhile."""
    meta = obj.metadata
    rest = [entry for entry in meta.finalizers if entry != finalizer]
    return {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": rest or None}}
