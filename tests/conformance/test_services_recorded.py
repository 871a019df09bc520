"""The Service rules against answers of a real API server (kube-apiserver 1.36), step by step.

`services.jsonl.xz` holds scenarios of create, replace, merge patch, status patch and delete, 300 for each of
four servers. What a server chooses freely stands there as a placeholder (`<dynamic-v6-0>`, `<nodeport-1>`),
which the first answer that shows it binds to the value chosen here.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.service_server import RANGES, Server

from twinstack.api.errors import StatusError
from twinstack.ip import Address, IPFamily

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("services.jsonl.xz")
PLACEHOLDER = re.compile(r"<(dynamic-v4|dynamic-v6|nodeport)-\d+>")


def answer(server: Server, op: str, name: str, body: JSON) -> JSON:
    try:
        match op:
            case "create":
                return shown(201, server.create(body))
            case "replace":
                return shown(200, server.update(name, body))
            case "merge-patch":
                return shown(200, server.patch(name, body))
            case "status-patch":
                return shown(200, server.patch(name, body, status=True))
            case "delete":
                return shown(200, server.delete(name))
    except StatusError as error:
        return refused(error)
    raise AssertionError(op)


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
        got = answer(server, step["op"], name, bindings.fill(step["request"] or {}))
        bindings.learn(step["response"], got)
        yield step, bindings.fill(step["response"]), got


@pytest.mark.parametrize("config", RANGES)
def test_every_recorded_answer_is_given(config: str) -> None:
    server = Server(config)
    before = set(server.store.records)
    different: list[str] = []
    steps = 0
    for scenario in recorded()[config]:
        for step, expected, got in replay(server, scenario):
            steps += 1
            if not same(expected, got):
                different.append(f"{config}/{scenario['seed']} {step['op']}\n want {expected}\n got  {got}")
                break
    assert steps > 550
    assert not different, f"{len(different)} scenarios differ:\n" + "\n".join(different[:5])
    assert set(server.store.records) == before  # every scenario deletes its Service: nothing may stay allocated
