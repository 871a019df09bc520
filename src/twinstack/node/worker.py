"""One pod on this node, from its first sight to its end: carries out what `lifecycle` plans.

`sync` never waits for a container to end or a pause to pass: it does what can be done now and says when to
call it again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twinstack.api import core
from twinstack.api.errors import StatusError
from twinstack.api.meta import Object
from twinstack.client.rest import Client
from twinstack.ip import IPFamily
from twinstack.node import environment, lifecycle, pods, security, volumes
from twinstack.node.environment import Addresses, ConfigError, Source
from twinstack.node.leases import NoFreeAddress
from twinstack.node.lifecycle import Plan, Start, View, Waiting
from twinstack.node.network import PodNetwork, order_by_family
from twinstack.node.runtime.base import (
    Container,
    ContainerConfig,
    ContainerKey,
    ImageError,
    Phase,
    Runtime,
    SandboxConfig,
    StartError,
)

STEPS = 20  # of a pod in one go: one for the sandbox, one for each init container that is quick
RETRY = 10.0  # seconds until what is missing is looked for again
SHORTEST_GRACE = 1.0  # seconds for a pod that vanished from the API
TERMINATION_LOG = "/dev/termination-log"

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Where events go (client.events.EventRecorder)."""

    def event(self, obj: Object, type: str, reason: str, message: str) -> None: ...  # noqa: A002


class NodeContext(NamedTuple):
    """What all pods of a node share. `services` gives those whose variables containers get."""

    client: Client
    runtime: Runtime
    network: PodNetwork
    recorder: Recorder
    node_name: str
    node_ips: Sequence[str]
    primary: IPFamily
    cluster_dns: Sequence[str]
    cluster_domain: str
    node_resolver: str
    node_hosts: str
    services: Callable[[], list[core.Service]]


class Outcome(NamedTuple):
    """What a step came to. `gone`: nothing is left of the pod here, its object may go too."""

    status: core.PodStatus | None
    wake_at: float | None = None
    gone: bool = False
    settled: bool = True  # else more is about to follow: the status can wait for it


