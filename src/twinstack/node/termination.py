"""How containers are stopped: preStop hook, signal, grace, SIGKILL; sidecars after those whom they serve.

As kubelet 1.36 does it (pkg/kubelet/kuberuntime, KEP-753): the hook and the wait for one's turn use up the grace, and
after the signal two seconds are left in any case.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinstack.api import core
from twinstack.node import hooks
from twinstack.node.lifecycle import is_sidecar
from twinstack.node.probes.actions import Subject
from twinstack.node.runtime.base import Container, ContainerKey, Runtime

LAST_CHANCE = 2.0  # seconds between the signal and SIGKILL, whatever the grace

log = logging.getLogger(__name__)


def stop_signal(container: core.Container | None, of_image: str) -> int:
    """lifecycle.stopSignal (KEP-4960), or what the image says, or SIGTERM."""
    own = ((container.lifecycle if container is not None else None) or {}).get("stopSignal")
    for name in filter(None, (own, of_image)):
        number = signal_number(name)
        if number is not None:
            return number
        log.warning("unknown signal %r: SIGTERM is sent instead", name)
    return signal.SIGTERM


def signal_number(name: str) -> int | None:
    """As images name signals: `SIGQUIT`, `quit`, `3`, `SIGRTMIN+3`; None for others."""
    if name.isdecimal():
        number = int(name)
    else:
        base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
        known = signal.Signals.__members__.get(f"SIG{base.upper().removeprefix('SIG')}")
        if known is None or (sign and not offset.isdecimal()):
            return None
        number = known + int(f"{sign}{offset or 0}")
    return number if 0 < number <= signal.SIGRTMAX else None


def order(pod: core.Pod, running: Sequence[Container]) -> dict[ContainerKey, list[ContainerKey]]:
    """Whom each running container has to wait for: a sidecar for all containers, and for sidecars that came later."""
    keys = {run.key.name: run.key for run in running}
    first = [keys[container.name] for container in pod.spec.containers if container.name in keys]
    waits: dict[ContainerKey, list[ContainerKey]] = {run.key: [] for run in running}
    for container in reversed(pod.spec.init_containers):
        if is_sidecar(container) and container.name in keys:
            waits[keys[container.name]] = list(first)
            first.append(keys[container.name])
    return waits


class _Stop:
    """One container on its way out; times are the event loop's."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.timeout: asyncio.Timeout | None = None
        self.task: asyncio.Task[None] | None = None

    def hasten(self, deadline: float) -> None:
        if deadline < self.deadline:
            self.deadline = deadline
            if self.timeout is not None:
                self.timeout.reschedule(deadline)


class Termination:
    """The containers of one pod that are being stopped. `told` is called with those whose preStop hook failed."""

    def __init__(self, runtime: Runtime, told: Callable[[ContainerKey], None]) -> None:
        self._runtime = runtime
        self._told = told
        self._stops: dict[ContainerKey, _Stop] = {}

    def begin(
        self,
        key: ContainerKey,
        grace: float,
        *,
        subject: Subject | None = None,
        after: Sequence[ContainerKey] = (),
    ) -> bool:
        """Stop a container within `grace` seconds; False when that is under way, and at most hastened.

        Without a subject there is no hook, and the signal is the image's: nothing is known of its pod any more.
        """
        now = asyncio.get_running_loop().time()
        known = self._stops.get(key)
        if known is not None:
            known.hasten(now + grace)
            return False
        stop = self._stops[key] = _Stop(now + grace)
        stop.task = asyncio.get_running_loop().create_task(self._stop(key, stop, subject, after))
        return True

    def close(self) -> None:
        """Leave the containers to the next agent."""
        for stop in self._stops.values():
            if stop.task is not None:
                stop.task.cancel()

    async def _stop(
        self, key: ContainerKey, stop: _Stop, subject: Subject | None, after: Sequence[ContainerKey]
    ) -> None:
        ended = asyncio.ensure_future(self._runtime.wait(key))
        try:
            await self._prepare(stop, subject, after, ended)
            number = stop_signal(subject.container if subject is not None else None, self._image_signal(key))
            loop = asyncio.get_running_loop()
            stop.deadline = max(stop.deadline, loop.time() + LAST_CHANCE)
            self._runtime.kill(key, number)
            if not await self._until(stop, ended):
                self._runtime.kill(key, signal.SIGKILL)
                await ended
        finally:
            ended.cancel()
            self._stops.pop(key, None)

    def _image_signal(self, key: ContainerKey) -> str:
        return next((run.stop_signal for run in self._runtime.containers(key.pod_uid) if run.key == key), "")

    async def _prepare(
        self, stop: _Stop, subject: Subject | None, after: Sequence[ContainerKey], ended: asyncio.Future[None]
    ) -> None:
        """The hook, and the containers that go first; as long as there is time and the container lives."""
        if stop.deadline <= asyncio.get_running_loop().time():
            return
        hook = (subject.container.lifecycle or {}).get("preStop") if subject is not None else None
        if hook is not None and subject is not None:
            work = asyncio.ensure_future(self._hook(hook, subject))
            await self._either(stop, work, ended)
        if after:
            await self._either(stop, asyncio.gather(*(self._runtime.wait(other) for other in after)), ended)

    async def _hook(self, hook: Mapping[str, Any], subject: Subject) -> None:
        try:
            await hooks.run(hook, subject, self._runtime)
        except (hooks.HookError, TimeoutError) as error:
            log.info("preStop hook of container %s of pod %s: %s", subject.key.name, subject.key.pod_uid, error)
            self._told(subject.key)

    async def _either(self, stop: _Stop, work: asyncio.Future[Any], ended: asyncio.Future[None]) -> None:
        """Wait for the work, at most until the deadline or the container's end."""
        try:
            await self._until(stop, work, ended)
        finally:
            work.cancel()

    async def _until(self, stop: _Stop, *futures: asyncio.Future[Any]) -> bool:
        """Wait for the first of them; False when the deadline came first."""
        try:
            async with asyncio.timeout_at(stop.deadline) as stop.timeout:
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            return True
        except TimeoutError:
            return False
        finally:
            stop.timeout = None
