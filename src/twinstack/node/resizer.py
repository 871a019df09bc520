"""Gives the containers of one pod other resources while they run: carries out what `resizing` finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twinstack.api import core
from twinstack.api.meta import Condition
from twinstack.node import resizing, resources
from twinstack.node.context import NodeContext
from twinstack.node.lifecycle import Stop, View, Waiting, grace_of
from twinstack.node.reporting import Reporter
from twinstack.node.resizing import Resizing, Resources
from twinstack.node.runtime.base import Container, ContainerKey, Limits, Phase, UpdateError

RETRY = 15.0  # seconds until room on the node, or less use of memory, is looked for again


class _Update(NamedTuple):
    """Of a container, or without one of the pod as a whole."""

    container: core.Container | None
    key: ContainerKey
    limits: Limits
    before: Limits


class Resizer:
    """Of one pod."""

    def __init__(self, node: NodeContext, uid: str, reporter: Reporter) -> None:
        self._node = node
        self._uid = uid
        self._reporter = reporter
        self._allocated: dict[str, Resources] = {}  # by container
        self._actual: dict[ContainerKey, Resources] = {}
        self._whole: dict[str, Resources] = {}  # what the pod has as such, under its name
        self._adopted: dict[str, Resources] | None = None  # what runs of an earlier agent have
        self._generation = 0  # of the pod when that was allocated
        self._pending: Waiting | None = None
        self._judged = 0  # the generation that is pending
        self._moving = False
        self._error = ""
        self.replaced: set[ContainerKey] = set()  # runs that end to be made anew

    @property
    def retry(self) -> bool:
        """Whether something waits for better times."""
        return bool(self._error) or (self._pending is not None and self._pending.reason == resizing.DEFERRED)

    def holding(self, pod: core.Pod) -> core.Pod:
        """The pod with what is allocated to it."""
        return resizing.with_resources(pod, self._allocated)

    def allocate(self, pod: core.Pod) -> core.Pod:
        """Give the pod what it wants if the node has it; the pod with what it has then."""
        wanted = resizing.wanted(pod)
        if self._adopted is None:
            self._adopted = resizing.reported(pod)
            self._allocated = dict(self._adopted)
            self._whole = {name: held for name, held in self._adopted.items() if name == resizing.WHOLE}
        if wanted == self._allocated:
            self._pending = None
            return pod
        if any(resizing.changes(wanted[name], self._allocated.get(name, {})) for name in wanted):
            refused = resizing.refusal(pod, self._node.neighbours(self._uid), self._node.allocatable)
            if refused is not None:
                self._wait(pod, refused)
                return self.holding(pod)
            self._generation = pod.metadata.generation
            self._moving, self._error = True, ""
            self._tell(pod, "Normal", "ResizeStarted", "started")
        self._pending, self._allocated = None, wanted
        return pod

    def _wait(self, pod: core.Pod, refused: Waiting) -> None:
        if self._pending is None or self._pending.reason != refused.reason or self._judged != pod.metadata.generation:
            text = resizing.summary(pod, pod.metadata.generation, refused.message)
            what = f"Pod resize {refused.reason}: {text}"
            self._reporter.event(pod, "Warning", f"Resize{refused.reason}", what)
        self._pending, self._judged = refused, pod.metadata.generation

    async def apply(self, pod: core.Pod, view: View) -> list[Stop]:
        """Give what is allocated to the containers that run; returns those that have to be stopped for it."""
        runs = self._note(pod, view)
        if not self._moving:
            return []
        newest = {container.name: run.key.attempt for container, run in runs}
        self.replaced = {key for key in self.replaced if newest.get(key.name, 0) <= key.attempt}
        before = resizing.with_resources(pod, {key.name: held for key, held in self._actual.items()} | self._whole)
        held = {container.name: container for container in before.spec.init_containers + before.spec.containers}
        stops, updates = [], []
        for container, run in runs:
            changed = resizing.changes(container.resources, self._actual[run.key])
            limits, old = resources.limits(pod, container), resources.limits(before, held[container.name])
            if run.key in self.replaced:
                continue
            if resizing.needs_restart(container, changed):
                self.replaced.add(run.key)
                text = f"Container {container.name} resize requires restart"
                stops.append(Stop(container, run, text, grace_of(pod)))
            elif changed or limits != old:
                updates.append(_Update(container, run.key, limits, old))
        limits, old = (resources.pod_limits(each, self._node.pod_max_pids) for each in (pod, before))
        whole = _Update(None, ContainerKey(self._uid, resizing.WHOLE, 0), limits, old)
        error = resizing.memory_error(self._decreases(whole, updates)) or await self._update(pod, whole, updates)
        self._conclude(pod, error)
        return stops

    def _decreases(self, whole: _Update, updates: Sequence[_Update]) -> Iterator[tuple[str, int, int]]:
        """Of memory, below what is in use; a container that ends gives back what it has."""
        runtime = self._node.runtime
        for update in (*(() if self.replaced else (whole,)), *updates):
            limit = update.limits.memory
            if limit and (not update.before.memory or limit < update.before.memory):
                used = runtime.usage(update.key) if update.container else runtime.pod_usage(self._uid)
                if used is not None and used.memory > limit:
                    yield update.key.name, limit, used.memory

    async def _update(self, pod: core.Pod, whole: _Update, updates: Sequence[_Update]) -> str:
        """The pod as a whole has the more of before and after while its containers change."""
        runtime, name = self._node.runtime, ""
        try:
            if whole.limits != whole.before:
                await runtime.update_sandbox(self._uid, Limits(*map(max, whole.limits, whole.before)))
            for update in updates:
                assert update.container is not None
                name = update.container.name
                await runtime.update(update.key, update.limits)
                self._actual[update.key] = update.container.resources
            if not self.replaced:
                await runtime.update_sandbox(self._uid, whole.limits)
                self._whole = {resizing.WHOLE: pod.spec.resources or {}}
        except UpdateError as error:
            return f'failed to resize container "{name}": {error}' if name else f"failed to resize pod: {error}"
        return ""

    def _conclude(self, pod: core.Pod, error: str) -> None:
        if error:
            if error != self._error:
                self._tell(pod, "Warning", "ResizeError", "error", error)
            self._error = error
            return
        self._error = ""
        if not self.replaced:
            self._moving = False
            self._tell(pod, "Normal", "ResizeCompleted", "completed")

    def _note(self, pod: core.Pod, view: View) -> list[tuple[core.Container, Container]]:
        """The containers that run. A run has had since its start what was allocated then."""
        found = []
        adopted = self._adopted or {}
        for container in pod.spec.init_containers + pod.spec.containers:
            run = view.latest(container.name)
            if run is None or run.phase is not Phase.RUNNING:
                adopted.pop(container.name, None)
                continue
            self._actual.setdefault(run.key, adopted.pop(container.name, container.resources))
            found.append((container, run))
        current = {run.key for _, run in found}
        self._actual = {key: held for key, held in self._actual.items() if key in current}
        return found

    def told(self, pod: core.Pod) -> Resizing:
        """For the pod's status."""
        conditions = []
        if self._pending is not None:
            conditions.append(
                Condition(
                    type=resizing.PENDING,
                    status="True",
                    reason=self._pending.reason,
                    message=self._pending.message,
                    observed_generation=self._judged,
                )
            )
        if self._moving:
            conditions.append(
                Condition(
                    type=resizing.IN_PROGRESS,
                    status="True",
                    reason=resizing.ERROR if self._error else "",
                    message=self._error,
                    observed_generation=self._generation,
                )
            )
        return Resizing(tuple(conditions), dict(self._actual))

    def _tell(self, pod: core.Pod, kind: str, reason: str, what: str, error: str = "") -> None:
        text = resizing.summary(pod, self._generation, error)
        self._reporter.event(pod, kind, reason, f"Pod resize {what}: {text}")
