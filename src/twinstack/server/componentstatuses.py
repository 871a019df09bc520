"""ComponentStatuses (core/v1, deprecated upstream): made at the moment they are asked for, never stored.

Upstream asks ports of its own host. Here the store is asked, and scheduler and controllers count as healthy while
one of them renews its Lease, wherever it runs; without a Lease, as where one is all there are, while it watches.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.resources import Resource, resource
from twinstack.server.registry import Registry
from twinstack.server.watchcache import Collection
from twinstack.store import Record

JSON = dict[str, Any]

COMPONENT_STATUSES = resource("", "componentstatuses")
_LEASES = resource("coordination.k8s.io", "leases")
_NAMESPACE = "kube-system"
_BY_LEASE = {"controller-manager": "kube-controller-manager", "scheduler": "kube-scheduler"}
_STORE = "etcd-0"
COMPONENTS = frozenset(f"system:{lease}" for lease in _BY_LEASE.values())  # the users as which they come


async def collection(registry: Registry) -> Collection:
    """What the cache has of other resources. Raises StatusError when the store fails."""
    await registry.current()
    conditions = {name: _by_lease(registry, lease) for name, lease in _BY_LEASE.items()} | {_STORE: (True, "ok")}
    found = Collection(COMPONENT_STATUSES.prefix, registry.cache.revision)
    found.load([_record(COMPONENT_STATUSES, name, *told) for name, told in sorted(conditions.items())])
    return found


def _record(row: Resource, name: str, healthy: bool, message: str) -> Record:
    condition = {"type": "Healthy", "status": "True" if healthy else "False", "message": message}
    obj = {"kind": row.kind, "apiVersion": row.group_version, "metadata": {"name": name}, "conditions": [condition]}
    return Record(row.key("", name), 0, msgspec.json.encode(obj))


def _by_lease(registry: Registry, name: str) -> tuple[bool, str]:
    lease = registry.reader.get(_LEASES, _NAMESPACE, name)
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        told = f"nobody holds the Lease {_NAMESPACE}/{name}, and system:{name} watches nothing here"
        return (True, "ok") if registry.watching[f"system:{name}"] > 0 else (False, told)
    if times.parse_time(spec["renewTime"]) + spec.get("leaseDurationSeconds", 0) < time.time():
        return False, f"{spec['holderIdentity']} has not renewed the Lease {_NAMESPACE}/{name} in time"
    return True, "ok"
