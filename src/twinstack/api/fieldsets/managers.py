"""The managers of an object's fields: `metadata.managedFields` read, kept up to date, and written (KEP-555)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from twinstack.api.fieldsets.comparison import Comparison, compare, fields_of, with_holders
from twinstack.api.fieldsets.merging import merge, remove
from twinstack.api.fieldsets.sets import (
    FieldSet,
    Path,
    difference,
    intersection,
    is_field_set,
    paths,
    union,
    without,
)
from twinstack.api.fieldsets.topology import Topology

JSON = dict[str, Any]

APPLY = "Apply"
UPDATE = "Update"
MAX_UPDATERS = 10  # more Update managers than that are merged, oldest first
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"
_FIELDS_V1 = "FieldsV1"
_META = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
)
_LEAF: FieldSet = {}
_NOBODYS: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": _LEAF, "f:clusterName": _LEAF} | {f"f:{name}": _LEAF for name in _META},
}


class Manager(NamedTuple):
    """Who owns fields. Of those who apply, the version belongs to the fields and not to the name."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""


class Owned(msgspec.Struct, frozen=True):
    """What one manager owns; `time` is a meta/v1 Time or nothing."""

    fields: FieldSet
    api_version: str
    time: str | None = None


Managers = dict[Manager, Owned]


class ManagedFieldsError(ValueError):
    """Entries that say nothing: an unknown operation or form."""


class Conflicts(Exception):
    """Fields of an applied configuration that others own with another value."""

    def __init__(self, found: Mapping[Manager, FieldSet]) -> None:
        super().__init__("conflicts")
        self.found = found


class Kind(NamedTuple):
    """What is to be known of the kind that is written: its type, its version, fields that the request cannot change."""

    topology: Topology
    api_version: str
    reset: FieldSet


def updater(name: str, api_version: str, subresource: str = "") -> Manager:
    return Manager(name or "unknown", UPDATE, api_version, subresource)


def applier(name: str, subresource: str = "") -> Manager:
    return Manager(name, APPLY, "", subresource)


def decode(entries: Sequence[JSON], *, trusted: bool = False) -> Managers:
    """`trusted`: the entries are our own, their field sets need no check. Raises ManagedFieldsError."""
    managers: Managers = {}
    for index, entry in enumerate(entries):
        operation, version = entry.get("operation"), entry.get("apiVersion")
        if operation not in (APPLY, UPDATE):
            raise ManagedFieldsError("operation must be `Apply` or `Update`")
        if not version:
            raise ManagedFieldsError("apiVersion must not be empty")
        form = entry.get("fieldsType")
        if form != _FIELDS_V1:
            problem = f'invalid fieldsType "{form}"' if form else "missing fieldsType"
            raise ManagedFieldsError(f"{problem} in managed fields entry {index}")
        fields = entry.get("fieldsV1") or {}
        if not (trusted or is_field_set(fields)):
            raise ManagedFieldsError(f"invalid fieldsV1 in managed fields entry {index}")
        key = Manager(
            entry.get("manager") or "",
            operation,
            version if operation == UPDATE else "",
            entry.get("subresource") or "",
        )
        managers[key] = Owned(fields, version, entry.get("time"))
    return managers


def encode(managers: Managers) -> list[JSON]:
    """In the order of the API server: by operation, time and name."""
    keys = [key for key, owned in managers.items() if owned.fields]
    if len(keys) > 1:
        keys.sort(key=lambda key: (key.operation, managers[key].time or "", key.name, key.api_version, key.subresource))
    return [_entry(key, managers[key]) for key in keys]


def _entry(key: Manager, owned: Owned) -> JSON:
    entry: JSON = {}
    if key.name:
        entry["manager"] = key.name
    entry["operation"] = key.operation
    entry["apiVersion"] = owned.api_version
    if owned.time:
        entry["time"] = owned.time
    entry["fieldsType"] = _FIELDS_V1
    entry["fieldsV1"] = owned.fields
    if key.subresource:
        entry["subresource"] = key.subresource
    return entry


def created(nothing: JSON, new: JSON, who: Manager, now: str, kind: Kind) -> Managers:
    """The managers of a new object that `who` makes; `nothing` is one of its type with nothing set.

    It is what `updated` would make of the two, but looks only at what can be owned: creations are many.
    """
    own = {name: value for name, value in new.items() if kind.reset.get(f"f:{name}") != {}}
    own["metadata"] = {name: value for name, value in new["metadata"].items() if name not in _META}
    own.pop("apiVersion", None)
    own.pop("kind", None)
    taken = compare(nothing, own, kind.topology).taken()
    return {who: Owned(taken, kind.api_version, now)} if taken else {}


