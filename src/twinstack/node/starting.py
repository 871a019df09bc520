"""Starts the containers of one pod: image, configuration, the start itself, the postStart hook."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinstack.api import core
from twinstack.node import environment, hooks, resources, security, volumes
from twinstack.node.context import NodeContext
from twinstack.node.environment import Addresses, ConfigError, Source, Surroundings
from twinstack.node.images.pod import PodImages
from twinstack.node.images.policy import Step
from twinstack.node.lifecycle import Backoff, Start, Waiting
from twinstack.node.probes.actions import Subject
from twinstack.node.reporting import Reporter
from twinstack.node.runtime.base import ContainerConfig, ContainerKey, CreateError, StartError
from twinstack.node.sources import Data

FIRST_RETRY, LONGEST_RETRY = 0.5, 10.0  # seconds until what is missing is looked for again; doubles
TERMINATION_LOG = "/dev/termination-log"

log = logging.getLogger(__name__)


class Starter:
    """Of one pod. `unhooked` is called with a run whose postStart hook failed: it has to go."""

    def __init__(
        self,
        node: NodeContext,
        own_volumes: volumes.Volumes,
        reporter: Reporter,
        backoff: Backoff,
        unhooked: Callable[[core.Pod, Subject], None],
    ) -> None:
        self._node = node
        self._volumes = own_volumes
        self._reporter = reporter
        self._backoff = backoff
        self._unhooked = unhooked
        self._images = PodImages(node.images, node.runtime, node.sources, reporter, node.changed)
        self._hooks: dict[ContainerKey, asyncio.Task[None]] = {}
        self.refused: dict[str, Waiting] = {}  # containers that cannot be made now, and why
        self.retry_at: float | None = None
        self._pause = FIRST_RETRY

    @property
    def starting(self) -> frozenset[ContainerKey]:
        """Runs whose postStart hook is at work."""
        return frozenset(self._hooks)

    def begin_look(self) -> None:
        """Forget what was refused before: it is tried again."""
        self.refused.clear()
        self.retry_at = None

    def abandon(self) -> None:
        """No postStart hook and no pull of an image goes on: the pod ends."""
        self._images.close()
        for task in self._hooks.values():
            task.cancel()

    async def start_all(self, pod: core.Pod, starts: Sequence[Start], addresses: Addresses) -> bool:
        """False when nothing more can be done now. Raises OSError, StatusError."""
        wanted = [start for start in starts if start.container.name not in self.refused]
        started = await asyncio.gather(*(self._start(pod, start, addresses) for start in wanted))
        return any(started)

    async def _start(self, pod: core.Pod, start: Start, addresses: Addresses) -> bool:
        container, runtime = start.container, self._node.runtime
        key = ContainerKey(pod.metadata.uid, container.name, start.attempt)
        if not await self._ensure_image(pod, container, key):
            return False
        try:
            config = await self._config(pod, container, key, addresses)
        except ConfigError as error:
            self.refuse(container.name, Waiting("CreateContainerConfigError", str(error)), self.next_pause())
            self._reporter.once(pod, "Warning", "Failed", f"Error: {error}", container.name)
            return False
        await self._images.hold(pod, container)
        await self._forget_old(key)
        try:
            await runtime.create(config)
        except CreateError as error:
            self.refuse(container.name, Waiting("CreateContainerError", str(error)), self.next_pause())
            self._reporter.once(pod, "Warning", "Failed", f"Error: {error}", container.name)
            return False
        self._reporter.event(pod, "Normal", "Created", "Container created", container.name)
        try:
            await runtime.start(key)
        except StartError as error:
            self._reporter.event(pod, "Warning", "Failed", f"Error: {error}", container.name)
            return False  # its end has been noted, and leads here again
        self._pause = FIRST_RETRY
        self._reporter.event(pod, "Normal", "Started", "Container started", container.name)
        hook = (container.lifecycle or {}).get("postStart")
        if hook:
            subject = Subject(key, container, next(iter(addresses.pod), ""))
            self._hooks[key] = asyncio.create_task(self._run_hook(pod, subject, hook))
        return True

    async def _ensure_image(self, pod: core.Pod, container: core.Container, key: ContainerKey) -> bool:
        verdict = await self._images.ensure(pod, container, key)
        if verdict.step is Step.START:
            return True
        reason = verdict.reason or ("PodInitializing" if pod.spec.init_containers else "ContainerCreating")
        retry = None if verdict.wake_at is None else max(0.0, verdict.wake_at - time.time())
        self.refuse(container.name, Waiting(reason, verdict.message), retry)
        return False

    def next_pause(self) -> float:
        """Until what is missing is looked for again: longer each time until something starts."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_RETRY)
        return pause

    def refuse(self, name: str, waiting: Waiting, retry: float | None) -> None:
        """Note why a container cannot be made; `retry`: in how many seconds it may, None for never."""
        self.refused[name] = waiting
        if retry is not None:
            self.retry_at = min(self.retry_at or float("inf"), time.time() + retry)

    async def _run_hook(self, pod: core.Pod, subject: Subject, hook: Mapping[str, Any]) -> None:
        try:
            work = asyncio.ensure_future(hooks.run(hook, subject, self._node.runtime))
            ended = asyncio.ensure_future(self._node.runtime.wait(subject.key))
            try:
                await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
            finally:
                work.cancel()
                ended.cancel()
        except (hooks.HookError, TimeoutError) as error:
            log.warning("postStart hook of container %s of pod %s: %s", subject.key.name, pod.key, error)
            # What went wrong may hold secrets.
            self._reporter.event(pod, "Warning", "FailedPostStartHook", "PostStartHook failed", subject.key.name)
            self._unhooked(pod, subject)
        finally:
            del self._hooks[subject.key]
            self._node.changed(pod.metadata.uid)

    async def _forget_old(self, key: ContainerKey) -> None:
        """Keep the run before this one, for its log and exit code, and none older."""
        for run in self._node.runtime.containers(key.pod_uid):
            if run.key.name != key.name:
                continue
            if run.key.attempt == key.attempt - 1:
                self._backoff.restarted(run, time.time())
            elif run.key.attempt < key.attempt - 1:
                await self._node.runtime.remove(run.key)

    async def _config(
        self, pod: core.Pod, container: core.Container, key: ContainerKey, addresses: Addresses
    ) -> ContainerConfig:
        """Raises ConfigError, StatusError."""
        node = self._node
        objects: dict[Source, dict[str, str] | None] = {}
        for source in environment.sources(container):
            data = await node.sources.read(source, pod.metadata.namespace)
            objects[source] = None if data is None else _as_text(data)
        name = environment.hostname(pod, node.cluster_domain, node.node_name)
        around = Surroundings(addresses, name, node.links(pod), objects, node.allocatable)
        values = environment.variables(pod, container, around)
        return ContainerConfig(
            key=key,
            image=container.image,
            command=environment.words(container.command, values),
            arguments=environment.words(container.args, values),
            environment=values,
            working_directory=container.working_dir,
            mounts=self._volumes.mounts(pod, container, values, recursive_read_only=node.runtime.recursive_read_only),
            security=security.resolve(pod, container, node.runtime.image_user(container.image)),
            termination_message_path=container.termination_message_path or TERMINATION_LOG,
            limits=resources.limits(pod, container),
            oom_score_adj=resources.oom_score_adj(pod, container, node.memory),
            last_words_from_log=container.termination_message_policy == "FallbackToLogsOnError",
            stdin=container.stdin,
            stdin_once=container.stdin and container.stdin_once,
            tty=container.tty,
            target=self._target(pod, container),
        )

    def _target(self, pod: core.Pod, container: core.Container) -> ContainerKey | None:
        """Whose processes an ephemeral container is to see. Raises ConfigError."""
        name = container.target_container_name if isinstance(container, core.EphemeralContainer) else ""
        if not name:
            return None
        runs = [run.key for run in self._node.runtime.containers(pod.metadata.uid) if run.key.name == name]
        if not runs:
            raise ConfigError(f"unable to find target container {name}")
        return runs[-1]


def _as_text(data: Data) -> dict[str, str]:
    """For variables, which hold any bytes, but nothing of a ConfigMap's binaryData."""
    texts = (item for item in data.values.items() if item[0] not in data.binary)
    return {key: value.decode(errors="surrogateescape") for key, value in texts}
