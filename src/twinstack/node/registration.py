"""The node's own objects in the API: its Node, kept true, its CSINode, and its Lease, kept fresh (KEP-589).

The Node's status is written when it changes, otherwise every five minutes; that the node lives is told by the
Lease every ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twinstack.api import core, times
from twinstack.api.coordination import Lease, LeaseSpec
from twinstack.api.errors import StatusError
from twinstack.api.kinds import LEASES, NODES
from twinstack.api.meta import Condition, ObjectMeta, OwnerReference
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.ip import Address
from twinstack.node import csinode, machine
from twinstack.node.images.store import Image
from twinstack.node.lifecycle import Waiting

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS, RENEW_EVERY = 40, 10.0
REPORT_EVERY = 300.0
FIRST_PAUSE = 0.05  # seconds before a repetition; doubles up to RENEW_EVERY
_FEATURES = {"supplementalGroupsPolicy": True}
PODS = 110  # what a node takes, as kubelet's default
IMAGES, NAMES = 50, 5  # that a Node shows, and of each

JSON = dict[str, Any]

log = logging.getLogger(__name__)


class Identity(NamedTuple):
    """What does not change about a node while its agent runs."""

    name: str
    node_ips: list[Address]
    port: int
    root_dir: str
    runtime: str  # name://version
    recursive_read_only: bool = False  # of mounts, that the runtime can do
    labels: Mapping[str, str] = {}  # besides those that every node has


class Registration:
    """Keeps the Node and the Lease.

    `problem` says why no pod can run here yet; None when it can. `recovered` is called when the API answers again
    after it did not. `images`: those that are here.
    """

    def __init__(
        self,
        client: Client,
        nodes: Informer[core.Node],
        identity: Identity,
        problem: Callable[[], Waiting | None],
        recovered: Callable[[], None],
        images: Callable[[], list[Image]],
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._identity = identity
        self._problem = problem
        self._recovered = recovered
        self._images = images
        self._lease: Lease | None = None
        self._wake = asyncio.Event()
        self._reported_at = 0.0
        self._with_csi_node = ""  # the uid of the Node whose CSINode is there

    def changed(self) -> None:
        """Look at once whether the Node has to be written."""
        self._wake.set()

    async def run(self) -> None:
        """For ever; cancel to stop. What fails is tried again within ten seconds."""
        pause = FIRST_PAUSE
        renewed = 0.0
        while True:
            self._wake.clear()
            try:
                node = await self._report()
                if time.monotonic() - renewed >= RENEW_EVERY - 0.1:
                    await self._renew(node)
                    renewed = time.monotonic()
                if pause > FIRST_PAUSE:
                    self._recovered()
                pause = FIRST_PAUSE
                wait = max(0.1, renewed + RENEW_EVERY - time.monotonic())
            except (StatusError, OSError) as error:
                level = logging.DEBUG if pause < 1 else logging.WARNING
                log.log(level, "node %s: %s", self._identity.name, error or type(error).__name__)
                wait = pause = min(pause * 2, RENEW_EVERY)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _report(self) -> core.Node:
        """Write the Node if it is not as it should be, or was last written long ago."""
        name = self._identity.name
        node = self._nodes.objects.get(name)
        if node is None:
            node = await self._register()
            self._nodes.wrote(node)
        wanted = self.status(node)
        patch = status_patch(node, wanted, beat=time.monotonic() - self._reported_at > REPORT_EVERY)
        if patch is not None:
            node = await self._client.patch(NODES, name, "", patch, subresource="status")
            self._nodes.wrote(node)
            self._reported_at = time.monotonic()
        if node.metadata.uid != self._with_csi_node and await csinode.ensure(self._client, node):
            self._with_csi_node = node.metadata.uid
        return node

    async def _register(self) -> core.Node:
        identity = self._identity
        labels = {**machine.labels(identity.name), **identity.labels}
        node = core.Node(metadata=ObjectMeta(name=identity.name, labels=labels))
        node.status = self.status(node)
        try:
            created = await self._client.create(NODES, node)
            log.info("registered node %s", identity.name)
            self._reported_at = time.monotonic()
            return created
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        node = await self._client.get(NODES, identity.name)
        if labels.items() <= node.metadata.labels.items():
            return node
        return await self._client.patch(NODES, identity.name, "", {"metadata": {"labels": labels}})

    def status(self, node: core.Node) -> core.NodeStatus:
        """The status to show, with the transition times of `node` where a condition is as it was."""
        identity = self._identity
        capacity, allocatable = machine.resources(identity.root_dir, PODS)
        # What somebody else says that the node has, pods can have.
        extended = {name: amount for name, amount in node.status.capacity.items() if name not in capacity}
        addresses = [core.NodeAddress(type="InternalIP", address=str(ip)) for ip in identity.node_ips]
        addresses.append(core.NodeAddress(type="Hostname", address=identity.name))
        conditions = [*machine.pressures(identity.root_dir), self._ready()]
        before = {condition.type: condition for condition in node.status.conditions}
        for condition in conditions:
            condition.last_heartbeat_time = times.now()
            old = before.get(condition.type)
            kept = old.last_transition_time if old is not None and old.status == condition.status else None
            condition.last_transition_time = kept or condition.last_heartbeat_time
        return core.NodeStatus(
            capacity=capacity | extended,
            allocatable=allocatable | extended,
            conditions=conditions,
            addresses=addresses,
            daemon_endpoints=core.NodeDaemonEndpoints(kubelet_endpoint=core.DaemonEndpoint(port=identity.port)),
            node_info=machine.info(identity.runtime),
            images=_shown(self._images()),
            runtime_handlers=[core.NodeRuntimeHandler(features=self._handler())],
            declared_features=machine.FEATURES,
            features=_FEATURES,
        )

    def _handler(self) -> dict[str, bool]:
        return {"recursiveReadOnlyMounts": self._identity.recursive_read_only, "userNamespaces": False}

    def _ready(self) -> Condition:
        problem = self._problem()
        if problem is None:
            message = "kubelet is posting ready status"
            return Condition(type="Ready", status="True", reason="KubeletReady", message=message)
        message = (
            f"container runtime network not ready: NetworkReady=false reason:{problem.reason} message:{problem.message}"
        )
        return Condition(type="Ready", status="False", reason="KubeletNotReady", message=message)

    async def _renew(self, node: core.Node) -> None:
        name = self._identity.name
        if self._lease is None:
            self._lease = await self._first_lease(node)
            return
        self._lease.spec.renew_time = times.micro_now()
        try:
            self._lease = await self._client.update(LEASES, self._lease)
        except StatusError as error:
            self._lease = None  # look again next time
            if error.code not in (404, 409):
                raise
            log.info("lease of node %s: %s", name, error)

    async def _first_lease(self, node: core.Node) -> Lease:
        name = self._identity.name
        now = times.micro_now()
        try:
            lease = await self._client.get(LEASES, name, LEASE_NAMESPACE)
            lease.spec.holder_identity, lease.spec.renew_time = name, now
            return await self._client.update(LEASES, lease)
        except StatusError as error:
            if error.code != 404:
                raise
        owner = OwnerReference(api_version="v1", kind="Node", name=name, uid=node.metadata.uid)
        spec = LeaseSpec(holder_identity=name, lease_duration_seconds=LEASE_SECONDS, renew_time=now)
        meta = ObjectMeta(name=name, namespace=LEASE_NAMESPACE, owner_references=[owner])
        return await self._client.create(LEASES, Lease(metadata=meta, spec=spec))


def _shown(images: list[Image]) -> list[core.ContainerImage]:
    """As kubelet shows them: no more than fifty, the largest first, of each no more than five names."""
    largest = sorted((image for image in images if image.names), key=lambda image: (-image.size, image.names))
    return [
        core.ContainerImage(names=[*image.digests, *image.names][:NAMES], size_bytes=image.size)
        for image in largest[:IMAGES]
    ]


def status_patch(node: core.Node, wanted: core.NodeStatus, *, beat: bool) -> JSON | None:
    """A strategic merge patch from the Node's status to the wanted one; None when it is right and not due.

    Addresses are replaced as a whole: their merge key is the type, which cannot hold an InternalIP a family.
    """
    known = node.status
    status: JSON = {}
    for field, name in (
        ("capacity", "capacity"),
        ("allocatable", "allocatable"),
        ("daemon_endpoints", "daemonEndpoints"),
        ("node_info", "nodeInfo"),
        ("images", "images"),
        ("runtime_handlers", "runtimeHandlers"),
        ("declared_features", "declaredFeatures"),
        ("features", "features"),
    ):
        if getattr(known, field) != getattr(wanted, field):
            status[name] = getattr(wanted, field)
    if "allocatable" in status:
        status["allocatable"] = dict.fromkeys(known.allocatable) | wanted.allocatable  # what is gone becomes null
    if known.addresses != wanted.addresses:
        status["addresses"] = [{"$patch": "replace"}, *wanted.addresses]
    before = {condition.type: _said(condition) for condition in known.conditions}
    changed = [condition for condition in wanted.conditions if before.get(condition.type) != _said(condition)]
    if changed or beat:
        status["conditions"] = wanted.conditions  # those that did not change bear a new heartbeat
    return {"status": status} if status else None


def _said(condition: Condition) -> tuple[str, str, str]:
    return condition.status, condition.reason, condition.message