def updated(old: JSON, new: JSON, managers: Managers, who: Manager, now: str, kind: Kind) -> Managers:
    """The managers after `who` has written `new` over `old`: what it changed is its own, what it removed nobody's."""
    found = compare(old, new, kind.topology)
    if not (found.added or found.modified or found.removed):
        return managers
    taken = difference(without(found.taken(), kind.reset), _NOBODYS)
    after = _after_change(managers, _narrowed(found, kind), None)
    if not taken:
        return after
    mine = after.get(who)
    after[who] = Owned(taken if mine is None else union(mine.fields, taken), kind.api_version, now)
    return _capped(after)


def _narrowed(found: Comparison, kind: Kind) -> Comparison:
    if not kind.reset:
        return found
    return Comparison(*(without(fields, kind.reset) for fields in found))


def _after_change(managers: Managers, found: Comparison, who: Manager | None) -> Managers:
    """What managers other than `who` are left with."""
    taken = found.taken()
    after: Managers = {}
    for key, owned in managers.items():
        if key != who:
            lost = intersection(owned.fields, taken)
            left = difference(difference(owned.fields, lost), found.removed)
            if (lost or found.removed) and left != owned.fields:
                owned = Owned(left, owned.api_version, owned.time)
        if owned.fields:
            after[key] = owned
    return after


def _capped(managers: Managers) -> Managers:
    """No more than MAX_UPDATERS that update: the oldest of one version are merged."""
    updaters = [key for key in managers if key.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return managers
    capped = dict(managers)
    first: dict[str, Manager] = {}
    for key in sorted(updaters, key=lambda key: (managers[key].time or "", key)):
        if excess <= 0:
            break
        version = key.api_version
        if version not in first:
            first[version] = key
            continue
        bucket = Manager(ANCIENT, UPDATE, version)
        if bucket not in capped:
            capped[bucket] = capped.pop(first[version])
        gone = capped.pop(key)
        capped[bucket] = Owned(union(capped[bucket].fields, gone.fields), version, gone.time)
        excess -= 1
    return capped


class Applied(NamedTuple):
    """What an apply comes to."""

    object: JSON
    managers: Managers


def applied(
    live: JSON, config: JSON, managers: Managers, who: Manager, now: str, kind: Kind, *, force: bool
) -> Applied:
    """`config` applied to `live`: what it sets, less what `who` had set before and nobody else owns.

    Raises Conflicts about fields that others own with another value, unless `force` takes them.
    """
    topology = kind.topology
    merged = merge(live, config, topology)
    last = managers.get(who)
    mine = without(fields_of(config, topology), kind.reset)
    after = dict(managers)
    after[who] = Owned(mine, kind.api_version, now)
    if last is not None and last.fields:
        merged = _pruned(merged, after, last.fields, topology)
    found = _narrowed(compare(live, merged, topology), kind)
    if not force:
        _refuse_conflicts(after, found, who)
    after = _after_change(after, found, who)
    owned = difference(mine, _NOBODYS)
    if owned:
        same = last is not None and live == merged and last.fields == owned
        after[who] = Owned(owned, kind.api_version, last.time if same and last is not None else now)
    else:
        after.pop(who, None)
    return Applied(merged, after)


def _refuse_conflicts(managers: Managers, found: Comparison, who: Manager) -> None:
    taken = found.taken()
    conflicts: dict[Manager, FieldSet] = {}
    for key, owned in managers.items():
        disputed = intersection(owned.fields, taken) if key != who else {}
        if disputed:
            conflicts[key] = disputed
    if conflicts:
        raise Conflicts(conflicts)


def _pruned(merged: JSON, managers: Managers, last: FieldSet, topology: Topology) -> JSON:
    """The object without the fields of `last` that nobody owns any more, nor what is left empty by that."""
    pruned = remove(merged, with_holders(last, topology), topology)
    owned: FieldSet = {}
    for each in managers.values():
        owned = union(owned, each.fields)
    everything = with_holders(fields_of(merged, topology), topology)
    kept = union(with_holders(fields_of(pruned, topology), topology), with_holders(owned, topology))
    pruned = remove(merged, difference(everything, kept), topology)
    left = with_holders(fields_of(pruned, topology), topology)
    doomed = intersection(difference(everything, left), with_holders(last, topology))
    return remove(merged, doomed, topology)


def with_field(managers: Managers, owners: Managers, field: FieldSet, api_version: str) -> Managers:
    """`managers` where those in `owners` own `field`, and nobody else."""
    after: Managers = {}
    for key, owned in managers.items():
        left = owned.fields if key in owners else difference(owned.fields, field)
        if left:
            after[key] = owned if left == owned.fields else Owned(left, owned.api_version, owned.time)
    for key, owned in owners.items():
        after.setdefault(key, Owned(field, api_version, owned.time))
    return after


def conflicting_paths(found: Mapping[Manager, FieldSet]) -> list[tuple[Manager, list[Path]]]:
    """The fields in dispute, by manager, in the order of messages."""
    names = sorted(found, key=lambda key: (key.name, key.operation, key.api_version, key.subresource))
    return [(key, list(paths(found[key]))) for key in names]
