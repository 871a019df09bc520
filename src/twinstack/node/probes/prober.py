"""Probes the containers of a node in time, and knows what they came to.

A probe that waits is a timer of the event loop; a task exists only while it is carried out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator

from twinstack.api import core
from twinstack.node.probes import actions
from twinstack.node.probes.actions import Executor, Result, Subject
from twinstack.node.probes.state import Attempt, Count, Health, Probed, ProbeKind, specs
from twinstack.node.reporting import Recorder, container_path
from twinstack.node.runtime.base import Container, ContainerKey

CONCURRENT_EXECS = 4  # programs in containers at once: each is a burst of CPU
RETRIES = 3  # of a probe that itself went wrong
HEALTHY = Health()

log = logging.getLogger(__name__)


class _Run:
    """One run of a container under probes."""

    __slots__ = ("pod", "probed", "subject", "tasks", "timers")

    def __init__(self, pod: core.Pod, subject: Subject, probed: Probed) -> None:
        self.pod = pod
        self.subject = subject
        self.probed = probed
        self.timers: dict[ProbeKind, asyncio.TimerHandle] = {}
        self.tasks: dict[ProbeKind, asyncio.Task[None]] = {}


class Prober:
    """All probes of a node. `changed` is called with a pod's uid when the health of a container of it changed."""

    def __init__(self, runtime: Executor, recorder: Recorder, changed: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._changed = changed
        self._runs: dict[ContainerKey, _Run] = {}
        self._execs = asyncio.Semaphore(CONCURRENT_EXECS)
        self._counts: dict[str, Counter[tuple[str, str, str, ProbeKind, str]]] = {}  # by pod

    def health(self, key: ContainerKey) -> Health:
        """What is known of a run; healthy if it has no probes."""
        run = self._runs.get(key)
        return run.probed.health if run is not None else HEALTHY

    def follow(self, pod: core.Pod, container: core.Container, run: Container, address: str) -> None:
        """Probe a running container from now on, or go on with the pod as it is now. Idempotent.

        `address` is the pod's primary one. What the pod's status says of this run is where the probes begin.
        """
        known = self._runs.get(run.key)
        if known is None:
            wanted = specs(container)
            if not wanted:
                return
            started, ready = _reported(pod, run)
            probed = Probed(wanted, run.started_at, started=started, ready=ready)
            known = self._runs[run.key] = _Run(pod, Subject(run.key, container, address), probed)
        known.pod = pod
        if pod.metadata.deletion_timestamp is not None:
            known.probed.retire()
        self._arrange(known)

    def forget(self, key: ContainerKey) -> None:
        """A run has ended. Idempotent."""
        run = self._runs.pop(key, None)
        if run is not None:
            for timer in run.timers.values():
                timer.cancel()
            for task in run.tasks.values():
                task.cancel()

    def forget_pod(self, uid: str) -> None:
        """Nothing is left of it. Idempotent."""
        self._counts.pop(uid, None)

    def counts(self) -> Iterator[Count]:
        """How often probes came to which result, of the pods that are here."""
        for uid, counter in self._counts.items():
            for (namespace, name, container, kind, result), times in counter.items():
                yield Count(namespace, name, uid, container, kind, result, times)

    def _count(self, run: _Run, kind: ProbeKind, result: Result) -> None:
        meta = run.pod.metadata
        word = "unknown" if result.success is None else "successful" if result.success else "failed"
        key = (meta.namespace, meta.name, run.subject.key.name, kind, word)
        self._counts.setdefault(meta.uid, Counter())[key] += 1

    def close(self) -> None:
        for key in list(self._runs):
            self.forget(key)

    def _arrange(self, run: _Run) -> None:
        """A timer for each probe that is wanted, and for no other."""
        now = time.time()
        for kind in run.probed.probes:
            if not run.probed.wants(kind):
                timer = run.timers.pop(kind, None)
                if timer is not None:
                    timer.cancel()
            elif kind not in run.timers and kind not in run.tasks:
                self._set_timer(run, kind, now)

    def _set_timer(self, run: _Run, kind: ProbeKind, now: float) -> None:
        attempt = run.probed.next(kind, now)
        delay = max(0.0, attempt.at - time.time())
        run.timers[kind] = asyncio.get_running_loop().call_later(delay, self._begin, run, kind, attempt)

    def _begin(self, run: _Run, kind: ProbeKind, attempt: Attempt) -> None:
        del run.timers[kind]
        run.tasks[kind] = asyncio.get_running_loop().create_task(self._attempt(run, kind, attempt))

    async def _attempt(self, run: _Run, kind: ProbeKind, attempt: Attempt) -> None:
        result = await self._perform(run, kind)
        self._count(run, kind, result)
        if attempt.counts or result.success:
            self._tell(run, kind, result)
        now = max(time.time(), attempt.at)
        changed = run.probed.record(kind, result.success, now, counts=attempt.counts)
        del run.tasks[kind]
        if run.probed.wants(kind):
            self._set_timer(run, kind, now)
        if changed:
            self._arrange(run)
            self._changed(run.subject.key.pod_uid)

    async def _perform(self, run: _Run, kind: ProbeKind) -> Result:
        spec = run.probed.probes[kind]
        result = Result(None)
        for _ in range(RETRIES):
            try:
                if "exec" in spec.handler:
                    async with self._execs:
                        result = await actions.perform(spec, run.subject, self._runtime)
                else:
                    result = await actions.perform(spec, run.subject, self._runtime)
            except Exception as error:  # one container's probe must not stop the others
                log.exception("%s probe of %s in pod %s", kind, run.subject.container.name, run.pod.key)
                result = Result(None, str(error))
            if result.success is not None:
                break
        return result

    def _tell(self, run: _Run, kind: ProbeKind, result: Result) -> None:
        text, reason = "", "Unhealthy"
        if result.success is None:
            text = f"{kind} probe errored and resulted in unknown state: {result.output}"
        elif result.warning:
            text, reason = f"{kind} probe warning: {result.output}", "ProbeWarning"
        elif not result.success:
            text = f"{kind} probe failed: {result.output}"
        if text:
            path = container_path(run.pod, run.subject.container.name)
            self._recorder.event(run.pod, "Warning", reason, text, path)


def _reported(pod: core.Pod, run: Container) -> tuple[bool, bool]:
    """Whether an earlier agent reported this very run as started, as ready."""
    for status in pod.status.init_container_statuses + pod.status.container_statuses:
        if status.name == run.key.name and str(status.container_id).endswith(run.key.id):
            return status.started is True, status.ready
    return False, False
