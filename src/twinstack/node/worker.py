"""One pod on this node, from its first sight to its end: carries out what `lifecycle` plans.

`sync` never waits for a container to end, a hook or a pause to pass: it does what can be done now and says when to
call it again; what goes on in the background asks for that itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import NamedTuple

from twinstack.api import core
from twinstack.ip import Address
from twinstack.node import environment, hostports, lifecycle, pods, resources, security, volumes
from twinstack.node.context import NodeContext
from twinstack.node.environment import Addresses, ConfigError
from twinstack.node.lifecycle import Plan, Stop, View, Waiting
from twinstack.node.listening import verdict
from twinstack.node.listening.observer import Target
from twinstack.node.network import order_by_family
from twinstack.node.podaddresses import NoFreeAddress
from twinstack.node.probes.actions import Subject
from twinstack.node.probes.state import Health, ProbeKind
from twinstack.node.reporting import Reporter
from twinstack.node.resizer import RETRY, Resizer
from twinstack.node.runtime.base import Container, ContainerKey, Phase, SandboxConfig
from twinstack.node.starting import Starter
from twinstack.node.termination import Termination, order

STEPS = 20  # of a pod in one go: one for the sandbox, one for each init container that is quick
SHORTEST_GRACE = 1.0  # seconds for a pod that vanished from the API

log = logging.getLogger(__name__)


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
        self._pod: core.Pod | None = None  # as it was last seen
        self._backoff = lifecycle.Backoff()
        directory = context.runtime.volumes_directory(uid)
        self._volumes = volumes.Volumes(
            context.client, context.sources, directory, context.refresh_period, context.allocatable
        )
        self._reporter = Reporter(context.recorder)
        self._starter = Starter(context, self._volumes, self._reporter, self._backoff, self._hook_failed)
        self._termination = Termination(context.runtime, self._hook_left)
        self._resizer = Resizer(context, uid, self._reporter)
        self._failed: dict[ContainerKey, ProbeKind] = {}  # runs that were stopped for a probe
        self._outdated: set[ContainerKey] = set()  # runs that were stopped because their image is another one now
        self._stopped = False
        self.admitted = False
        self._rejected: Waiting | None = None  # why it may not run here
        for container in context.runtime.containers(uid):
            self._backoff.remember(container)

    def close(self) -> None:
        """Leave the pod to the next agent."""
        self._starter.abandon()
        self._termination.close()

    async def sync(self, pod: core.Pod) -> Outcome:
        """Bring the pod forward. Raises OSError or StatusError; then call again later."""
        first, self._pod = self._pod is None, pod
        if pod.metadata.deletion_timestamp is not None:
            pod = self.holding(pod)
            self._follow_probes(pod)
            return await self._terminate(pod)
        if first:
            self._admit(pod)
            self._tell_ignored(pod)
        pod = self._resizer.allocate(pod)
        if self._volumes.is_stale(pod) or (first and self._view(pod).sandbox_since):
            await self._refresh_volumes(pod)
        self._starter.begin_look()
        plan = Plan()
        for _ in range(STEPS):
            self._follow_probes(pod)
            plan = lifecycle.plan(pod, self._view(pod), self._backoff, time.time())
            if self._rejected is not None:
                plan = Plan(finished=True, failure=self._rejected)
            if plan.finished:
                return await self._finish(pod, plan)
            for stop in plan.stop:
                self._stop_unhealthy(pod, stop)
            for stop in lifecycle.outdated(pod, self._view(pod)):
                self._outdated.add(stop.run.key)
                self._stop_to_replace(pod, stop)
            for stop in await self._resizer.apply(pod, self._view(pod)):
                self._stop_to_replace(pod, stop)
            if plan.needs_sandbox:
                if not await self._make_sandbox(pod):
                    break
            elif not await self._starter.start_all(pod, plan.start, self._addresses(pod)):
                break
        self._follow_listening(pod)
        for name in plan.waiting:
            self._reporter.pause(pod, self._latest(name))
        status = self._status(pod, waiting=dict(plan.waiting) | self._starter.refused)
        again = time.time() + RETRY if self._resizer.retry else None
        times = [t for t in (plan.wake_at, self._starter.retry_at, self._volumes.look_at, again) if t is not None]
        return Outcome(status, min(times, default=None))

    def holding(self, pod: core.Pod) -> core.Pod:
        """The pod with the resources that it has, which may be others than it wants."""
        return self._resizer.holding(pod)

    @property
    def waits_for_room(self) -> bool:
        """Whether its containers will get other resources once the node has them."""
        return self._resizer.retry

    def starting(self, pod: core.Pod) -> core.PodStatus | None:
        """What to show of a new pod if its start takes long; None for one that has been here for a while."""
        if pod.metadata.deletion_timestamp is not None or pod.status.start_time or self._pod is not None:
            return None
        return self._status(pod)

    async def remove(self) -> Outcome:
        """For a pod that the API no longer has: stop it and leave nothing."""
        if self._stop_all(self._pod, SHORTEST_GRACE):
            return Outcome(None)
        await self._clear()
        return Outcome(None, gone=True)

    async def _terminate(self, pod: core.Pod) -> Outcome:
        """Graceful deletion: hooks, signals, the grace period, SIGKILL, and no trace."""
        grace = pod.metadata.deletion_grace_period_seconds
        if self._stop_all(pod, float(grace) if grace is not None else 0.0):
            return Outcome(self._status(pod), settled=False)
        status = self._status(pod, ended=True)
        await self._clear()
        return Outcome(status, gone=True)

    async def _finish(self, pod: core.Pod, plan: Plan) -> Outcome:
        """A pod whose work is done, or that failed: stop what still runs; keep logs until it is deleted."""
        if self._stop_all(pod, lifecycle.grace_of(pod)):
            return Outcome(self._status(pod, failure=plan.failure))
        status = self._status(pod, ended=True, failure=plan.failure)
        if not self._stopped:
            await self._node.runtime.stop_sandbox(self._uid)
            await self._leave_network()
            self._stopped = True
        return Outcome(status)

    # --- stopping

    def _stop_all(self, pod: core.Pod | None, grace: float) -> bool:
        """Stop what runs, or go on with it; whether anything does."""
        running = self._running()
        self._starter.abandon()
        waits = order(pod, running) if pod is not None else {}
        for run in running:
            subject = self._subject(pod, run.key) if pod is not None else None
            begun = self._termination.begin(run.key, grace, subject=subject, after=waits.get(run.key, ()))
            if begun and pod is not None:
                text = f"Stopping container {run.key.name}"
                self._reporter.event(pod, "Normal", "Killing", text, run.key.name)
        return bool(running)

    def _stop_unhealthy(self, pod: core.Pod, stop: Stop) -> None:
        key = stop.run.key
        self._failed[key] = self._node.prober.health(key).failed or ProbeKind.LIVENESS
        if self._termination.begin(key, stop.grace, subject=self._subject(pod, key)):
            self._reporter.event(pod, "Normal", "Killing", stop.message, key.name)

    def _stop_to_replace(self, pod: core.Pod, stop: Stop) -> None:
        key = stop.run.key
        self._backoff.forget(key.name)
        if self._termination.begin(key, stop.grace, subject=self._subject(pod, key)):
            self._reporter.event(pod, "Normal", "Killing", stop.message, key.name)

    def _hook_failed(self, pod: core.Pod, subject: Subject) -> None:
        """After postStart."""
        if self._termination.begin(subject.key, lifecycle.grace_of(pod), subject=subject):
            self._reporter.event(pod, "Normal", "Killing", "FailedPostStartHook", subject.key.name)

    def _hook_left(self, key: ContainerKey) -> None:
        """After preStop."""
        if self._pod is not None:
            self._reporter.event(self._pod, "Warning", "FailedPreStopHook", "PreStopHook failed", key.name)

    def _subject(self, pod: core.Pod, key: ContainerKey) -> Subject | None:
        address = next(iter(self._addresses(pod).pod), "")
        for container in pod.all_containers:
            if container.name == key.name:
                return Subject(key, container, address)
        return None

    async def _clear(self) -> None:
        for run in self._node.runtime.containers(self._uid):
            self._node.prober.forget(run.key)
        self._node.prober.forget_pod(self._uid)
        await self._node.runtime.remove_sandbox(self._uid)
        await self._leave_network()

    async def _leave_network(self) -> None:
        self._node.observer.forget(self._uid)
        self._node.host_ports.drop(self._uid)
        await asyncio.to_thread(self._node.network.detach, self._uid)

    # --- what there is

    def _running(self) -> list[Container]:
        return [run for run in self._node.runtime.containers(self._uid) if run.phase is Phase.RUNNING]

    def _latest(self, name: str) -> ContainerKey:
        return [run.key for run in self._node.runtime.containers(self._uid) if run.key.name == name][-1]

    def _follow_probes(self, pod: core.Pod) -> None:
        """Probe what runs, once its postStart hook is through, and nothing else."""
        by_name = {container.name: container for container in pod.spec.init_containers + pod.spec.containers}
        address = next(iter(self._addresses(pod).pod), "")
        for run in self._node.runtime.containers(self._uid):
            container = by_name.get(run.key.name)
            if run.phase is Phase.EXITED:
                self._node.prober.forget(run.key)
            elif run.phase is Phase.RUNNING and container is not None and run.key not in self._starter.starting:
                self._node.prober.follow(pod, container, run, address)

    def _follow_listening(self, pod: core.Pod) -> None:
        """Look at the sockets of a pod that has a network and declares ports."""
        ports, node = verdict.declared(pod), self._node
        texts = self._addresses(pod).pod if self._view(pod).sandbox_since else ()
        if not ports or not texts:
            return
        path = Path("/proc/self/ns/net") if pod.spec.host_network else node.network.path(self._uid)
        signs = {run.key.id + str(node.prober.health(run.key)) for run in self._running()}
        addresses = tuple(map(Address.parse, texts))
        node.observer.follow(self._uid, Target(path, addresses, ports, frozenset(signs)))

    def _view(self, pod: core.Pod) -> View:
        runs: dict[str, list[Container]] = {}
        health: dict[ContainerKey, Health] = {}
        for run in self._node.runtime.containers(self._uid):
            runs.setdefault(run.key.name, []).append(run)
            failed = self._failed.get(run.key)
            health[run.key] = self._node.prober.health(run.key) if failed is None else Health(failed=failed)
        since = self._node.runtime.sandbox_since(self._uid)
        if since and not pod.spec.host_network and not self._node.network.addresses(self._uid):
            since = 0.0
        return View(runs, since, health, self._starter.starting, frozenset(self._resizer.replaced | self._outdated))

    def _addresses(self, pod: core.Pod) -> Addresses:
        if pod.spec.host_network:
            return Addresses(pods.host_network_ips(pod, self._node.node_ips), self._node.node_ips)
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
        listening = self._node.observer.findings(self._uid)
        resized = self._resizer.told(pod)
        situation = pods.Situation(
            *(view, shown, addresses.host, ended, waiting or {}, failure, listening, resized),
            recursive_read_only=self._node.runtime.recursive_read_only,
        )
        return pods.pod_status(pod, situation)

    # --- the sandbox

    async def _make_sandbox(self, pod: core.Pod) -> bool:
        """Volumes, network, namespaces; False when it has to wait."""
        node = self._node
        addresses = self._addresses(pod)
        if not pod.spec.host_network and not node.network.is_open:
            return False  # the agent calls again when it is
        problem = security.refused(pod)
        if problem:
            self._refuse_all(pod, "FailedMount", problem, retry=False)
            return False
        if node.runtime.containers(self._uid):
            await node.runtime.stop_sandbox(self._uid)  # what ran in a sandbox that is no more
        attaching = asyncio.create_task(self._attach(pod))  # while the volumes ask the API for what they show
        mounted = False
        try:
            await self._volumes.prepare(pod, addresses)
            mounted = True
        except (volumes.UnsupportedVolume, volumes.MountError, ConfigError) as error:
            permanent = not isinstance(error, volumes.MountError)
            self._refuse_all(pod, "FailedMount", str(error), retry=not permanent)
            return False
        finally:
            if not mounted:
                await asyncio.gather(attaching, return_exceptions=True)
                await self._leave_network()
        try:
            network = await attaching
            await node.runtime.create_sandbox(self._sandbox_config(pod, network, self._addresses(pod)))
        except (NoFreeAddress, ConfigError, OSError) as error:
            log.warning("sandbox of pod %s: %s", pod.key, error)
            self._refuse_all(pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}", retry=True)
            return False
        return True

    async def _attach(self, pod: core.Pod) -> str | None:
        """The pod's network namespace; None for the node's own. Raises NoFreeAddress, OSError."""
        if pod.spec.host_network:
            return None
        node = self._node
        attachment = await asyncio.to_thread(node.network.attach_pod, pod)
        if attachment.link:
            node.host_ports.put(self._uid, hostports.forwards(pod, attachment.addresses), attachment.link)
        return str(attachment.namespace)

    def _sandbox_config(self, pod: core.Pod, network: str | None, addresses: Addresses) -> SandboxConfig:
        node = self._node
        name = environment.hostname(pod, node.cluster_domain, node.node_name)
        if environment.lacks_cluster_dns(pod, node.cluster_dns):
            self._reporter.once(pod, "Warning", "MissingClusterDNS", environment.missing_cluster_dns(pod))
        files = {
            "hosts": environment.hosts_file(pod, addresses.pod, node.cluster_domain, node.node_hosts),
            "hostname": f"{name}\n",
            "resolv.conf": environment.resolver_file(pod, node.cluster_dns, node.cluster_domain, node.node_resolver),
        }
        return SandboxConfig(
            *(self._uid, pod.key, name, network, files),
            sysctls=security.sysctls(pod),
            share_processes=bool(pod.spec.share_process_namespace),
            host_processes=pod.spec.host_pid,
            host_ipc=pod.spec.host_ipc,
            limits=resources.pod_limits(pod, node.pod_max_pids),
        )

    async def _refresh_volumes(self, pod: core.Pod) -> None:
        try:
            await self._volumes.refresh(pod, self._addresses(pod))
        except volumes.MountError as error:
            self._reporter.once(pod, "Warning", "FailedMount", str(error))

    def _refuse_all(self, pod: core.Pod, reason: str, message: str, *, retry: bool) -> None:
        self._reporter.once(pod, "Warning", reason, message)
        pause = self._starter.next_pause() if retry else None
        for container in pod.all_containers:
            default = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
            self._starter.refuse(container.name, Waiting(default, message), pause)

    def _admit(self, pod: core.Pod) -> None:
        """Refuse a new pod whose ports another pod has, or that wants what is not its own; kubelet's words."""
        new = pod.status.phase not in lifecycle.TERMINAL and not self._node.runtime.sandbox_since(self._uid)
        reason, text = "", security.forbidden_sysctl(pod) if new else ""
        if text:
            reason = "SysctlForbidden"
        elif new and hostports.conflict(pod, self._node.neighbours(self._uid)):
            reason = "NodePorts"
            text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        self.admitted = not reason
        if reason:
            self._rejected = Waiting(reason, f"Pod was rejected: {text}")
            self._reporter.event(pod, "Warning", reason, text)

    def _tell_ignored(self, pod: core.Pod) -> None:
        names = security.ignored(pod, self._node.runtime.limited)
        if names and pod.status.phase not in lifecycle.TERMINAL:
            text = f"accepted, but without effect on this node: {', '.join(names)}"
            self._reporter.event(pod, "Warning", "NotEnforced", text)
