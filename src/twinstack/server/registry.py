"""The verbs on objects, without HTTP: everything that is written to the store goes through here.

A write is planned without waiting and committed with the revision it was planned on. When somebody else was
faster the store refuses; the loser waits until the winner's change is visible, and plans again. So a plan
needs no lock, and an allocation that is part of the transaction cannot leak.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError, conflict, not_found
from twinstack.api.resources import Resource, resource
from twinstack.server import objectmeta, preconditions, subresources
from twinstack.server.customresources.catalogue import Catalogue
from twinstack.server.customresources.following import Following
from twinstack.server.fieldmanagers import Application
from twinstack.server.messages import Route, UserInfo
from twinstack.server.options import DeleteOptions, WriteOptions, delete_options
from twinstack.server.patching import APPLY_PATCH, applied_configuration, patched
from twinstack.server.plans import Plan, Planner, Written
from twinstack.server.strategy.base import ServerConfig
from twinstack.server.strategy.pod_accounts import ACCOUNTS, DEFAULT
from twinstack.server.strategy.registry import strategy_for
from twinstack.server.strategy.topology import copy_topology
from twinstack.server.versions import Version, view_of
from twinstack.server.watchcache import WatchCache
from twinstack.store import Conflict, Operation, Store, StoreError, TimedOut, Unavailable

JSON = dict[str, Any]
Modify = Callable[[JSON], tuple[JSON, list[str]]]

NAMESPACES = resource("", "namespaces")
BOOTSTRAP_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SYSTEM = UserInfo("system:apiserver", ("system:masters",))
_ATTEMPTS = 100  # of one write against others that are faster
_EAGER_ATTEMPTS = 10  # of them without a pause: most races end at the first
_PAUSE_SECONDS = 0.02
_GENERATED_NAMES = 8
_LOOKS_FOR_ACCOUNT = 100  # two seconds in all, as upstream
_DEFAULTS = WriteOptions()


class CacheReader:
    """`strategy.base.Reader` on the watch cache. Every dict is the caller's own."""

    def __init__(self, cache: WatchCache) -> None:
        self._cache = cache

    def get(self, resource: Resource, namespace: str, name: str) -> JSON | None:
        version = self._cache.collection(resource).get(resource.key(namespace, name))
        return None if version is None else view_of(resource).read(version)

    def exists(self, key: str) -> bool:
        return self._cache.exists(key)

    def list(self, resource: Resource, namespace: str = "") -> Iterator[JSON]:
        prefix = f"{resource.prefix}{namespace}/" if namespace else resource.prefix
        return map(view_of(resource).read, self._cache.collection(resource).versions(prefix))


