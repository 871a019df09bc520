"""The rules of Nodes, Pods, EndpointSlices and other kinds against answers of a real API server (kube-apiserver 1.36).

Each line of `kinds.jsonl.xz` is a scenario of creates, replacements and patches, of objects and their status, with
what the server answered: the object, or the refusal. `<time>` and the like stand for what a server chooses.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.service_server import MemoryStore

from twinstack.api.decoding import decode_object
from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.ip import CIDR
from twinstack.server.messages import Route, UserInfo
from twinstack.server.options import WriteOptions
from twinstack.server.patching import patched
from twinstack.server.plans import Planner
from twinstack.server.strategy.base import ServerConfig
from twinstack.server.versions import Version
from twinstack.store import Put

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("kinds.jsonl.xz")
CONFIG = ServerConfig(
    service_ranges=(CIDR.parse("10.96.0.0/16"),),
    node_ports=range(30000, 32768),
    secure_port=6443,
    disabled_admission_plugins=frozenset({"ServiceAccount"}),
)
CHOSEN = ("resourceVersion", "uid", "creationTimestamp", "managedFields")
NAMESPACES = resource("", "namespaces")


def scenarios() -> list[JSON]:
    return [json.loads(line) for line in lzma.decompress(RECORDING.read_bytes()).decode().splitlines()]


class Server:
    """Bodies, plans and a dictionary: the server without HTTP and disk."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.revisions: dict[str, int] = {}
        self.planner = Planner(self.store, CONFIG)
        namespace = msgspec.json.encode({"metadata": {"name": "default"}, "status": {"phase": "Active"}})
        self.store.commit([Put(NAMESPACES.key("", "default"), lambda _: namespace, 0)])

    def answer(self, step: JSON) -> tuple[int, JSON | str, list[str]]:
        try:
            obj, warnings = self.write(step, resource(*step["resource"]))
        except StatusError as error:
            return error.code, error.message, []
        return 201 if step["method"] == "POST" else 200, obj, warnings

    def write(self, step: JSON, row: Resource) -> tuple[JSON, list[str]]:
        route = Route(row, step["namespace"], step["name"], step["subresource"])
        options = WriteOptions(dry_run=step["dry_run"], field_validation=step["validation"])
        user, body = UserInfo("admin"), step["body"].encode()
        if step["method"] == "POST":
            obj, warnings = decode_object(body, step["content_type"], row, step["validation"])
            plan = self.planner.create(route, obj, obj["metadata"].get("name", ""), user, options)
        else:
            key = row.key(route.namespace, route.name)
            version = Version(key, self.revisions[key], self.store.records[key])
            if step["method"] == "PUT":
                obj, warnings = decode_object(body, step["content_type"], row, step["validation"])
                obj["metadata"] |= {
                    "resourceVersion": str(version.revision),
                    "uid": version.decode()["metadata"]["uid"],
                }
            else:
                obj, warnings = patched(version.decode(), body, step["content_type"], row, step["validation"])
            plan = self.planner.update(route, obj, version, user, options)
        self.store.commit(plan.operations)
        written = plan.written([self.store.revision] * len(plan.operations))
        if plan.operations:
            self.revisions[row.key(route.namespace, plan.name)] = self.store.revision
        return msgspec.json.decode(written.value), [*warnings, *written.warnings]


def alike(shown: Any, wanted: Any) -> bool:
    """Equal, where `wanted` says what it must be."""
    if wanted == "<time>":
        return isinstance(shown, str)
    if isinstance(wanted, dict) and isinstance(shown, dict):
        return shown.keys() == wanted.keys() and all(alike(shown[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(shown, list):
        return len(shown) == len(wanted) and all(map(alike, shown, wanted))
    return bool(shown == wanted)


def without_chosen(obj: JSON) -> JSON:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in CHOSEN}
    return obj | {"metadata": metadata}


def disagreement(server: Server, step: JSON) -> str:
    """Empty when the answer is the recorded one."""
    code, answer, warnings = server.answer(step)
    if code != step["code"]:
        return f"code {code}: {answer}"
    if isinstance(answer, str):
        return "" if answer == step["message"] else f"message {answer}"
    shown, wanted = without_chosen(answer), without_chosen(step["object"])
    if not alike(shown, wanted):
        return f"object {json.dumps(shown, indent=1)}"
    return "" if warnings == step["warnings"] else f"warnings {warnings}"


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario["id"])
def test_scenarios(scenario: JSON) -> None:
    server = Server()
    for step in scenario["steps"]:
        assert disagreement(server, step) == "", step
