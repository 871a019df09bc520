"""Tells kubelets how long they may believe a Secret or ConfigMap that they have read: longer in larger clusters."""

from __future__ import annotations

from twinstack.api.core import Node
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NODES
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced

TTL = "node.alpha.kubernetes.io/ttl"
_STEPS = ((0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, None, 300))  # nodes from, to; seconds


def step_for(nodes: int, step: int = 0) -> int:
    """The step of a cluster of so many nodes that was on `step`: they overlap, so that it does not go to and fro."""
    while (most := _STEPS[step][1]) is not None and nodes > most:
        step += 1
    while nodes < _STEPS[step][0]:
        step -= 1
    return step


def ttl_of(step: int) -> str:
    """The value of the annotation: seconds."""
    return str(_STEPS[step][2])


class NodeTTLController:
    """Annotates every Node; all of them again only when the cluster outgrows a step."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = WorkQueue("nodettl")
        self._nodes = context.informers.of(NODES)
        self._step = 0

    async def run(self) -> None:
        await synced(self._nodes)
        self._step = step_for(len(self._nodes.objects))
        self._nodes.subscribe(self._node_changed)
        await self._queue.run(self._sync, workers=2)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        step = step_for(len(self._nodes.objects), self._step)
        if step != self._step:
            self._step = step
            for name in self._nodes.objects:
                self._queue.add(name)
        elif new is not None and new.metadata.annotations.get(TTL) != ttl_of(step):
            self._queue.add(new.metadata.name)

    async def _sync(self, name: str) -> None:
        node = self._nodes.objects.get(name)
        if node is None or node.metadata.annotations.get(TTL) == ttl_of(self._step):
            return
        patch = {"metadata": {"annotations": {TTL: ttl_of(self._step)}}}
        try:
            self._nodes.wrote(await self._client.patch(NODES, name, "", patch))
        except StatusError as error:
            if error.code != 404:
                raise
