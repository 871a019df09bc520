"""Whether an object's owners still exist, and what follows for it (garbage collection by ownerReferences). Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from twinstack.api.meta import Object, OwnerReference

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(enum.Enum):
    """The state of one owner."""

    PRESENT = enum.auto()
    ABSENT = enum.auto()
    WAITING = enum.auto()  # being deleted in the foreground: it waits for its dependents


class Verdict(NamedTuple):
    """What to do with a dependent: keep it, drop the references to `forget` (uids), or delete it.

    `waited` says that an owner waits for it: then its own dependents go before it.
    """

    delete: bool = False
    forget: tuple[str, ...] = ()
    waited: bool = False


def judge(references: Sequence[OwnerReference], states: Mapping[str, Owner]) -> Verdict:
    """`states` by uid. An object lives while one of its owners does; it forgets those that have gone."""
    gone = tuple(reference.uid for reference in references if states[reference.uid] is not Owner.PRESENT)
    if not gone:
        return Verdict()
    if len(gone) < len(references):
        return Verdict(forget=gone)
    return Verdict(delete=True, waited=any(states[uid] is Owner.WAITING for uid in gone))


def deletion_policy(obj: Object) -> str:
    """The finalizer that says how the dependents of an object being deleted are treated, or nothing."""
    return next((entry for entry in obj.metadata.finalizers if entry in (FOREGROUND, ORPHAN)), "")


def is_waiting(obj: Object) -> bool:
    """Whether an object is being deleted and something is to be done with its dependents first."""
    return obj.metadata.deletion_timestamp is not None and deletion_policy(obj) != ""


def propagation(dependent: Object, verdict: Verdict, *, has_dependents: bool) -> str:
    """The policy by which a dependent without owners is deleted: that of its own finalizers comes first."""
    own = deletion_policy(dependent)
    if verdict.waited and has_dependents:
        return "Foreground"
    return {ORPHAN: "Orphan", FOREGROUND: "Foreground"}.get(own, "Background")


def blocks(dependent: Object, owner_uid: str) -> bool:
    """Whether the owner's deletion in the foreground waits for this dependent."""
    return any(ref.uid == owner_uid and ref.block_owner_deletion for ref in dependent.metadata.owner_references)


def forgetting(dependent: Object, uids: Collection[str]) -> dict[str, Any]:
    """The merge patch that removes references to `uids`, unless the object has changed meanwhile."""
    return _with_references(dependent, lambda reference: None if reference.uid in uids else reference)


def unblocking(dependent: Object) -> dict[str, Any]:
    """The merge patch by which no owner waits for the object: two that wait for each other would for ever."""
    return _with_references(
        dependent,
        lambda reference: msgspec.structs.replace(reference, block_owner_deletion=False),
    )


def without_finalizer(obj: Object, finalizer: str) -> dict[str, Any]:
    """The merge patch that takes one finalizer off, unless the object has changed meanwhile."""
    rest = [entry for entry in obj.metadata.finalizers if entry != finalizer]
    return {"metadata": _guard(obj) | {"finalizers": rest or None}}


def _with_references(obj: Object, change: Callable[[OwnerReference], OwnerReference | None]) -> dict[str, Any]:
    changed = (change(reference) for reference in obj.metadata.owner_references)
    references = [msgspec.to_builtins(reference) for reference in changed if reference is not None]
    return {"metadata": _guard(obj) | {"ownerReferences": references or None}}


def _guard(obj: Object) -> dict[str, Any]:
    return {"uid": obj.metadata.uid, "resourceVersion": obj.metadata.resource_version}
