"""A server of Services without HTTP and disk: the strategy, a dictionary, and the little between them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from twinstack.api.resources import Resource, resource
from twinstack.ip import CIDR
from twinstack.server.messages import UserInfo
from twinstack.server.strategy.base import Change, ServerConfig, WriteContext
from twinstack.server.strategy.ipaddresses import allocated_address
from twinstack.server.strategy.services import ServiceStrategy
from twinstack.store import Delete, Operation, Put

JSON = dict[str, Any]

RANGES = {
    "v4": ("10.96.0.0/16",),
    "v6": ("fd00:96::/112",),
    "dual46": ("10.96.0.0/16", "fd00:96::/112"),
    "dual64": ("fd00:96::/112", "10.96.0.0/16"),
}
SERVICES = resource("", "services")
SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")
IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
NOW = "2026-01-01T00:00:00Z"


class MemoryStore:
    """A `Reader` on a dictionary, and the transactions that strategies ask for."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.revision = 0

    def get(self, resource: Resource, namespace: str, name: str) -> JSON | None:
        value = self.records.get(resource.key(namespace, name))
        return None if value is None else json.loads(value)

    def exists(self, key: str) -> bool:
        return key in self.records

    def list(self, resource: Resource, namespace: str = "") -> Iterable[JSON]:
        prefix = resource.prefix + (f"{namespace}/" if namespace else "")
        return [json.loads(value) for key, value in self.records.items() if key.startswith(prefix)]

    def commit(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self.revision += 1
            present = operation.key in self.records
            if isinstance(operation, Delete):
                assert present
                del self.records[operation.key]
            else:
                assert operation.expect is None or present == (operation.expect > 0), operation.key
                self.records[operation.key] = operation.encode(self.revision)


class Server:
    """The Service strategy with the little that generic verbs add."""

    def __init__(self, config: str, store: MemoryStore | None = None) -> None:
        ranges = tuple(CIDR.parse(text) for text in RANGES[config])
        self.config = ServerConfig(service_ranges=ranges, node_ports=range(30000, 32768), secure_port=6443)
        self.store = store or MemoryStore()
        cidr = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [str(block) for block in ranges]}}
        self.store.commit([Put(SERVICE_CIDRS.key("", "kubernetes"), lambda _: json.dumps(cidr).encode(), 0)])
        first = ranges[0].address(1)  # the Service `kubernetes`
        record = allocated_address(first, "default", "kubernetes", NOW)
        self.store.commit([Put(IP_ADDRESSES.key("", str(first)), record, 0)])
        self.strategy = ServiceStrategy()

    def context(self, name: str, *, dry_run: bool = False) -> WriteContext:
        return WriteContext(
            resource=SERVICES,
            namespace="default",
            name=name,
            user=UserInfo("admin"),
            config=self.config,
            reader=self.store,
            now=NOW,
            dry_run=dry_run,
        )

    def _write(self, change: Change) -> JSON:
        obj = change.object
        meta = obj["metadata"]
        key = SERVICES.key("default", meta["name"])

        def encode(revision: int) -> bytes:
            meta["resourceVersion"] = str(revision)
            return json.dumps(obj).encode()

        self.store.commit([*change.also, Put(key, encode, None)])
        return obj

    def create(self, body: JSON, *, dry_run: bool = False) -> JSON:
        body["metadata"] |= {"namespace": "default", "uid": "u", "creationTimestamp": NOW}
        self.strategy.default(body)
        change = self.strategy.create(self.context(body["metadata"]["name"], dry_run=dry_run), body)
        return change.object if dry_run else self._write(change)

    def update(self, name: str, new: JSON, *, status: bool = False) -> JSON:
        old = self.store.get(SERVICES, "default", name)
        assert old
        new["metadata"] = old["metadata"] | new["metadata"]
        self.strategy.default(new)
        write = self.strategy.update_status if status else self.strategy.update
        return self._write(write(self.context(name), new, old))

    def patch(self, name: str, patch: JSON, *, status: bool = False) -> JSON:
        old = self.store.get(SERVICES, "default", name)
        assert old
        return self.update(name, merge(self.strategy.unveil(self.store, old), patch), status=status)

    def delete(self, name: str) -> JSON:
        old = self.store.get(SERVICES, "default", name)
        assert old
        operations = self.strategy.delete(self.context(name), old)
        self.store.commit([*operations, Delete(SERVICES.key("default", name), None)])
        return old


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