class Registry:
    """Objects in a store: read from memory, changed by transactions. Every verb raises StatusError."""

    def __init__(self, store: Store, config: ServerConfig) -> None:
        self.cache = WatchCache()
        self.catalogue = Catalogue()
        self.reader = CacheReader(self.cache)
        self.config = config
        self.watching: Counter[str] = Counter()  # open watches of components, by user
        self._store = store
        self._planner = Planner(self.reader, config)
        self.checks = self._planner.checks
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by namespace

    async def open(self) -> None:
        """Load everything and make the namespaces that every cluster has. Raises StoreError."""
        opened = await self._store.open(self.cache.publish, self.cache.gap)
        following = Following(self.catalogue, self.cache)
        following.load(opened.records)
        self.cache.load(opened)
        following.start()
        await self.current()
        for name in BOOTSTRAP_NAMESPACES:
            try:
                if self.reader.get(NAMESPACES, "", name) is None:
                    await self.create(Route(NAMESPACES), {"metadata": {"name": name}}, SYSTEM)
            except StatusError as error:
                if error.reason != "AlreadyExists":  # another server has made it
                    raise

    async def close(self) -> None:
        await self._store.close()

    async def current(self) -> None:
        """Wait until the cache has everything that was acknowledged before, by whichever server."""
        try:
            await self._store.current()
        except StoreError as error:
            raise _failure(error) from error

    def get(self, route: Route) -> Version:
        """The stored object."""
        version = self._stored(route)
        if version is None:
            raise not_found(route.resource.plural, route.name, route.resource.group)
        return version

    async def create(self, route: Route, obj: JSON, user: UserInfo, options: WriteOptions = _DEFAULTS) -> Written:
        """Store a new object; on `pods/binding` and `bindings`, bind a Pod."""
        pod = subresources.binding_target(route, obj)
        if pod is not None:
            return await self._bind(pod, obj, user, options)
        if route.resource is subresources.PODS:
            await self._account_made(route.namespace, obj)
        body = msgspec.json.encode(obj)
        meta = obj.get("metadata") or {}
        name, prefix = meta.get("name") or "", meta.get("generateName") or ""
        attempts = 1 if name or not prefix else _GENERATED_NAMES
        while True:
            attempts -= 1
            chosen = name or (objectmeta.generated_name(prefix) if prefix else "")
            try:
                return await self._write(self._creation(route, body, chosen, user, options))
            except StatusError as error:
                if name or error.reason != "AlreadyExists":
                    raise
                if not attempts:
                    error.retry_after = 1
                    raise

    async def update(self, route: Route, obj: JSON, user: UserInfo, options: WriteOptions = _DEFAULTS) -> Written:
        """PUT: replace an object, or what a subresource shows of it."""
        body = msgspec.json.encode(obj)
        shape = subresources.shape_of(route)

        def plan() -> Plan:
            wanted: JSON = msgspec.json.decode(body)
            version = self._stored(route)
            if version is None:
                return self._upsert(route, wanted, user, options)
            stored = view_of(route.resource).read(version)
            uid = stored["metadata"]["uid"]
            new = shape.apply(stored, wanted)
            preconditions.check_uid(route, new.get("metadata", {}), uid)
            return self._plan_change(route, shape, new, version, user, options)

        return self._shown(shape, await self._write(plan))

    async def patch(
        self, route: Route, patch_body: bytes, content_type: str, user: UserInfo, options: WriteOptions = _DEFAULTS
    ) -> Written:
        """PATCH an object, or what a subresource shows of it. `content_type` has no parameters."""
        if content_type == APPLY_PATCH:
            return await self.apply(route, patch_body, user, options)
        shape = subresources.shape_of(route)

        def modify(stored: JSON) -> tuple[JSON, list[str]]:
            document = shape.show(strategy_for(route.resource).unveil(self.reader, stored))
            result, warnings = patched(document, patch_body, content_type, shape.body, options.field_validation)
            return shape.apply(stored, result), warnings

        return self._shown(shape, await self.change(route, modify, user, options))

    async def apply(self, route: Route, body: bytes, user: UserInfo, options: WriteOptions) -> Written:
        """PATCH with a configuration that `options.field_manager` applies; it makes the object if there is none."""
        shape = subresources.shape_of(route)

        def plan() -> Plan:
            version = self._stored(route)
            if version is None and route.subresource and not route.resource.create_on_update:
                raise not_found(route.resource.plural, route.name, route.resource.group)
            config, warnings = applied_configuration(body, options.field_validation)
            application = Application(shape.body, config, options)
            if version is None:
                obj, managed = application.create(times.now())
                return self._creation_by_apply(route, obj, managed, user, options).warn(warnings)
            live = strategy_for(route.resource).unveil(self.reader, view_of(route.resource).read(version))
            if shape.body is shape.row:
                new, managed = application.update(route, live, times.now())
            else:
                scale, managed = application.update_scale(route, live, shape.show(live), times.now())
                new = shape.apply(live, scale)
            return self._plan_change(route, shape, new, version, user, options, managed).warn(warnings)

        return self._shown(shape, await self._write(plan))

    async def change(self, route: Route, modify: Modify, user: UserInfo, options: WriteOptions = _DEFAULTS) -> Written:
        """Read, modify, write, until nobody comes between. `modify` owns its argument, adds warnings and may raise."""
        shape = subresources.shape_of(route)

        def plan() -> Plan:
            version = self.get(route)
            new, warnings = modify(view_of(route.resource).read(version))
            try:
                return self._plan_change(route, shape, new, version, user, options).warn(warnings)
            except StatusError as error:
                error.warnings[:0] = warnings
                raise

        return await self._write(plan)

    async def delete(
        self,
        route: Route,
        user: UserInfo,
        body: JSON | None = None,
        options: DeleteOptions | None = None,
    ) -> Written:
        """`body` is a meta/v1 DeleteOptions object, `options` the same already read."""
        wanted = options if options is not None else delete_options(body or {}, {})
        return await self._write(lambda: self._planner.delete(route, self.get(route), user, wanted))

    async def commit(self, operations: Sequence[Operation]) -> bool:
        """One transaction beside the verbs: false after a lost race, once the winner's change is visible."""
        try:
            await self._store.commit(operations)
        except Conflict:
            await self._settled()
            return False
        except StoreError as error:
            raise _failure(error) from error
        return True

    async def _settled(self) -> None:
        try:
            await self._store.settled()
        except StoreError as error:
            raise _failure(error) from error

    async def _account_made(self, namespace: str, pod: JSON) -> None:
        """Wait for the account `default` of a namespace that is new: a controller is about to make it."""
        name = (pod.get("spec") or {}).get("serviceAccountName") or DEFAULT
        if name != DEFAULT or "ServiceAccount" in self.config.disabled_admission_plugins:
            return
        if not self.cache.exists(NAMESPACES.key("", namespace)):
            return
        for _ in range(_LOOKS_FOR_ACCOUNT):
            if self.cache.exists(ACCOUNTS.key(namespace, name)):
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    # How a plan is made and carried out.

    def _stored(self, route: Route) -> Version | None:
        row = route.resource
        return self.cache.collection(row).get(row.key(route.namespace, route.name))

    def _creation(
        self, route: Route, body: bytes, name: str, user: UserInfo, options: WriteOptions
    ) -> Callable[[], Plan]:
        return lambda: self._planner.create(route, msgspec.json.decode(body), name, user, options)

    def _upsert(self, route: Route, obj: JSON, user: UserInfo, options: WriteOptions) -> Plan:
        """PUT to a name that is free."""
        row = route.resource
        if route.subresource or not row.create_on_update:
            raise not_found(row.plural, route.name, row.group)
        meta: JSON = obj.setdefault("metadata", {})
        preconditions.check_identity(meta, route)
        preconditions.check_uid(route, meta, "")
        meta.pop("resourceVersion", None)
        return self._planner.create(route, obj, route.name, user, options)

    def _creation_by_apply(
        self, route: Route, obj: JSON, managed: list[JSON], user: UserInfo, options: WriteOptions
    ) -> Plan:
        meta: JSON = obj["metadata"]
        if meta.get("uid"):
            problem = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(route.resource.plural, route.name, problem, route.resource.group)
        preconditions.check_identity(meta, route)
        return self._planner.create(route, obj, route.name, user, options, managed)

    def _plan_change(
        self,
        route: Route,
        shape: subresources.Shape,
        new: JSON,
        version: Version,
        user: UserInfo,
        options: WriteOptions,
        managed: list[JSON] | None = None,
    ) -> Plan:
        if shape.direct:
            return self._planner.replace(route, new, version, user, options)
        return self._planner.update(route, new, version, user, options, managed)

    async def _bind(self, pod: Route, binding: JSON, user: UserInfo, options: WriteOptions) -> Written:
        subresources.check_binding(binding)

        def plan() -> Plan:
            version = self.get(pod)
            if binding["target"].get("kind") == "Node":
                copy_topology(self.reader, binding["target"]["name"], binding.setdefault("metadata", {}))
            return self._planner.replace(pod, subresources.bind(version.decode(), binding), version, user, options)

        written = await self._write(plan)
        written.value, written.object = msgspec.json.encode(subresources.SUCCESS), subresources.SUCCESS
        written.created = True
        return written

    def _shown(self, shape: subresources.Shape, written: Written) -> Written:
        if shape.body is not shape.row:
            written.object = shape.show(written.object)
            written.value = msgspec.json.encode(written.object)
        return written

    async def _write(self, make: Callable[[], Plan]) -> Written:
        """Plan and commit. Writes that are charged to the same quotas are made one after the other, as each would win
        a race against all of the others.
        """
        plan = await self._plan(make)
        if not plan.charged or not plan.operations:
            return await self._attempt(plan, make)
        turn = self._turns.setdefault(plan.namespace, asyncio.Lock())
        waited = turn.locked()
        async with turn:
            return await self._attempt(await self._plan(make) if waited else plan, make)

    async def _attempt(self, plan: Plan, make: Callable[[], Plan]) -> Written:
        """Commit, again after every lost race."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                plan = await self._plan(make)
            if not plan.operations:
                return plan.written(())
            try:
                revisions = await self._store.commit(plan.operations)
            except Conflict:
                await self._settled()
                if attempt >= _EAGER_ATTEMPTS:
                    await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS))
                continue
            except StoreError as error:
                raise _failure(error) from error
            return plan.written(revisions)
        raise conflict(plan.row.plural, plan.name, group=plan.row.group)

    async def _plan(self, make: Callable[[], Plan]) -> Plan:
        """A plan that the store has not to judge, a refusal above all, must not rest on an outdated state."""
        seen = self.cache.revision
        refusal: StatusError | None = None
        try:
            plan = make()
        except StatusError as error:
            refusal = error
        else:
            if plan.operations:
                return plan
        await self.current()
        if self.cache.revision != seen:
            return make()
        if refusal is not None:
            raise refusal
        return plan


def _failure(error: StoreError) -> StatusError:
    """What a client is told when the store fails, as kube-apiserver passes on what etcd says."""
    if isinstance(error, TimedOut):
        return StatusError(504, "Timeout", f"Timeout: request did not complete within requested timeout - {error}")
    if isinstance(error, Unavailable):
        return StatusError(500, "", str(error))
    return StatusError(500, "InternalError", f"Internal error occurred: {error}")
