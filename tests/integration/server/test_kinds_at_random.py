"""Objects of every kind made at random after the schema, and spoilt: the verbs answer all of them."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import MERGE, Api, served

from twinstack.api.resources import RESOURCES, Resource
from twinstack.api.schema import Field, get_type

JSON = dict[str, Any]

ROUNDS, REQUESTS = (20, 10_000) if os.environ.get("TWINSTACK_TESTS") == "soak" else (2, 2500)
STRATEGIC = "application/strategic-merge-patch+json"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
KINDS = [resource for resource in RESOURCES if "create" in resource.verbs]

TEXTS: tuple[str, ...] = (
    *("", "a", "web", "x.y/z", "1Gi", "25%", "*", "..", "a/b", "\0", "é", "x" * 300, "None", "-1", "* * * * *"),
    *("10.96.0.1", "010.0.0.1", "fd00::1", "::ffff:1.2.3.4", "10.0.0.0/8", "fd00::/64", "2020-13-01T00:00:00Z"),
    *("Always", "ClientIP", "TCP", "Exists", "In", "NoSchedule", "RollingUpdate", "Prefix", "Ingress", "User", "Pod"),
    *("v1", "apps/v1", "rbac.authorization.k8s.io", "kubernetes.io/kube-apiserver-client", "client auth", "get"),
)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1 << 31, 1 << 63, 1.5, 1e308, [], {}, [None], {"a": None}, {"": ""}, [[]], ["a", "a"]),
    *({"$patch": "delete"}, {"$patch": "replace"}, {"$retainKeys": ["x"]}, {"$setElementOrder/ports": 3}),
)
NUMBERS = (0, 1, 2, 80, 443, -1, 70_000, 1 << 40)
SCALARS: dict[str, tuple[Any, ...]] = {
    "string": TEXTS,
    "bool": (True, False),
    "int32": NUMBERS,
    "int64": NUMBERS,
    "float64": (1.5,),
    "quantity": ("1", "100m", "1Gi", "-1", 5),
    "int-or-string": (1, "25%", "web"),
    "time": ("2020-01-01T00:00:00Z",),
    "microtime": ("2020-01-01T00:00:00.000000Z",),
    "bytes": ("", "YQ=="),
    "any": (1, {"a": 1}, []),
}


class Maker:
    """Requests, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def object(self, resource: Resource) -> JSON:
        made = self._fields(resource.schema, 0)
        meta = made.setdefault("metadata", {})
        for name in ("namespace", "resourceVersion", "uid", "deletionTimestamp"):
            if self.random.random() < 0.8:
                meta.pop(name, None)
        return made | {"metadata": meta | {"name": "web"}}

    def _fields(self, type_name: str, depth: int) -> JSON:
        described, made = get_type(type_name), {}
        likely = 0.9 if depth == 0 else 0.5 if depth < 3 else 0.25
        for name, field in described.fields.items():
            if name in ("apiVersion", "kind") or depth > 7:
                continue
            if name in described.required or self.random.random() < likely:
                made[name] = self._value(field, field.container, depth)
        return made

    def _value(self, field: Field, container: str, depth: int) -> Any:
        if container.startswith("[]"):
            return [self._value(field, container[2:], depth) for _ in range(self.random.randint(0, 2))]
        if container.startswith("{}"):
            return {self.random.choice(TEXTS): self._value(field, container[2:], depth)}
        return self._fields(field.type, depth + 1) if field.is_object else self.random.choice(SCALARS[field.type])

    def spoilt(self, value: Any) -> Any:
        """The same with some values changed, removed or added."""
        value = copy.deepcopy(value)
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3))):
            places = list(_places(value))
            if not places:
                return value
            container, key = self.random.choice(places)
            match self.random.randrange(3):
                case 0:
                    container[key] = copy.deepcopy(self.random.choice(ODD + TEXTS))
                case 1:
                    del container[key]
                case _ if isinstance(container, dict):
                    container[self.random.choice(("$patch", "name", "metadata", "", "$setElementOrder/ports"))] = 1
                case _:
                    container.append(copy.deepcopy(self.random.choice(ODD)))
        return value

    def operations(self, value: Any) -> Any:
        """A JSON patch of places that are there, or nearly."""
        paths = [_pointer(path) for path in _paths(value, ())]
        operations = [
            {
                "op": self.random.choice(("add", "remove", "replace", "move", "copy", "test", "burn")),
                "path": self.random.choice(paths) + self.random.choice(("", "", "/-", "/0", "/x", "/99999999999")),
                "from": self.random.choice(paths),
                "value": copy.deepcopy(self.random.choice(ODD)),
            }
            for _ in range(self.random.randint(1, 4))
        ]
        return self.spoilt(operations) if self.random.random() < 0.2 else operations

    def request(self) -> tuple[str, str, Any, str, str]:
        """Method, URL, body, its media type, and what to accept."""
        resource = self.random.choice(KINDS)
        subresource = ""
        if resource.subresources and self.random.random() < 0.3:
            subresource = self.random.choice(resource.subresources).name
        query = self.random.choice(("", "", "?dryRun=All", "?fieldValidation=Strict", "?fieldManager=x", "?limit=1"))
        collection, one = resource.path("default"), resource.path("default", "web", subresource)
        accept = self.random.choice(("application/json", TABLE, "application/yaml"))
        made = self.object(resource)
        body = self.spoilt(made)
        match self.random.randrange(10):
            case 0 | 1 | 2:
                return "POST", collection + query, body, "application/json", accept
            case 3 | 4:
                return "PUT", one + query, body, "application/json", accept
            case 5 | 6:
                return "PATCH", one + query, body, self.random.choice((MERGE, STRATEGIC)), accept
            case 7:
                return "PATCH", one + query, self.operations(made), "application/json-patch+json", accept
            case 8:
                options = self.spoilt({"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"})
                return "DELETE", one, options, "application/json", accept
            case _:
                return "GET", self.random.choice((collection, one)) + query, None, "application/json", accept


def _places(value: Any) -> Any:
    """Every container with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _paths(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _paths(value[key], (*path, key))


def _pointer(path: tuple[Any, ...]) -> str:
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


async def send(api: Api, maker: Maker) -> int:
    method, url, body, content_type, accept = maker.request()
    try:
        answer = await api.call(method, url, body, content_type, accept=accept)
    except Exception as error:
        error.add_note(f"{method} {url} ({content_type}, {accept})\n{json.dumps(body)}")
        raise
    assert 200 <= answer.code <= 500
    return answer.code


@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_request_is_answered(tmp_path: Path, number: int) -> None:
    seed = random.randrange(1 << 32) if ROUNDS > 2 else number

    async def main() -> None:
        async with served(tmp_path / "store.db") as api:
            cidr = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}}
            await api.call("POST", "/apis/networking.k8s.io/v1/servicecidrs", cidr)
            maker = Maker(seed)
            codes = {await send(api, maker) for _ in range(REQUESTS)}
            assert {200, 201, 400, 404, 409, 422} <= codes

    asyncio.run(main())
