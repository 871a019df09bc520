"""Plans of single writes: read, let the strategy judge and change, collect what to store. Nothing here waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError, already_exists, invalid_object
from twinstack.server import deletion, fieldmanagers, objectmeta, preconditions, quotas, unacted
from twinstack.server.admission import Attempt, Check
from twinstack.server.deletion import Outcome
from twinstack.server.messages import Route, UserInfo
from twinstack.server.options import DeleteOptions, WriteOptions
from twinstack.server.strategy.base import Reader, ServerConfig, WriteContext
from twinstack.server.strategy.registry import strategy_for
from twinstack.server.uuids import random_uuid
from twinstack.server.versions import Version, View, view_of
from twinstack.store import Delete, Operation, Put

JSON = dict[str, Any]

_LARGEST_OBJECT = 3 << 19  # bytes of JSON: what etcd takes unless told otherwise (--max-request-bytes)
_META_MAPS = ("labels", "annotations", "finalizers", "ownerReferences")


class Written(msgspec.Struct):
    """The outcome of a write: the JSON of the object as it is shown, and decoded."""

    value: bytes
    object: JSON
    warnings: list[str] = []
    created: bool = False
    removed: bool = False  # the object has left the store


class Plan:
    """One attempt at a write. Without operations nothing is to be stored and the answer is ready."""

    def __init__(self, view: View, obj: JSON, warnings: Sequence[str] = ()) -> None:
        self.operations: list[Operation] = []
        self.charged = False  # to quotas of its namespace
        self._view = view
        self._object = obj
        self.row = view.resource
        self._own = 0  # which operation gives the object its resourceVersion
        self._value = b""
        self._warnings = list(warnings)
        self._created = False
        self._removed = False

    @property
    def name(self) -> str:
        return str(self._object["metadata"].get("name", ""))

    @property
    def namespace(self) -> str:
        return str(self._object["metadata"].get("namespace", ""))

    def warn(self, warnings: Sequence[str]) -> Plan:
        """Put warnings before those there are."""
        self._warnings[:0] = warnings
        return self

    def unchanged(self, version: Version) -> Plan:
        """Answer with what is stored."""
        self._value = self._view.show(version)
        return self

    def put(self, key: str, expect: int, also: Sequence[Operation] = (), *, created: bool = False) -> Plan:
        self.operations += [*also, Put(key, self._encode, expect)]
        self._own = len(self.operations) - 1
        self._created = created
        return self

    def remove(self, key: str, expect: int | None, also: Sequence[Operation] = (), *, told: bool = True) -> Plan:
        """`told`: the answer has the resourceVersion of the removal. An update that ends in one keeps the old."""
        self.operations += [Delete(key, expect), *also]
        self._own = len(self.operations) - 1 - len(also)
        self._removed = told
        return self

    def rehearse(self) -> Plan:
        """A dry run: the answer as it would be, nothing stored."""
        self.operations.clear()
        return self

    def written(self, revisions: Sequence[int]) -> Written:
        """The answer, once the operations are durable."""
        if self._removed and revisions:
            self._object["metadata"]["resourceVersion"] = str(revisions[self._own])
            self._value = b""
        if not self._value:
            self._value = msgspec.json.encode(self._object)
        return Written(
            value=self._value,
            object=self._object,
            warnings=self._warnings,
            created=self._created,
            removed=self._removed,
        )

    def _encode(self, revision: int) -> bytes:
        meta = self._object["metadata"]
        meta.pop("resourceVersion", None)
        self._object["metadata"] = {"resourceVersion": str(revision), **meta}  # first: `store.Put`
        stored = self._view.encode(self._object)
        if len(stored) > _LARGEST_OBJECT:
            raise StatusError(500, "", "etcdserver: request is too large")  # the words that programs know
        self._value = stored if self._view.stores_as_shown else b""
        return stored


class Planner:
    """Makes plans from the state that `versions` shows."""

    def __init__(self, reader: Reader, config: ServerConfig) -> None:
        self.checks: list[Check] = []  # by what the server was started with
        self._reader = reader
        self._config = config

    def create(
        self,
        route: Route,
        obj: JSON,
        name: str,
        user: UserInfo,
        options: WriteOptions,
        managed: list[JSON] | None = None,
    ) -> Plan:
        """`obj` is consumed. `name` is the object's, generated if need be; `managed` its managedFields if known."""
        row = route.resource
        meta: JSON = obj.setdefault("metadata", {})
        supplied = meta.get("managedFields")
        preconditions.check_body_namespace(meta, route)
        preconditions.check_namespace(self._reader, route, name, creating=True)
        now = times.now()
        meta["name"] = name
        uid = random_uuid()
        objectmeta.fill_created(meta, namespace=route.namespace, uid=uid, now=now, counts=row.generation)
        repeated = objectmeta.merge_owners(meta)
        strategy = strategy_for(row)
        ctx = self._context(route, name, user, now, dry_run=options.dry_run)
        strategy.default(obj)
        if managed is None:
            fieldmanagers.track_creation(row, obj, supplied, options, now)
        elif managed:
            meta["managedFields"] = managed
        self._check(route, name, user, obj, None)
        change = strategy.create(ctx, obj)
        if not options.dry_run:
            objectmeta.check_unversioned(change.object["metadata"])
        charges = quotas.charges(ctx, change.object)
        name = change.object["metadata"]["name"]
        key = row.key(route.namespace, name)
        if self._reader.exists(key):
            raise already_exists(row.plural, name, row.group)
        warnings = [*repeated, *change.warnings, *unacted.warnings(row, ctx.config.unacted)]
        plan = Plan(view_of(row), shaped(route, change.object), warnings)
        plan.put(key, 0, [*change.also, *charges], created=True)
        plan.charged = bool(charges)
        return plan.rehearse() if options.dry_run else plan

    def update(
        self,
        route: Route,
        new: JSON,
        version: Version,
        user: UserInfo,
        options: WriteOptions,
        managed: list[JSON] | None = None,
    ) -> Plan:
        """`new` is consumed; it replaces `version`. `managed` are its managedFields if they are known."""
        row = route.resource
        view = view_of(row)
        old = view.read(version)
        supplied = (new.get("metadata") or {}).get("managedFields")
        repeated = self._settle_metadata(route, new, old, version)
        strategy = strategy_for(row)
        ctx = self._context(route, route.name, user, times.now(), dry_run=options.dry_run)
        strategy.default(new)
        if managed is None:
            fieldmanagers.track_update(route, new, old, supplied, options, ctx.now)
        elif managed:
            new["metadata"]["managedFields"] = managed
        self._check(route, route.name, user, new, old)
        change = strategy.update_subresource(ctx, route.subresource, new, old)
        charges = quotas.charges(ctx, change.object, old, route.subresource)
        result = shaped(route, change.object)
        stored_only = [] if route.subresource else unacted.warnings(row, ctx.config.unacted)
        plan = Plan(view, result, [*repeated, *change.warnings, *stored_only])
        if not change.also and not charges and fieldmanagers.settles(result, old):
            return plan.unchanged(version)
        if (
            row.generation
            and route.subresource != "status"
            and objectmeta.content_changed(
                result, old, strategy.counted_metadata, status=row.custom is not None and not row.has_status
            )
        ):
            objectmeta.bump_generation(result["metadata"])
        plan.charged = bool(charges)
        return self._store_update(route, plan, result, version, [*change.also, *charges], ctx)

    def _settle_metadata(self, route: Route, new: JSON, old: JSON, version: Version) -> list[str]:
        """Check whose new version `new` is, and fill in what it cannot change; returns warnings."""
        meta: JSON = new.setdefault("metadata", {})
        preconditions.check_identity(meta, route)
        preconditions.check_version(route.resource, route.name, meta, version.revision)
        preconditions.check_namespace(self._reader, route, route.name, creating=False)
        if route.namespace:
            meta["namespace"] = route.namespace
        objectmeta.carry_over(meta, old["metadata"])
        return objectmeta.merge_owners(meta)

    def replace(self, route: Route, obj: JSON, version: Version, user: UserInfo, options: WriteOptions) -> Plan:
        """Store `obj` over `version` by the rules of metadata alone: what some subresources do."""
        row = route.resource
        view = view_of(row)
        old = view.read(version)
        self._settle_metadata(route, obj, old, version)
        self._check(route, route.name, user, obj, old)
        ctx = self._context(route, route.name, user, times.now(), dry_run=options.dry_run)
        if route.subresource:
            fieldmanagers.track_update(route, obj, old, None, options, ctx.now)
        elif "managedFields" in old["metadata"]:
            obj["metadata"]["managedFields"] = old["metadata"]["managedFields"]
        result = shaped(route, obj)
        errors = strategy_for(row).metadata_on_update(ctx, result, old)
        if errors:
            raise invalid_object(row.kind, route.name, errors, row.group)
        plan = Plan(view, result)
        if result == old:
            return plan.unchanged(version)
        return self._store_update(route, plan, result, version, (), ctx)

    def delete(self, route: Route, version: Version, user: UserInfo, options: DeleteOptions) -> Plan:
        row = route.resource
        view = view_of(row)
        self._check(route, route.name, user, None, view.read(version))
        preconditions.check_mortal(route)
        decision = deletion.decide(row, view.read(version), options, time.time())
        plan = Plan(view, decision.object)
        if decision.outcome is Outcome.NOTHING or (
            decision.outcome is Outcome.MARK and decision.object == view.read(version)
        ):
            return plan.unchanged(version)
        if decision.outcome is not Outcome.REMOVE:
            plan.put(version.key, version.revision)
        if decision.outcome is not Outcome.MARK:
            ctx = self._context(route, route.name, user, times.now(), dry_run=options.dry_run)
            expect = version.revision if decision.outcome is Outcome.REMOVE else None
            plan.remove(version.key, expect, strategy_for(row).delete(ctx, decision.object))
        return plan.rehearse() if options.dry_run else plan

    def _store_update(
        self,
        route: Route,
        plan: Plan,
        result: JSON,
        version: Version,
        also: Sequence[Operation],
        ctx: WriteContext,
    ) -> Plan:
        """Write it, or let a deleting object go that nothing holds any more."""
        if objectmeta.deletion_is_due(result):
            stored = view_of(route.resource).read(version)  # what it holds, not what the write would have made of it
            also = strategy_for(route.resource).delete(ctx, stored)
            plan.remove(version.key, version.revision, also, told=False)
        else:
            plan.put(version.key, version.revision, also)
        return plan.rehearse() if ctx.dry_run else plan

    def _check(self, route: Route, name: str, user: UserInfo, new: JSON | None, old: JSON | None) -> None:
        for check in self.checks:
            check(Attempt(route, name, user, new, old))

    def _context(self, route: Route, name: str, user: UserInfo, now: str, *, dry_run: bool) -> WriteContext:
        return WriteContext(
            resource=route.resource,
            namespace=route.namespace,
            name=name,
            user=user,
            config=self._config,
            reader=self._reader,
            now=now,
            dry_run=dry_run,
        )


def shaped(route: Route, obj: JSON) -> JSON:
    """The object as it is stored: type first, empty metadata left out."""
    row = route.resource
    meta = obj["metadata"]
    for name in _META_MAPS:
        if name in meta and not meta[name]:
            del meta[name]
    return {"kind": row.kind, "apiVersion": row.group_version, "metadata": meta} | {
        name: value for name, value in obj.items() if name not in ("kind", "apiVersion", "metadata")
    }
