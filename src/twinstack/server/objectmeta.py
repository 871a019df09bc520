"""What the server does to ObjectMeta around a write. Pure; objects are changed in place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import StatusError

JSON = dict[str, Any]

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words
_SUFFIX_LENGTH = 5
_MAX_GENERATED = 63
_REPEATED_OWNERS = (
    ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may "
    "reject such requests as early as 1.24; please fix your requests"
)
_SERVER_OWNED = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "uid")


def generated_name(prefix: str) -> str:
    """A name for `metadata.generateName`: the prefix, cut to fit, and five random characters."""
    suffix = "".join(random.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))
    return prefix[: _MAX_GENERATED - _SUFFIX_LENGTH] + suffix


def fill_created(meta: JSON, *, namespace: str, uid: str, now: str, counts: bool) -> None:
    """System fields of a new object; `counts` says whether the kind has a generation."""
    for name in _SERVER_OWNED:
        meta.pop(name, None)
    if namespace:
        meta["namespace"] = namespace
    meta["uid"] = uid
    meta["creationTimestamp"] = now
    if counts:
        meta["generation"] = 1


def check_unversioned(meta: JSON) -> None:
    """A client cannot choose the resourceVersion of a new object. Raises StatusError."""
    if meta.get("resourceVersion"):
        raise StatusError(500, "", "resourceVersion should not be set on objects to be created")


def merge_owners(meta: JSON) -> list[str]:
    """Drop owner references that repeat an earlier one; returns the warning about them."""
    references: list[JSON] = meta.get("ownerReferences") or []
    distinct: dict[frozenset[tuple[str, object]], JSON] = {}
    repeated: set[str] = set()
    for reference in references:
        if distinct.setdefault(frozenset(reference.items()), reference) is not reference:
            repeated.add(reference.get("uid", ""))
    if not repeated:
        return []
    meta["ownerReferences"] = list(distinct.values())
    return [f"{_REPEATED_OWNERS}; duplicate UID(s) observed: {', '.join(sorted(repeated))}"]


def carry_over(new: JSON, old: JSON) -> None:
    """What an update cannot change or may leave out, taken from the stored metadata."""
    for name in ("selfLink", "managedFields"):
        new.pop(name, None)
    for name in ("creationTimestamp", "generation"):
        _copy(new, old, name)
    if not new.get("uid"):
        _copy(new, old, "uid")
    if old.get("deletionTimestamp"):
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            if name == "deletionTimestamp" or new.get(name) is None:
                _copy(new, old, name)
    new["resourceVersion"] = old["resourceVersion"]


def _copy(new: JSON, old: JSON, name: str) -> None:
    if name in old:
        new[name] = old[name]
    else:
        new.pop(name, None)


def bump_generation(meta: JSON) -> None:
    meta["generation"] = (meta.get("generation") or 0) + 1


def content_changed(new: JSON, old: JSON, counted: Sequence[str] = (), *, status: bool = False) -> bool:
    """Whether what a generation counts differs: all but metadata and status, and `counted` metadata fields.

    `status`: it counts, too, being content like any other.
    """
    without = ("metadata",) if status else ("metadata", "status")
    if any(new.get(name) != old.get(name) for name in new.keys() | old.keys() if name not in without):
        return True
    return any(new["metadata"].get(name) != old["metadata"].get(name) for name in counted)


def deletion_is_due(obj: JSON) -> bool:
    """Whether an update has removed the last thing that a deleting object was kept for."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return obj["kind"] != "Namespace" or not (obj.get("spec") or {}).get("finalizers")