class PodWorker:
    """One pod, named by its uid. Not to be called twice at the same time."""

    def __init__(self, context: NodeContext, uid: str) -> None:
        self._node = context
        self._uid = uid
        self._backoff = lifecycle.Backoff()
        self._volumes = volumes.Volumes(context.client, context.runtime.volumes_directory(uid))
        self._refused: dict[str, Waiting] = {}  # containers that cannot be made as they are described
        self._retry_at: float | None = None
        self._stop_until: float | None = None  # when what has been asked to stop is killed
        self._told: set[tuple[str, str]] = set()  # refusals that an event has told of
        self._paused: set[ContainerKey] = set()  # runs whose pause an event has told of
        self._stopped = False
        self._seen = False
        for container in context.runtime.containers(uid):
            self._backoff.remember(container)

    async def sync(self, pod: core.Pod) -> Outcome:
        """Bring the pod forward. Raises OSError or StatusError; then call again later."""
        if pod.metadata.deletion_timestamp is not None:
            return await self._terminate(pod)
        if not self._seen:
            self._seen = True
            self._tell_ignored(pod)
        now = time.time()
        if self._volumes.renew_at is not None and now >= self._volumes.renew_at:
            await self._volumes.prepare(pod, self._addresses(pod))
        self._refused.clear()
        self._retry_at = None
        plan = Plan()
        for _ in range(STEPS):
            plan = lifecycle.plan(pod, self._view(pod), self._backoff, time.time())
            if plan.finished:
                return await self._finish(pod, plan)
            if plan.needs_sandbox:
                if not await self._make_sandbox(pod):
                    break
            elif not await self._start_all(pod, plan):
                break
        for name in plan.waiting:
            self._tell_pause(pod, name)
        status = self._status(pod, waiting=dict(plan.waiting) | self._refused)
        times = [t for t in (plan.wake_at, self._retry_at, self._volumes.renew_at) if t is not None]
        return Outcome(status, min(times, default=None))

    def starting(self, pod: core.Pod) -> core.PodStatus | None:
        """What to show of a new pod if its start takes long; None for one that has been here for a while."""
        if pod.metadata.deletion_timestamp is not None or pod.status.start_time or self._seen:
            return None
        return self._status(pod)

    async def remove(self) -> Outcome:
        """For a pod that the API no longer has: stop it and leave nothing."""
        wake_at = self._stop(SHORTEST_GRACE)
        if wake_at is not None:
            return Outcome(None, wake_at)
        await self._clear()
        return Outcome(None, gone=True)

    async def _terminate(self, pod: core.Pod) -> Outcome:
        """Graceful deletion: SIGTERM, the grace period, SIGKILL, and no trace."""
        running = self._running()
        if running and self._stop_until is None:
            for container in running:
                self._event(pod, "Normal", "Killing", f"Stopping container {container.key.name}")
        grace = pod.metadata.deletion_grace_period_seconds
        wake_at = self._stop(float(grace) if grace is not None else 0.0)
        if wake_at is not None:
            return Outcome(self._status(pod), wake_at, settled=False)
        status = self._status(pod, ended=True)
        await self._clear()
        return Outcome(status, gone=True)

    async def _finish(self, pod: core.Pod, plan: Plan) -> Outcome:
        """A pod whose work is done, or that failed: stop what still runs; keep logs until it is deleted."""
        if self._running():
            grace = pod.spec.termination_grace_period_seconds
            wake_at = self._stop(float(grace) if grace is not None else 30.0)
            if wake_at is not None:
                return Outcome(self._status(pod, failure=plan.failure), wake_at)
        status = self._status(pod, ended=True, failure=plan.failure)
        if not self._stopped:
            await self._node.runtime.stop_sandbox(self._uid)
            await asyncio.to_thread(self._node.network.detach, self._uid)
            self._stopped = True
        return Outcome(status)

    def _stop(self, grace: float) -> float | None:
        """Ask everything to stop, and kill it when the grace is over; when to look again, None when all has stopped."""
        running = self._running()
        if not running:
            return None
        now = time.time()
        if self._stop_until is None:
            self._stop_until = now + grace
            for container in running:
                self._node.runtime.kill(container.key, signal.SIGTERM)
        self._stop_until = min(self._stop_until, now + grace)
        if now >= self._stop_until:
            for container in running:
                self._node.runtime.kill(container.key, signal.SIGKILL)
            return now + RETRY
        return self._stop_until

    async def _clear(self) -> None:
        await self._node.runtime.remove_sandbox(self._uid)
        await asyncio.to_thread(self._node.network.detach, self._uid)

    def _running(self) -> list[Container]:
        return [run for run in self._node.runtime.containers(self._uid) if run.phase is Phase.RUNNING]

    def _view(self, pod: core.Pod) -> View:
        runs: dict[str, list[Container]] = {}
        for run in self._node.runtime.containers(self._uid):
            runs.setdefault(run.key.name, []).append(run)
        since = self._node.runtime.sandbox_since(self._uid)
        if since and not pod.spec.host_network and not self._node.network.addresses(self._uid):
            since = 0.0
        return View(runs, since)

    def _addresses(self, pod: core.Pod) -> Addresses:
        if pod.spec.host_network:
            return Addresses(self._node.node_ips, self._node.node_ips)
        own = order_by_family(self._node.network.addresses(self._uid), self._node.primary)
        return Addresses([str(address) for address in own], self._node.node_ips)

    def _status(
        self,
        pod: core.Pod,
        *,
        waiting: dict[str, Waiting] | None = None,
        ended: bool = False,
        failure: Waiting | None = None,
    ) -> core.PodStatus:
        view, addresses = self._view(pod), self._addresses(pod)
        shown = addresses.pod if view.sandbox_since or pod.spec.host_network else []
        situation = pods.Situation(view, shown, addresses.host, ended, waiting or {}, failure)
        return pods.pod_status(pod, situation)

    async def _make_sandbox(self, pod: core.Pod) -> bool:
        """Volumes, network, namespaces; False when it has to wait."""
        node = self._node
        addresses = self._addresses(pod)
        if not pod.spec.host_network and not node.network.is_open:
            return False  # the agent calls again when it is
        problem = security.refused(pod)
        try:
            if problem:
                raise ConfigError(problem)
            await self._volumes.prepare(pod, addresses)
        except (volumes.UnsupportedVolume, ConfigError, StatusError) as error:
            permanent = isinstance(error, volumes.UnsupportedVolume) or bool(problem)
            self._refuse_all(pod, "FailedMount", str(error), retry=not permanent)
            return False
        network: str | None = None
        try:
            if node.runtime.containers(self._uid):
                await node.runtime.stop_sandbox(self._uid)  # what ran in a sandbox that is no more
            if not pod.spec.host_network:
                attachment = await asyncio.to_thread(node.network.attach, self._uid)
                network = str(attachment.namespace)
                addresses = self._addresses(pod)
            await node.runtime.create_sandbox(self._sandbox_config(pod, network, addresses))
        except (NoFreeAddress, OSError) as error:
            log.warning("sandbox of pod %s: %s", pod.key, error)
            self._refuse_all(pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}", retry=True)
            return False
        return True

    def _sandbox_config(self, pod: core.Pod, network: str | None, addresses: Addresses) -> SandboxConfig:
        node = self._node
        name = node.node_name if pod.spec.host_network else environment.hostname(pod)
        files = {
            "hosts": environment.hosts_file(pod, addresses.pod, node.cluster_domain, node.node_hosts),
            "hostname": f"{name}\n",
            "resolv.conf": environment.resolver_file(pod, node.cluster_dns, node.cluster_domain, node.node_resolver),
        }
        return SandboxConfig(self._uid, pod.key, name, network, files)

    async def _start_all(self, pod: core.Pod, plan: Plan) -> bool:
        """Start what the plan says; False when nothing more can be done now."""
        wanted = [start for start in plan.start if start.container.name not in self._refused]
        started = await asyncio.gather(*(self._start(pod, start) for start in wanted))
        return any(started)

    async def _start(self, pod: core.Pod, start: Start) -> bool:
        container, runtime = start.container, self._node.runtime
        key = ContainerKey(self._uid, container.name, start.attempt)
        try:
            runtime.check_image(container.image, container.image_pull_policy)
            config = await self._container_config(pod, container, key)
        except ImageError as error:
            self._refuse(pod, container, Waiting(error.reason, str(error)), retry=False)
            return False
        except ConfigError as error:
            self._refuse(pod, container, Waiting("CreateContainerConfigError", str(error)), retry=True)
            return False
        await self._forget_old(key)
        await runtime.create(config)
        try:
            await runtime.start(key)
        except StartError as error:
            self._event(pod, "Warning", "Failed", f"Error: {error}")
            return False  # its end has been noted, and leads here again
        self._event(pod, "Normal", "Started", f"Started container {container.name}")
        return True

    async def _forget_old(self, key: ContainerKey) -> None:
        """Keep the run before this one, for its log and exit code, and none older."""
        for run in self._node.runtime.containers(self._uid):
            if run.key.name != key.name:
                continue
            if run.key.attempt == key.attempt - 1:
                self._backoff.restarted(run, time.time())
            elif run.key.attempt < key.attempt - 1:
                await self._node.runtime.remove(run.key)

    async def _container_config(self, pod: core.Pod, container: core.Container, key: ContainerKey) -> ContainerConfig:
        objects: dict[Source, dict[str, str] | None] = {}
        for source in environment.sources(container):
            objects[source] = await volumes.read_source(self._node.client, source, pod.metadata.namespace)
        services = self._node.services()
        values = environment.variables(pod, container, self._addresses(pod), services, objects)
        return ContainerConfig(
            key=key,
            image=container.image,
            command=environment.command(container, values),
            environment=values,
            working_directory=container.working_dir or "/",
            mounts=self._volumes.mounts(container),
            security=security.resolve(pod, container),
            termination_message_path=container.termination_message_path or TERMINATION_LOG,
        )

    def _refuse(self, pod: core.Pod, container: core.Container, waiting: Waiting, *, retry: bool) -> None:
        self._refused[container.name] = waiting
        self._tell_once(pod, "Failed", f"Error: {waiting.reason}: {waiting.message}")
        if retry:
            self._retry_at = time.time() + RETRY

    def _tell_once(self, pod: core.Pod, reason: str, message: str) -> None:
        if (reason, message) not in self._told:
            self._told.add((reason, message))
            self._event(pod, "Warning", reason, message)

    def _tell_pause(self, pod: core.Pod, name: str) -> None:
        """Once a pause, not once a look."""
        runs = [run.key for run in self._node.runtime.containers(self._uid) if run.key.name == name]
        if runs and runs[-1] not in self._paused:
            self._paused.add(runs[-1])
            meta = pod.metadata
            where = f"{meta.name}_{meta.namespace}({meta.uid})"
            self._event(pod, "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")

    def _refuse_all(self, pod: core.Pod, reason: str, message: str, *, retry: bool) -> None:
        self._tell_once(pod, reason, message)
        for container in pod.spec.init_containers + pod.spec.containers:
            default = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
            self._refused[container.name] = Waiting(default, message)
        if retry:
            self._retry_at = time.time() + RETRY

    def _tell_ignored(self, pod: core.Pod) -> None:
        names = security.ignored(pod)
        if names and pod.status.phase not in lifecycle.TERMINAL:
            self._event(pod, "Warning", "NotEnforced", f"accepted, but without effect on this node: {', '.join(names)}")

    def _event(self, pod: core.Pod, kind: str, reason: str, message: str) -> None:
        self._node.recorder.event(pod, kind, reason, message)
