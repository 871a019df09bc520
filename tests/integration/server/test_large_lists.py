"""Lists of many thousand items, stored and written again in another order: what compares them takes linear time.

A comparison of each item with every other one would take minutes, so the bound on time can be far from what is needed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.api_client import MERGE, Api, served
from tests.integration.server.test_mutations import APPLY, STRATEGIC, in_time

from twinstack.api.resources import RESOURCES, Resource
from twinstack.store import Put

JSON = dict[str, Any]

MANY = range(8_000)
ADDRESSES = [f"198.{18 + n % 2}.{n >> 8 & 255}.{n & 255}" for n in MANY]

OBJECTS: dict[str, JSON] = {
    "ConfigMap": {"metadata": {"finalizers": [f"a.b/c{n}" for n in MANY]}},
    "Service": {"spec": {"ports": [{"port": 80}], "externalIPs": ADDRESSES}},
    "Pod": {
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "tolerations": [{"key": f"k{n}", "operator": "Exists"} for n in MANY],
        }
    },
    "Node": {"status": {"addresses": [{"type": "InternalIP", "address": each} for each in ADDRESSES]}},
    "ResourceQuota": {"spec": {"scopes": [f"s{n}" for n in MANY]}},
}


def reversed_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_lists(item) for key, item in value.items()}
    return value[::-1] if isinstance(value, list) else value


async def store(api: Api, row: Resource, obj: JSON) -> None:
    """Put it there without asking whether it may be."""

    def encode(revision: int) -> bytes:
        meta = obj["metadata"] | {
            "uid": "u",
            "resourceVersion": str(revision),
            "creationTimestamp": "2020-01-01T00:00:00Z",
        }
        return msgspec.json.encode(obj | {"metadata": meta})

    assert await api.registry.commit([Put(row.key("default" if row.namespaced else "", "web"), encode, None)])


@pytest.mark.parametrize("kind", OBJECTS)
def test_every_write_ends_soon(tmp_path: Path, kind: str) -> None:
    row = next(each for each in RESOURCES if each.kind == kind)
    filled = OBJECTS[kind]
    meta = {"name": "web"} | filled.get("metadata", {})
    obj: JSON = {"apiVersion": row.group_version, "kind": kind} | filled | {"metadata": meta}
    one = row.path("default", "web")

    async def main() -> None:
        async with served(tmp_path / "store.db") as api:
            await store(api, row, obj)
            other = reversed_lists(obj)
            for method, url, content_type in (
                ("PUT", one, "application/json"),
                ("PATCH", one, STRATEGIC),
                ("PATCH", one, MERGE),
                ("PATCH", f"{one}?fieldManager=x&force=true", APPLY),
            ):
                with in_time():
                    answer = await api.call(method, url, other, content_type)
                assert answer.code in (200, 422, 500), answer.body  # 500 in upstream's words: too large for etcd
                assert len(answer.text) < 3 << 20, "neither an object nor what is wrong with it takes more to tell"

    asyncio.run(main())
