"""Gives every Node its pod CIDRs, one a family in the order of `--cluster-cidr` (Node.spec.podCIDRs)."""

from __future__ import annotations

import logging

from twinstack.api.core import Node
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NODES
from twinstack.client.workqueue import NotYet, WorkQueue
from twinstack.controllers.context import Context, synced
from twinstack.controllers.nodecidrs import Misfit, NodeCIDRs

EXHAUSTED = "CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range"

log = logging.getLogger(__name__)


class NodeIPAMController:
    """Blocks that nodes have are marked before any is given: a restart gives none twice."""

    def __init__(self, context: Context, cidrs: NodeCIDRs) -> None:
        self._client = context.client
        self._events = context.recorder("cidrAllocator")
        self._cidrs = cidrs
        self._queue = WorkQueue("nodeipam")
        self._nodes = context.informers.of(NODES)

    async def run(self) -> None:
        """Raises Misfit when a node's blocks do not fit the flags: going on would hand out addresses twice."""
        await synced(self._nodes)
        for node in self._nodes.objects.values():
            if node.spec.pod_cidrs:
                self._cidrs.occupy(node.metadata.name, node.spec.pod_cidrs)
        self._nodes.subscribe(self._node_changed)
        await self._queue.run(self._sync, workers=1)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None:
            if old is None or old.spec.pod_cidrs != new.spec.pod_cidrs or not new.spec.pod_cidrs:
                self._queue.add(new.metadata.name)
        elif old is not None:
            self._cidrs.release(old.metadata.name)
            for node in self._nodes.objects.values():
                if not node.spec.pod_cidrs:
                    self._queue.add(node.metadata.name)  # it may have waited for this

    async def _sync(self, name: str) -> None:
        node = self._nodes.objects.get(name)
        if node is None or node.metadata.deletion_timestamp is not None:
            return
        if node.spec.pod_cidrs:
            try:
                self._cidrs.occupy(name, node.spec.pod_cidrs)
            except Misfit as error:
                log.error("%s", error)
            return
        blocks = self._cidrs.allocate(name)
        if blocks is None:
            self._events.event(node, "Normal", "CIDRNotAvailable", f"Node {name} status is now: CIDRNotAvailable")
            raise NotYet(EXHAUSTED)
        texts = [str(block) for block in blocks]
        try:
            # A lost answer keeps the blocks: the next try writes the same ones.
            answer = await self._client.patch(NODES, name, "", {"spec": {"podCIDR": texts[0], "podCIDRs": texts}})
        except StatusError as error:
            self._cidrs.release(name)
            if error.code == 404:
                return
            self._events.event(
                node, "Normal", "CIDRAssignmentFailed", f"Node {name} status is now: CIDRAssignmentFailed"
            )
            raise
        self._nodes.wrote(answer)
        log.info("node %s has pod CIDRs %s", name, ", ".join(texts))
