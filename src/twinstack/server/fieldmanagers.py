"""`metadata.managedFields` kept true through writes, and configurations applied (KEP-555).

A write that is no apply belongs to the request's field manager as an Update. An object without entries, because
somebody wiped them or it was stored before there were any, is tracked from its first apply on.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import StatusError, bad_request
from twinstack.api.fieldsets import managers as fields
from twinstack.api.fieldsets.checking import ShapeError, check_shape
from twinstack.api.fieldsets.lastapplied import KUBECTL, applied_by_kubectl
from twinstack.api.fieldsets.managers import BEFORE_FIRST_APPLY, Conflicts, Kind, ManagedFieldsError, Manager, Managers
from twinstack.api.fieldsets.sets import has, path_text, set_of
from twinstack.api.objects import check_object, nothing, topology
from twinstack.api.resources import Resource
from twinstack.api.schema import TypeMismatch
from twinstack.server.messages import Route
from twinstack.server.options import WriteOptions
from twinstack.server.strategy.registry import strategy_for

JSON = dict[str, Any]
Entries = list[JSON]

_OURSELVES = "kube-apiserver"
_REPLICAS = ("f:spec", "f:replicas")


def _kind(row: Resource, subresource: str) -> Kind:
    if row.custom is not None:
        return row.custom.keep(("managers", subresource), lambda: _make_kind(row, subresource))
    return _built_in_kind(row, subresource)


@functools.cache
def _built_in_kind(row: Resource, subresource: str) -> Kind:
    return _make_kind(row, subresource)


def _make_kind(row: Resource, subresource: str) -> Kind:
    return Kind(topology(row), row.group_version, strategy_for(row).reset_fields(row, subresource))


def _replicas_path(row: Resource) -> tuple[str, ...]:
    if row.custom is None:
        return _REPLICAS
    from twinstack.server.customresources.scale import replicas_path

    return tuple(f"f:{name}" for name in replicas_path(row.custom))


def track_creation(row: Resource, obj: JSON, supplied: Entries | None, options: WriteOptions, now: str) -> None:
    """Enter who creates `obj`, beside the entries that the body came with."""
    who = fields.updater(options.field_manager or _OURSELVES, row.group_version)
    nobody, kind = nothing(row), _kind(row, "")
    before = _read(supplied) if supplied else {}
    if before:
        after = fields.updated(nobody, obj, before, who, now, kind)
    else:
        after = fields.created(nobody, obj, who, now, kind)
    if after:
        obj["metadata"]["managedFields"] = fields.encode(after)


def track_update(route: Route, new: JSON, old: JSON, supplied: Entries | None, options: WriteOptions, now: str) -> None:
    """Enter who writes `new` over `old`. `supplied` are the entries of the body: they replace those that are stored."""
    live: Entries = old["metadata"].get("managedFields") or []
    managers = fields.decode(live, trusted=True)
    entries = live
    if supplied and supplied != live and not route.subresource:
        if supplied == [{}]:
            return  # wiped
        wanted = _read(supplied)
        if wanted:
            managers, entries = wanted, supplied
    if not managers:
        return
    row, meta = route.resource, new["metadata"]
    who = fields.updater(options.field_manager or _OURSELVES, row.group_version, route.subresource)
    meta["managedFields"] = live  # no difference of the two
    after = fields.updated(old, new, managers, who, now, _kind(row, route.subresource))
    if after is managers and entries is live:
        return
    meta["managedFields"] = fields.encode(after)
    if not meta["managedFields"]:
        del meta["managedFields"]


def _read(entries: Entries) -> Managers:
    """Entries of a client; none if they say nothing."""
    try:
        return fields.decode(entries)
    except ManagedFieldsError:
        return {}


def settles(new: JSON, old: JSON) -> bool:
    """Whether a write has no effect: times of managers alone do not count."""
    if new == old:
        return True
    ours, theirs = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not ours or not theirs or ours is theirs or _timeless(ours) != _timeless(theirs):
        return False
    return {**new, "metadata": new["metadata"] | {"managedFields": theirs}} == old


def _timeless(entries: Sequence[JSON]) -> list[JSON]:
    timeless = [{name: value for name, value in entry.items() if name != "time"} for entry in entries]
    return sorted(
        timeless, key=lambda entry: (entry.get("manager", ""), entry["operation"], entry.get("subresource", ""))
    )


class Application:
    """One configuration, to be applied to whatever the object is."""

    def __init__(self, body: Resource, config: JSON, options: WriteOptions) -> None:
        """`body` is the type that the request is about. Raises StatusError about a configuration of another one."""
        version, kind = str(config.get("apiVersion") or ""), config.get("kind") or ""
        if (version, kind) != (body.group_version, body.kind):
            shown = version if "/" in version else f"/{version}"
            raise bad_request(f"invalid object type: {shown}, Kind={kind}")
        self._body = body
        self._config = config
        self._options = options
        self._topology = topology(body)
        meta = config.get("metadata")
        self._check(meta if isinstance(meta, dict) else {})

    def _check(self, meta: JSON) -> None:
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        try:
            check_shape(self._config, self._topology)
        except ShapeError as error:
            raise StatusError(500, "", f"failed to create typed patch object ({self._name(meta)}): {error}") from error

    def _name(self, meta: JSON) -> str:
        return f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {_gvk(self._body)}"

    def create(self, now: str) -> tuple[JSON, Entries]:
        """The new object and its entries."""
        return self._apply(nothing(self._body), {}, _kind(self._body, ""), "", now)

    def update(self, route: Route, live: JSON, now: str) -> tuple[JSON, Entries]:
        """The object with the configuration, and its entries."""
        managers = fields.decode(live["metadata"].get("managedFields") or [], trusted=True)
        kind = _kind(route.resource, route.subresource)
        if not managers:
            who = fields.updater(BEFORE_FIRST_APPLY, kind.api_version, route.subresource)
            managers = fields.updated(nothing(route.resource), live, {}, who, now, kind)
        return self._apply(live, managers, kind, route.subresource, now)

    def update_scale(self, route: Route, live: JSON, scale: JSON, now: str) -> tuple[JSON, Entries]:
        """The Scale of `live` with the configuration, and the entries of `live`."""
        row = route.resource
        managers = fields.decode(live["metadata"].get("managedFields") or [], trusted=True)
        path = _replicas_path(row)
        replicas, own = set_of(_REPLICAS), set_of(path)
        owners = {
            who: fields.Owned(replicas, self._body.group_version, owned.time)
            for who, owned in managers.items()
            if has(owned.fields, path)
        }
        kind = Kind(self._topology, self._body.group_version, {})
        merged, entries = self._apply(scale, owners, kind, route.subresource, now)
        after = fields.decode(entries, trusted=True)
        return merged, fields.encode(fields.with_field(managers, after, own, row.group_version))

    def _apply(self, live: JSON, managers: Managers, kind: Kind, subresource: str, now: str) -> tuple[JSON, Entries]:
        who = fields.applier(self._options.field_manager, subresource)
        apply = applied_by_kubectl if who.name == KUBECTL else fields.applied
        try:
            merged, after = apply(live, self._config, managers, who, now, kind, force=self._options.force)
        except Conflicts as conflicts:
            raise _conflict(conflicts) from conflicts
        try:
            obj, _ = check_object(merged, self._body)
        except TypeMismatch as error:
            name = self._name(self._config.get("metadata") or {})
            problem = f"failed to convert new typed object ({name}) to object: {error}"
            raise StatusError(500, "", problem) from error
        return obj, fields.encode(after)


def _gvk(row: Resource) -> str:
    return f"{row.group_version if row.group else '/' + row.group_version}, Kind={row.kind}"


def _conflict(conflicts: Conflicts) -> StatusError:
    disputed = [
        (_shown(manager), [path_text(path) for path in paths])
        for manager, paths in fields.conflicting_paths(conflicts.found)
    ]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, paths in disputed
        for path in paths
    ]
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lists = [f"conflicts with {shown}:\n" + "\n".join(f"- {path}" for path in paths) for shown, paths in disputed]
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lists)
    return StatusError(409, "Conflict", message, details={"causes": causes})


def _shown(manager: Manager) -> str:
    name = f'"{manager.name}"'
    if manager.subresource:
        name += f' with subresource "{manager.subresource}"'
    return f"{name} using {manager.api_version}" if manager.operation == fields.UPDATE else name
