"""The agent of one node: follows the pods that are bound to it, and the Nodes, and keeps both true.

Everything runs in one event loop; what blocks for longer than a moment runs in threads. On its end pods go on:
the next agent takes them up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from twinstack.api import core
from twinstack.api.errors import StatusError
from twinstack.api.kinds import NODES, PODS
from twinstack.client.events import EventRecorder
from twinstack.client.informer import Informer
from twinstack.client.rest import Client
from twinstack.client.workqueue import WorkQueue
from twinstack.ip import CIDR, Address
from twinstack.node import cleanup, machine, masquerade
from twinstack.node.context import NodeContext
from twinstack.node.hostports import HostPorts, forwards
from twinstack.node.images.pod import Images
from twinstack.node.lifecycle import TERMINAL, Waiting
from twinstack.node.listening.observer import Observer
from twinstack.node.network import Network, PodNetwork
from twinstack.node.podaddresses import PodAddresses
from twinstack.node.probes.prober import Prober
from twinstack.node.registration import PODS as PODS_A_NODE
from twinstack.node.registration import Identity, Registration
from twinstack.node.routes import NodeRoutes
from twinstack.node.runtime.base import Container, Runtime
from twinstack.node.servicelinks import ServiceLinks
from twinstack.node.sources import SourceReader
from twinstack.node.status import status_patch
from twinstack.node.worker import PodWorker

if TYPE_CHECKING:
    from twinstack.node.cni.network import PluginNetwork

WORKERS = 16  # pods worked on at once; none of them waits long
WRITERS = 4  # statuses written at once
PATIENCE = 0.1  # seconds that a status waits while more is about to follow
NETWORK_RETRY = 5.0

log = logging.getLogger(__name__)


class PluginSettings(NamedTuple):
    """Where CNI plugins and their configuration are, and where the service of our own one listens, if at all."""

    configurations: Path
    executables: Sequence[str]
    socket: Path | None


class Settings(NamedTuple):
    """What the agent is told when it starts."""

    node_name: str
    node_ips: list[Address]
    port: int
    root_dir: Path
    netns_prefix: str
    spared: list[CIDR]  # destinations towards which pods keep their address
    plugins: PluginSettings | None = None  # None: the built-in pod network
    cluster_dns: Sequence[str] = ()
    cluster_domain: str = "cluster.local"
    node_labels: Mapping[str, str] = {}
    pod_max_pids: int = -1  # processes that a pod may have
    refresh_period: float = 60.0  # seconds in which changed ConfigMaps and Secrets are shown


def _identity(settings: Settings, runtime: Runtime) -> Identity:
    return Identity(
        settings.node_name,
        settings.node_ips,
        settings.port,
        str(settings.root_dir),
        runtime.name,
        runtime.recursive_read_only,
        settings.node_labels,
    )


class Agent:
    """One node. `run` until cancelled."""

    def __init__(self, client: Client, settings: Settings, runtime: Runtime, images: Images) -> None:
        self.settings = settings
        self.runtime = runtime
        self._images = images
        self._client = client
        problem = "the Node has no podCIDRs yet"
        self._built_in: PodNetwork | None = None
        self._plugins: PluginNetwork | None = None
        self.network: Network
        if settings.plugins is None:
            self.network = self._built_in = PodNetwork(
                PodAddresses(settings.root_dir / "leases"), settings.netns_prefix
            )
        else:
            from twinstack.node.cni.following import NOT_INITIALIZED  # rarely needed
            from twinstack.node.cni.network import PluginNetwork

            path = settings.plugins.executables
            self.network = self._plugins = PluginNetwork(settings.root_dir / "cni", settings.netns_prefix, path)
            problem = NOT_INITIALIZED
        self._events = EventRecorder(client, "kubelet", settings.node_name)
        self._pod_informer = Informer(client, PODS, field_selector=f"spec.nodeName={settings.node_name}")
        self._node_informer = Informer(client, NODES)
        self._links = ServiceLinks(client)
        self._routes: NodeRoutes | None = None
        self._network_problem: Waiting | None = Waiting("NetworkPluginNotReady", problem)
        self._pod_cidrs: list[str] = []
        self.pods: dict[str, core.Pod] = {}  # by uid
        self._workers: dict[str, PodWorker] = {}
        self._wanted: dict[str, core.PodStatus] = {}
        self._queue = WorkQueue("pod")
        self._writes = WorkQueue("status")
        identity = _identity(settings, runtime)
        self._registration = Registration(
            client, self._node_informer, identity, lambda: self._network_problem, self._resync, images.store.images
        )
        images.puller.on_pulled = self._registration.changed
        self._host_ports = HostPorts(settings.node_ips)
        self.prober = Prober(runtime, self._events, self._queue.add)
        self.observer = Observer(self._queue.add)
        self._context = NodeContext(
            client=client,
            runtime=runtime,
            images=images,
            network=self.network,
            recorder=self._events,
            host_ports=self._host_ports,
            prober=self.prober,
            observer=self.observer,
            node_name=settings.node_name,
            node_ips=[str(address) for address in settings.node_ips],
            primary=settings.node_ips[0].family,
            cluster_dns=settings.cluster_dns,
            cluster_domain=settings.cluster_domain,
            node_resolver=_content("/etc/resolv.conf"),
            node_hosts=_content("/etc/hosts"),
            allocatable=machine.resources(str(settings.root_dir), PODS_A_NODE)[1],
            memory=machine.memory(),
            refresh_period=settings.refresh_period,
            pod_max_pids=settings.pod_max_pids,
            links=self._links.of,
            sources=SourceReader(client),
            neighbours=self._neighbours,
            changed=self._queue.add,
        )

    async def run(self) -> None:
        """For ever; cancel to stop. Containers go on."""
        cleanup.remember_namespace(self.settings.root_dir)
        self.runtime.open(self._on_exit)
        self._routes = NodeRoutes()
        if self._plugins is not None:
            masquerade.remove()  # plugins do as they like
        self._pod_informer.subscribe(self._on_pod)
        self._node_informer.subscribe(self._on_node)
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (
                    self._registration.run(),
                    self._node_informer.run(),
                    self._pod_informer.run(),
                    self._links.run(),
                    self._events.run(),
                    self.observer.run(),
                    self._queue.run(self._sync, workers=WORKERS),
                    self._writes.run(self._write_status, workers=WRITERS),
                    self._sweep(),
                ):
                    tasks.create_task(work)
                if self._plugins is not None:
                    tasks.create_task(self._run_plugins(self._plugins))
        finally:
            self.prober.close()
            for worker in self._workers.values():
                worker.close()
            self.runtime.close()
            self._images.puller.close()
            self.network.close()
            self._routes.close()

    def pod(self, namespace: str, name: str) -> core.Pod | None:
        """A pod of this node."""
        return self._pod_informer.objects.get(f"{namespace}/{name}")

    def container(self, namespace: str, name: str, container: str) -> tuple[core.Pod, list[Container]] | None:
        """A pod and the runs of one of its containers, older first; None when it is not on this node."""
        pod = self.pod(namespace, name)
        if pod is None:
            return None
        runs = [run for run in self.runtime.containers(pod.metadata.uid) if run.key.name == container]
        return pod, runs

    async def _sweep(self) -> None:
        """Once what should be is known, remove what is left of pods and Nodes that went while no agent ran."""
        await asyncio.gather(self._pod_informer.synced(), self._node_informer.synced(), self._links.synced())
        self._resync()
        if self._routes is not None:
            self._routes.sweep()
        if self._built_in is not None:
            self._open_host_ports()
        for uid in {*self.runtime.pods(), *self.network.pods()} - self.pods.keys():
            log.info("pod %s was deleted while no agent ran: removing what is left of it", uid)
            self._queue.add(uid)

    # --- what happens

    def _on_exit(self, container: Container) -> None:
        self._queue.add(container.key.pod_uid)

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self.pods.pop(old.metadata.uid, None)
            self._queue.add(old.metadata.uid)
        if new is not None:
            self.pods[new.metadata.uid] = new
            self._queue.add(new.metadata.uid)

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        name = self.settings.node_name
        node = new or old
        if node is None or self._routes is None:
            return
        if node.metadata.name != name:
            if self._plugins is not None:
                return  # the ways to other nodes are the plugins' affair
            if new is not None:
                self._routes.put(new)
            else:
                self._routes.drop(node.metadata.name)
            return
        self._registration.changed()
        if new is not None and new.spec.pod_cidrs and new.spec.pod_cidrs != self._pod_cidrs:
            self._open_network(new.spec.pod_cidrs)

    async def _run_plugins(self, network: PluginNetwork) -> None:
        """For ever."""
        from twinstack.node.cni import following, service

        assert self.settings.plugins is not None
        server = service.listen(self.settings.plugins.socket) if self.settings.plugins.socket else None
        try:
            await following.follow(network, self.settings.plugins.configurations, self._on_plugins)
        finally:
            if server is not None:
                server.close()

    def _on_plugins(self, problem: str) -> None:
        """Of the network, in words; empty when there is none."""
        self._network_problem = Waiting("NetworkPluginNotReady", problem) if problem else None
        log.info("pod network: %s", problem or "ready")
        self._registration.changed()
        self._resync()

    def _open_network(self, texts: list[str]) -> None:
        """Pods can run from now on; again when the Node was made anew with other podCIDRs."""
        try:
            cidrs = [CIDR.parse(text) for text in texts]
            if self._plugins is not None:
                self._plugins.give_ranges(cidrs)
            if self._built_in is None:
                self._pod_cidrs = texts
                return
            self._built_in.close()
            self._built_in.open(cidrs, self.settings.node_ips)
            masquerade.apply(cidrs, [*cidrs, *self.settings.spared])
        except (OSError, ValueError) as error:
            log.error("pod network: %s; again in %.0f s", error, NETWORK_RETRY)
            self._network_problem = Waiting("NetworkPluginNotReady", str(error))
            asyncio.get_running_loop().call_later(NETWORK_RETRY, self._open_network, texts)
            return
        self._pod_cidrs = texts
        self._network_problem = None
        log.info("pod network is ready: %s", ", ".join(texts))
        self._registration.changed()
        self._resync()

    def _open_host_ports(self) -> None:
        """Ports lead to the pods that an earlier agent left, and to no others."""
        found = {uid: forwards(pod, self.network.addresses(uid)) for uid, pod in self.pods.items()}
        try:
            self._host_ports.start(found)
        except OSError as error:
            log.error("ports of pods on this node: %s; again in %.0f s", error, NETWORK_RETRY)
            asyncio.get_running_loop().call_later(NETWORK_RETRY, self._open_host_ports)

    def _neighbours(self, uid: str) -> list[core.Pod]:
        """Pods that have been admitted before this one."""
        here = {other for other, worker in self._workers.items() if worker.admitted} | {*self.runtime.pods()}
        found = [self.pods[other] for other in here if other != uid and other in self.pods]
        return [self._holding(pod) for pod in found if pod.status.phase not in TERMINAL]

    def _holding(self, pod: core.Pod) -> core.Pod:
        worker = self._workers.get(pod.metadata.uid)
        return worker.holding(pod) if worker is not None else pod

    def _resync(self) -> None:
        """Work on everything now: what failed need not wait for its next turn."""
        for uid in self.pods:
            self._queue.add(uid)
            self._writes.add(uid)

    # --- work on one pod

    async def _sync(self, uid: str) -> None:
        pod = self.pods.get(uid)
        worker = self._workers.get(uid)
        if pod is None and not self._pod_informer.has_synced:
            return  # it may well exist
        if pod is not None and not self._links.has_synced:
            return  # no container starts without the variables of Services
        if pod is None and worker is None and uid not in {*self.runtime.pods(), *self.network.pods()}:
            return  # it went, and nothing is left
        if worker is None:
            worker = self._workers[uid] = PodWorker(self._context, uid)
        if pod is None:
            outcome = await worker.remove()
        else:
            self._announce(uid, worker.starting(pod), settled=False)
            outcome = await worker.sync(pod)
        self._announce(uid, outcome.status, settled=outcome.settled)
        if outcome.gone:
            await self._forget(uid, pod)
        elif outcome.wake_at is not None:
            self._queue.add(uid, delay=max(0.01, outcome.wake_at - time.time()))

    def _announce(self, uid: str, status: core.PodStatus | None, *, settled: bool) -> None:
        if status is not None:
            self._wanted[uid] = status
            self._writes.add(uid, delay=0.0 if settled else PATIENCE)

    async def _write_status(self, uid: str) -> None:
        pod, wanted = self.pods.get(uid), self._wanted.get(uid)
        if pod is None or wanted is None:
            return
        meta = pod.metadata
        patch = status_patch(uid, pod.status, wanted)
        if patch is None:
            return
        try:
            self._pod_informer.wrote(
                await self._client.patch(PODS, meta.name, meta.namespace, patch, subresource="status")
            )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            log.debug("status of pod %s: %s", pod.key, error)  # it is gone, or another has its name

    async def _forget(self, uid: str, pod: core.Pod | None) -> None:
        """Nothing is left of a pod here: let its object go. There is room for others."""
        for other, worker in self._workers.items():
            if worker.waits_for_room:
                self._queue.add(other)
        if pod is not None:
            await self._write_status(uid)
            try:
                await self._client.delete(PODS, pod.metadata.name, pod.metadata.namespace, uid=uid, grace_period=0)
            except StatusError as error:
                if error.code not in (404, 409):
                    raise
            self._pod_informer.removed(pod)
        self._workers.pop(uid, None)
        self._wanted.pop(uid, None)


def _content(path: str) -> str:
    """Empty when there is no such file."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""
