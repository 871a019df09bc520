"""The Service rules against answers of a real API server (kube-apiserver 1.36), step by step.

`services.jsonl.xz` holds scenarios of create, replace, merge patch, status patch and delete, 300 for each of
four servers. What a server chooses freely stands there as a placeholder (`<dynamic-v6-0>`, `<nodeport-1>`),
which the first answer that shows it binds to the value chosen here.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.server.messages import UserInfo
from twinstack.server.strategy.base import Change, ServerConfig, WriteContext
from twinstack.server.strategy.ipaddresses import allocated_address
from twinstack.server.strategy.services import ServiceStrategy
from twinstack.store import Delete, Operation, Put

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("services.jsonl.xz")
RANGES = {
    "v4": ("10.96.0.0/16",),
    "v6": ("fd00:96::/112",),
    "dual46": ("10.96.0.0/16", "fd00:96::/112"),
    "dual64": ("fd00:96::/112", "10.96.0.0/16"),
}
SERVICES = resource("", "services")
SERVICE_CIDRS = resource("networking.k8s.io", "servicecidrs")
IP_ADDRESSES = resource("networking.k8s.io", "ipaddresses")
PLACEHOLDER = re.compile(r"<(dynamic-v4|dynamic-v6|nodeport)-\d+>")
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

    def __init__(self, config: str) -> None:
        ranges = tuple(CIDR.parse(text) for text in RANGES[config])
        self.config = ServerConfig(service_ranges=ranges, node_ports=range(30000, 32768), secure_port=6443)
        self.store = MemoryStore()
        cidr = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [str(block) for block in ranges]}}
        self.store.commit([Put(SERVICE_CIDRS.key("", "kubernetes"), lambda _: json.dumps(cidr).encode(), 0)])
        first = ranges[0].address(1)  # the Service `kubernetes`
        record = allocated_address(first, "default", "kubernetes", NOW)
        self.store.commit([Put(IP_ADDRESSES.key("", str(first)), record, 0)])
        self.strategy = ServiceStrategy()

    def _context(self, name: str) -> WriteContext:
        return WriteContext(
            resource=SERVICES,
            namespace="default",
            name=name,
            user=UserInfo("admin"),
            config=self.config,
            reader=self.store,
            now=NOW,
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

    def create(self, body: JSON) -> JSON:
        body["metadata"] |= {"namespace": "default", "uid": "u", "creationTimestamp": NOW}
        self.strategy.default(body)
        return self._write(self.strategy.create(self._context(body["metadata"]["name"]), body))

    def update(self, name: str, new: JSON, *, status: bool = False) -> JSON:
        old = self.store.get(SERVICES, "default", name)
        assert old
        new["metadata"] = old["metadata"] | new["metadata"]
        self.strategy.default(new)
        write = self.strategy.update_status if status else self.strategy.update
        return self._write(write(self._context(name), new, old))

    def patch(self, name: str, patch: JSON, *, status: bool = False) -> JSON:
        old = self.store.get(SERVICES, "default", name)
        return self.update(name, merge(old, patch), status=status)

    def delete(self, name: str) -> JSON:
        old = self.store.get(SERVICES, "default", name)
        assert old
        operations = self.strategy.delete(self._context(name), old)
        self.store.commit([*operations, Delete(SERVICES.key("default", name), None)])
        return old

    def answer(self, op: str, name: str, body: JSON) -> JSON:
        try:
            match op:
                case "create":
                    return shown(201, self.create(body))
                case "replace":
                    return shown(200, self.update(name, body))
                case "merge-patch":
                    return shown(200, self.patch(name, body))
                case "status-patch":
                    return shown(200, self.patch(name, body, status=True))
                case "delete":
                    return shown(200, self.delete(name))
        except StatusError as error:
            return refused(error)
        raise AssertionError(op)


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


def shown(code: int, obj: JSON) -> JSON:
    meta = {k: v for k, v in obj["metadata"].items() if k not in ("uid", "resourceVersion", "creationTimestamp")}
    return {"code": code, "kind": "Service", "metadata": meta, "spec": obj["spec"], "status": obj["status"]}


def refused(error: StatusError) -> JSON:
    status = error.status()
    causes = [[c["reason"], c["field"], c["message"]] for c in status.get("details", {}).get("causes", [])]
    names = ("code", "status", "reason", "message")
    return {name: status.get(name) for name in names} | {"causes": sorted(causes, key=str)}


class Bindings:
    """Placeholders of one scenario and what they stand for here."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def fill(self, value: Any) -> Any:
        """`value` with every placeholder replaced; one that stands alone keeps its type."""
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, str):
            if value in self._values:
                return self._values[value]
            return PLACEHOLDER.sub(lambda match: str(self._values.get(match[0], match[0])), value)
        return value

    def learn(self, expected: Any, actual: Any) -> None:
        """Bind placeholders that `expected` shows for the first time to the values in their places."""
        if isinstance(expected, dict) and isinstance(actual, dict):
            for key, item in expected.items():
                self.learn(item, actual.get(key))
        elif isinstance(expected, list) and isinstance(actual, list):
            for item, value in zip(expected, actual, strict=False):
                self.learn(item, value)
        elif isinstance(expected, str) and (match := PLACEHOLDER.fullmatch(expected)) and fits(match[1], actual):
            self._values.setdefault(expected, actual)


def same(expected: Any, actual: Any) -> bool:
    """Equality, but `<nodeport>` in a text is any node port: numbers in messages were not recorded."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, str) and "<nodeport>" in expected and isinstance(actual, str):
        return re.sub(r"\b3[0-2]\d{3}\b", "<nodeport>", actual) == expected
    return bool(expected == actual)


def fits(kind: str, value: Any) -> bool:
    if kind == "nodeport":
        return isinstance(value, int) and value in range(30000, 32768)
    family = IPFamily.IPV4 if kind == "dynamic-v4" else IPFamily.IPV6
    return isinstance(value, str) and Address.parse(value).family is family


@cache
def recorded() -> dict[str, list[JSON]]:
    scenarios: dict[str, list[JSON]] = {config: [] for config in RANGES}
    with lzma.open(RECORDING, "rt") as lines:
        for line in lines:
            scenario = json.loads(line)
            scenarios[scenario["config"]].append(scenario)
    return scenarios


def replay(server: Server, scenario: JSON) -> Iterator[tuple[JSON, JSON, JSON]]:
    """Yields each step with what was expected and what came."""
    name = f"s{scenario['seed']}"
    bindings = Bindings()
    for step in scenario["steps"]:
        if step["response"]["code"] == 400:
            continue  # wrong JSON types are found before any strategy is asked
        answer = server.answer(step["op"], name, bindings.fill(step["request"] or {}))
        bindings.learn(step["response"], answer)
        yield step, bindings.fill(step["response"]), answer


@pytest.mark.parametrize("config", RANGES)
def test_every_recorded_answer_is_given(config: str) -> None:
    server = Server(config)
    before = set(server.store.records)
    different: list[str] = []
    steps = 0
    for scenario in recorded()[config]:
        for step, expected, answer in replay(server, scenario):
            steps += 1
            if not same(expected, answer):
                different.append(f"{config}/{scenario['seed']} {step['op']}\n want {expected}\n got  {answer}")
                break
    assert steps > 550
    assert not different, f"{len(different)} scenarios differ:\n" + "\n".join(different[:5])
    assert set(server.store.records) == before  # every scenario deletes its Service: nothing may stay allocated
