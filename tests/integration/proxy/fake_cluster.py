"""A proxy's API server on the node's loopback: lists by WatchList, tells changes, takes events."""

from __future__ import annotations

import asyncio
import enum
import json
import socket
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
from tests.integration.proxy.bed import FAMILIES, NODE, NODE_CLIENT_SIDE, POD_BLOCK, SERVICE_BLOCK, Bed
from tests.unit.client.api_stub import ApiStub, Call, Reply

from twinstack.api.core import Node, NodeAddress, NodeSpec, NodeStatus
from twinstack.api.meta import Object, ObjectMeta
from twinstack.api.networking import ServiceCIDR, ServiceCIDRSpec

NODE_OBJECT = Node(
    metadata=ObjectMeta(name=NODE, uid="node-uid"),
    spec=NodeSpec(pod_cidrs=[str(POD_BLOCK[family]) for family in FAMILIES]),
    status=NodeStatus(addresses=[NodeAddress(type="InternalIP", address=NODE_CLIENT_SIDE[f]) for f in FAMILIES]),
)
RANGES = ServiceCIDR(
    metadata=ObjectMeta(name="kubernetes"), spec=ServiceCIDRSpec(cidrs=[str(SERVICE_BLOCK[f]) for f in FAMILIES])
)


class Mood(enum.Enum):
    """How the server answers."""

    WELL = enum.auto()
    GARBAGE = enum.auto()  # bytes that are no events
    NONSENSE = enum.auto()  # events that are no objects
    SILENT = enum.auto()
    GONE = enum.auto()  # hangs up


class FakeCluster:
    """Objects by resource and key. Start it in a running loop."""

    def __init__(self, bed: Bed) -> None:
        self._socket = bed.on_node(lambda: socket.create_server(("127.0.0.1", 0)))
        self.mood = Mood.WELL
        self.events: list[dict[str, Any]] = []
        self.selectors: dict[str, str] = {}
        self._objects: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._watchers: dict[str, list[Reply]] = defaultdict(list)
        self._version = 1
        self._stub = ApiStub(self._behave)
        self.put("nodes", NODE_OBJECT)
        self.put("servicecidrs", RANGES)

    async def start(self, directory: Path) -> Path:
        """Listen; returns the path of a kubeconfig."""
        self._server = await asyncio.start_server(self._stub.serve, sock=self._socket)
        port = self._socket.getsockname()[1]
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = directory / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    async def stop(self) -> None:
        self._server.close()
        await self._stub.stop()

    def become(self, mood: Mood) -> None:
        """Answer so from now on; whoever is connected has to ask again."""
        self.mood = mood
        self._watchers.clear()
        self._stub.drop_all()

    def put(self, resource: str, obj: Object) -> None:
        body: dict[str, Any] = msgspec.to_builtins(obj)
        known = obj.key in self._objects[resource]
        self._objects[resource][obj.key] = body
        self._tell(resource, "MODIFIED" if known else "ADDED", body)

    def remove(self, resource: str, obj: Object) -> None:
        self._tell(resource, "DELETED", self._objects[resource].pop(obj.key))

    def _tell(self, resource: str, kind: str, body: dict[str, Any]) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        for watcher in self._watchers[resource]:
            if not watcher.writer.is_closing():
                watcher.send((kind, body))

    async def _behave(self, call: Call, reply: Reply) -> None:
        if self.mood is not Mood.WELL:
            await self._misbehave(reply)
            return
        resource = call.path.rsplit("/", 1)[1]
        if call.method == "POST":
            self.events.append(json.loads(call.body))
            reply.json(self.events[-1], 201)
            return
        self.selectors[resource] = call.query.get("labelSelector", "") + call.query.get("fieldSelector", "")
        reply.begin()
        for body in self._objects[resource].values():
            reply.send(("ADDED", body))
        end = {"resourceVersion": str(self._version), "annotations": {"k8s.io/initial-events-end": "true"}}
        reply.send(("BOOKMARK", {"kind": "Object", "metadata": end}))
        self._watchers[resource].append(reply)
        await asyncio.Event().wait()

    async def _misbehave(self, reply: Reply) -> None:
        match self.mood:
            case Mood.GARBAGE:
                reply.begin()
                reply.raw(b"<html>\n")
                reply.end()
            case Mood.NONSENSE:
                reply.begin()
                reply.raw(b'{"type":"ADDED","object":{"metadata":{"name":7},"spec":[]}}\n')
                reply.end()
            case Mood.SILENT:
                await asyncio.Event().wait()
            case _:
                reply.drop()
