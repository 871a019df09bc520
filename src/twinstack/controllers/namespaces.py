"""Ends namespaces: removes what is in one that is being deleted, then lets it go (Namespace.spec.finalizers)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter

import msgspec

from twinstack.api import times
from twinstack.api.core import Namespace, Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NAMESPACES, PODS
from twinstack.client.discovery import ServedResource
from twinstack.client.rest import METADATA_LIST
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.namespacestatus import Findings, Remains, changes

FINALIZER = "kubernetes"
FIRST_PAUSE = 0.1  # seconds until what is left is looked at again; doubled each time
LONGEST_PAUSE = 5.0
_DELETE = json.dumps({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}).encode()

log = logging.getLogger(__name__)


class _Meta(msgspec.Struct):
    name: str
    finalizers: list[str] = []


class _Item(msgspec.Struct):
    metadata: _Meta


class _Items(msgspec.Struct):
    items: list[_Item]


class NamespaceController:
    """Pods go first (KEP-5080): what serves them, and what guards them, stays while they end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client = context.client
        self._queue = WorkQueue("namespaces")
        self._namespaces = context.informers.of(NAMESPACES)
        self._pods = context.informers.of(PODS)
        self._rounds: Counter[str] = Counter()

    async def run(self) -> None:
        await synced(self._namespaces)
        self._namespaces.subscribe(self._namespace_changed)
        self._pods.subscribe(self._pod_changed)
        await self._queue.run(self._sync, workers=8)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletion_timestamp is not None:
            self._queue.add(new.metadata.name)
        elif new is None and old is not None:
            del self._rounds[old.metadata.name]

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is None and old.metadata.namespace in self._rounds:
            self._queue.add(old.metadata.namespace, delay=FIRST_PAUSE)  # others go with it

    async def _sync(self, name: str) -> None:
        namespace = self._namespaces.objects.get(name)
        if namespace is None or namespace.metadata.deletion_timestamp is None:
            return
        if FINALIZER not in namespace.spec.finalizers:
            return
        findings = await self._empty(name)
        namespace = await self._report(namespace, findings)
        if findings.is_empty:
            await self._finalize(name)
            return
        pause = min(FIRST_PAUSE * 2.0 ** self._rounds[name], LONGEST_PAUSE)
        self._rounds[name] += 1
        self._queue.add(name, delay=pause)

    async def _empty(self, namespace: str) -> Findings:
        """Delete what can be deleted; returns what is still there, and what went wrong."""
        served = await self._context.served()
        resources = [r for r in served.resources if r.namespaced and {"list", "delete"} <= set(r.verbs)]
        pods = [resource for resource in resources if (resource.group_version, resource.plural) == ("v1", "pods")]
        findings = await self._empty_all(pods, namespace, served.failures)
        if findings.remains or findings.failures:
            return findings
        return await self._empty_all([r for r in resources if r not in pods], namespace, served.failures)

    async def _empty_all(
        self, resources: list[ServedResource], namespace: str, undiscovered: dict[str, str]
    ) -> Findings:
        work = (self._empty_one(resource, namespace) for resource in resources)
        failures: list[str] = []
        remains: dict[str, Remains] = {}
        for resource, left in zip(resources, await asyncio.gather(*work, return_exceptions=True), strict=True):
            if isinstance(left, StatusError):
                failures.append(str(left))
            elif isinstance(left, BaseException):
                raise left
            elif left:
                finalizers = tuple(finalizer for item in left for finalizer in item.finalizers)
                remains[_qualified(resource)] = Remains(len(left), finalizers)
        return Findings(undiscovered, failures, remains)

    async def _empty_one(self, resource: ServedResource, namespace: str) -> list[_Meta]:
        items = await self._list(resource, namespace)
        if not items:
            return []
        if "deletecollection" in resource.verbs:
            await self._client.request("DELETE", resource.path(namespace), _DELETE)
        else:
            for item in items:
                await self._delete(resource, namespace, item.name)
        return await self._list(resource, namespace)

    async def _list(self, resource: ServedResource, namespace: str) -> list[_Meta]:
        try:
            answer = await self._client.request("GET", resource.path(namespace), accept=METADATA_LIST)
        except StatusError as error:
            if error.code in (404, 405):
                return []
            raise
        return [item.metadata for item in msgspec.json.decode(answer, type=_Items).items]

    async def _delete(self, resource: ServedResource, namespace: str, name: str) -> None:
        try:
            await self._client.request("DELETE", resource.path(namespace, name), _DELETE)
        except StatusError as error:
            if error.code != 404:
                raise

    async def _finalize(self, name: str) -> None:
        """Take our finalizer off. The object goes there whole: the subresource replaces all of its metadata."""
        path = NAMESPACES.resource.path(name=name)
        try:
            namespace = json.loads(await self._client.request("GET", path))
            finalizers = namespace["spec"].get("finalizers") or []
            namespace["spec"]["finalizers"] = [entry for entry in finalizers if entry != FINALIZER]
            await self._client.request("PUT", f"{path}/finalize", msgspec.json.encode(namespace))
        except StatusError as error:
            if error.code != 404:
                raise
        log.info("namespace %s is empty and released", name)

    async def _report(self, namespace: Namespace, findings: Findings) -> Namespace:
        """Say in the status how far it is; a patch only when that has changed."""
        conditions = changes(namespace.status.conditions, findings, times.now())
        if not conditions:
            return namespace
        patch = {"status": {"conditions": msgspec.to_builtins(conditions)}}
        answer = await self._client.patch(NAMESPACES, namespace.metadata.name, "", patch, subresource="status")
        self._namespaces.wrote(answer)
        return answer


def _qualified(resource: ServedResource) -> str:
    group = resource.group_version.rpartition("/")[0].partition("/")[0]
    return f"{resource.plural}.{group}"
