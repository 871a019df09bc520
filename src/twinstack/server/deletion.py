"""What a DELETE comes to: grace, finalizers, preconditions. Pure.

Order as upstream: preconditions, grace (Pods alone have any), the finalizers that the propagation policy
adds or takes away, then removal or a mark.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from twinstack.api.errors import StatusError, conflict
from twinstack.api.resources import Resource
from twinstack.api.times import format_time, parse_time
from twinstack.server.customresources.ending import hold_definition
from twinstack.server.objectmeta import bump_generation
from twinstack.server.options import DeleteOptions

JSON = dict[str, Any]

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_ORPHANING = frozenset({("", "ReplicationController"), ("batch", "Job")})  # older than the garbage collector


class Outcome(enum.Enum):
    """What to store."""

    NOTHING = enum.auto()  # already under way: answer with the object as it is
    MARK = enum.auto()  # store the changed object and keep it
    MARK_AND_REMOVE = enum.auto()  # watchers see the mark, then the removal
    REMOVE = enum.auto()


class Deletion(msgspec.Struct, frozen=True):
    outcome: Outcome
    object: JSON  # as to be stored, or as it was


def check_preconditions(resource: Resource, meta: JSON, options: DeleteOptions) -> None:
    """Raises StatusError 409."""
    if options.uid and options.uid != meta.get("uid"):
        detail = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta.get('uid', '')})."
            " The object might have been deleted and then recreated"
        )
        raise _precondition_failed(resource, meta, detail)
    if options.resource_version and options.resource_version != meta.get("resourceVersion"):
        detail = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the"
            f" ResourceVersion in record ({meta.get('resourceVersion', '')}). The object might have been modified"
        )
        raise _precondition_failed(resource, meta, detail)


def _precondition_failed(resource: Resource, meta: JSON, detail: str) -> StatusError:
    return conflict(resource.kind, meta.get("name", ""), detail, resource.group)


def decide(resource: Resource, obj: JSON, options: DeleteOptions, now: float) -> Deletion:
    """Delete `obj`, which is changed in place where it stays. `now` is a Unix time. Raises StatusError 409."""
    meta = obj["metadata"]
    check_preconditions(resource, meta, options)
    if resource.kind == "Namespace" and not resource.group:
        return _delete_namespace(obj, options, now)
    if resource.kind == "CustomResourceDefinition" and not meta.get("deletionTimestamp"):
        hold_definition(obj, now)
    graceful = resource.kind == "Pod" and not resource.group
    if graceful and meta.get("deletionTimestamp"):
        if not meta.get("deletionGracePeriodSeconds"):  # 0: it was marked, and its removal failed
            graceful = False
        elif not _shorten_grace(meta, options):
            return Deletion(Outcome.NOTHING, obj)
    elif graceful:
        _start_grace(meta, _pod_grace(obj, options), now)
    if resource.plural != "events":
        _set_propagation(meta, options, orphans=(resource.group, resource.kind) in _ORPHANING)
    if meta.get("finalizers"):
        if not graceful:
            _mark(meta, now)
        return Deletion(Outcome.MARK, obj)
    if graceful:
        waits = bool(meta.get("deletionGracePeriodSeconds"))
        return Deletion(Outcome.MARK if waits else Outcome.MARK_AND_REMOVE, obj)
    return Deletion(Outcome.REMOVE, obj)


def _pod_grace(pod: JSON, options: DeleteOptions) -> int:
    """Seconds that a Pod is given; one that runs nowhere gets none."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    grace = options.grace_period
    if grace is None:
        grace = spec.get("terminationGracePeriodSeconds", 30)
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        grace = 0
    return 1 if grace < 0 else grace


def _shorten_grace(meta: JSON, options: DeleteOptions) -> bool:
    """A repeated delete may only shorten the grace. Returns whether it does."""
    old: int = meta["deletionGracePeriodSeconds"]
    if options.grace_period is None:
        return False
    period = 1 if options.grace_period < 0 else options.grace_period
    if period >= old:
        return False
    meta["deletionTimestamp"] = format_time(parse_time(meta["deletionTimestamp"]) - old + period)
    meta["deletionGracePeriodSeconds"] = period
    return True


def _start_grace(meta: JSON, seconds: int, now: float) -> None:
    meta["deletionTimestamp"] = format_time(now + seconds)
    meta["deletionGracePeriodSeconds"] = seconds
    if meta.get("generation"):
        bump_generation(meta)


def _mark(meta: JSON, now: float) -> None:
    """The object waits for its finalizers."""
    if not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = format_time(now)
        if meta.get("generation"):
            bump_generation(meta)
    meta["deletionGracePeriodSeconds"] = 0


def _set_propagation(meta: JSON, options: DeleteOptions, *, orphans: bool = False) -> None:
    """The garbage collector's finalizers follow the policy; without one they stay as they are.

    `orphans`: what a kind does that has none and is told nothing.
    """
    if options.orphan is not None:
        wanted = ORPHAN if options.orphan else ""
    elif options.propagation:
        wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(options.propagation, "")
    elif orphans and not {ORPHAN, FOREGROUND} & set(meta.get("finalizers") or ()):
        wanted = ORPHAN
    else:
        return
    finalizers: list[str] = meta.get("finalizers") or []
    others = [name for name in finalizers if name not in (ORPHAN, FOREGROUND)]
    if wanted:
        others.append(wanted)
    if others:
        meta["finalizers"] = others
    else:
        meta.pop("finalizers", None)


def _delete_namespace(namespace: JSON, options: DeleteOptions, now: float) -> Deletion:
    """A namespace ends in two steps: its content goes first, by whoever owns spec.finalizers."""
    meta = namespace["metadata"]
    if not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = format_time(now)
        namespace["status"] = (namespace.get("status") or {}) | {"phase": "Terminating"}
        _set_propagation(meta, options)
        return Deletion(Outcome.MARK, namespace)
    if (namespace.get("spec") or {}).get("finalizers") or meta.get("finalizers"):
        return Deletion(Outcome.NOTHING, namespace)
    return Deletion(Outcome.REMOVE, namespace)
