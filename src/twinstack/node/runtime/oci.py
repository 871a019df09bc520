"""The built-in runtime: OCI containers by conmon and runc or crun.

A container is a bundle in its pod's directory: an overlay of its image's layers and a `config.json`. conmon is its
parent: it writes the log, holds the terminal, notes the exit code, and outlives the agent, which sees the end of a
container as the end of its conmon (pidfd). The containers of a pod join namespaces that are pinned (`sandbox`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from twinstack.linux import cgrouplimits, cgroups, cgroupusage, processes
from twinstack.linux.cgroupusage import Usage
from twinstack.linux.ociruntimes import Choice
from twinstack.node.images.builtin import BUSYBOX, HOST
from twinstack.node.images.store import ImageStore
from twinstack.node.runtime import adoption, engine, states
from twinstack.node.runtime.base import (
    FEWEST_SHARES,
    Container,
    ContainerConfig,
    ContainerKey,
    CreateError,
    Exited,
    Limits,
    Phase,
    SandboxConfig,
    Session,
    StartError,
    UpdateError,
    pod_group,
)
from twinstack.node.runtime.bundle import WEAK, Bundler
from twinstack.node.runtime.children import PATIENCE, RuntimeFailure
from twinstack.node.runtime.overlay import RootDirectory
from twinstack.node.runtime.records import INFRASTRUCTURE, ContainerDirectory, Layout, Running
from twinstack.node.runtime.sandbox import SandboxDirectory
from twinstack.node.runtime.specification import limiting

CONCURRENT_STARTS = 4  # a start is a burst of CPU
INFRASTRUCTURE_SCORE = -998  # oom_score_adj of the first process of shared processes, as of a pause process
START_FAILED = 128  # exit code of a container that never ran, as containerd's
ROTATION = 10.0  # seconds between looks at the size of logs (kubelet containerLogMonitorInterval)
# Reaps what other containers of the pod leave behind, as the first process of their PID namespace.
_FIRST = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait; done"]

log = logging.getLogger(__name__)


class OCIRuntime:
    """A Runtime (see base) for one node. `group` names the control group, below the agent's own, of its containers."""

    def __init__(self, root: Path, choice: Choice, images: ImageStore, *, group: str) -> None:
        self._layout = Layout(root)
        self._images = images
        self._choice = choice
        self._place = cgroups.place(group)
        self._engine = engine.Engine(choice.conmon, choice.runtime, self._layout.state)
        self._bundler = Bundler(self._layout, self._place)
        self._pods: dict[str, dict[ContainerKey, Container]] = {}
        self._first: dict[ContainerKey, processes.Process] = {}
        self._watched: dict[ContainerKey, int] = {}  # pidfd of conmon
        self._ended: dict[ContainerKey, asyncio.Event] = {}
        self._begun: dict[ContainerKey, asyncio.Event] = {}  # those that the runtime is letting run, until it has
        self._clearing: dict[ContainerKey, asyncio.Task[None]] = {}
        self._starts = asyncio.Semaphore(CONCURRENT_STARTS)
        self._rotation: asyncio.TimerHandle | None = None
        self._on_exit: Exited = lambda _: None

    @property
    def name(self) -> str:
        return f"{self._choice.name}://{self._choice.version}"

    @property
    def limited(self) -> frozenset[str]:
        return self._place.limited

    @property
    def recursive_read_only(self) -> bool:
        return self._choice.recursive_read_only

    @property
    def images(self) -> list[str]:
        return [name for image in self._images.images() for name in image.names]

    def has_image(self, image: str) -> bool:
        return self._images.find(image) is not None

    def image_user(self, image: str) -> str:
        found = self._images.find(image)
        return found.config.user if found is not None else ""

    def open(self, on_exit: Exited) -> None:
        self._on_exit = on_exit
        self._layout.pods.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._layout.add_group_directories(self._place.directories)
        adoption.unmount_roots(self._layout)
        for uid in self._layout.pod_uids():
            self._pods[uid] = {}
            for directory in self._layout.containers(uid):
                self._adopt(directory)
        self._rotate_logs()

    def close(self) -> None:
        if self._rotation is not None:
            self._rotation.cancel()
        for key in list(self._watched):
            self._unwatch(key)

    # --- what there is

    def pods(self) -> list[str]:
        return list(self._pods)

    def containers(self, pod_uid: str) -> list[Container]:
        found = [run for run in self._pods.get(pod_uid, {}).values() if run.key.name != INFRASTRUCTURE]
        return sorted(found, key=lambda container: container.key)

    def volumes_directory(self, pod_uid: str) -> Path:
        return self._layout.pod(pod_uid) / "volumes"

    def log_path(self, key: ContainerKey) -> Path:
        return self._layout.container(key).log

    # --- sandboxes

    async def create_sandbox(self, config: SandboxConfig) -> None:
        uid = config.pod_uid
        self._pods.setdefault(uid, {})
        await asyncio.to_thread(self._make_sandbox, config)
        if config.share_processes:
            await self._start_first(uid)

    def _make_sandbox(self, config: SandboxConfig) -> None:
        self._sandbox(config.pod_uid).create(config)
        try:
            self._limit(config.pod_uid, config.limits)
        except BaseException:
            self._end_sandbox(config.pod_uid)
            raise

    def _limit(self, uid: str, limits: Limits) -> None:
        cgrouplimits.make(self._place, pod_group(uid), cgrouplimits.Amounts(*limits))

    async def update_sandbox(self, pod_uid: str, limits: Limits) -> None:
        try:
            await asyncio.to_thread(self._limit, pod_uid, limits)
        except OSError as error:
            raise UpdateError(str(error)) from error

    def sandbox_since(self, pod_uid: str) -> float:
        if pod_uid not in self._pods:
            return 0.0
        sandbox = self._sandbox(pod_uid)
        if sandbox.settings.share_processes and ContainerKey(pod_uid, INFRASTRUCTURE, 0) not in self._first:
            return 0.0
        return sandbox.since

    async def stop_sandbox(self, pod_uid: str) -> None:
        await self._kill_all(pod_uid)
        await self.remove(ContainerKey(pod_uid, INFRASTRUCTURE, 0))
        await asyncio.gather(*(task for key, task in self._clearing.items() if key.pod_uid == pod_uid))
        await asyncio.to_thread(self._end_sandbox, pod_uid)

    async def remove_sandbox(self, pod_uid: str) -> None:
        await self._kill_all(pod_uid)
        for directory in list(self._layout.containers(pod_uid)):
            await self.remove(directory.key)
        await asyncio.to_thread(adoption.remove_group, self._layout, pod_uid)
        await asyncio.to_thread(self._sandbox(pod_uid).remove)
        self._pods.pop(pod_uid, None)

    def _end_sandbox(self, uid: str) -> None:
        adoption.remove_group(self._layout, uid)
        self._sandbox(uid).stop()

    async def _start_first(self, uid: str) -> None:
        """The process whose PID namespace the pod's containers share."""
        key = ContainerKey(uid, INFRASTRUCTURE, 0)
        await self.remove(key)
        image = next((name for name in (BUSYBOX, HOST) if self.has_image(name)), HOST)
        limits = Limits(shares=FEWEST_SHARES)
        config = ContainerConfig(
            key, image, _FIRST, {}, "/", [], WEAK, "", limits=limits, oom_score_adj=INFRASTRUCTURE_SCORE
        )
        await self.create(config)
        try:
            await self.start(key)
        except StartError as error:
            raise OSError(f"the first process of shared processes: {error}") from error

    async def _kill_all(self, pod_uid: str) -> None:
        keys = list(self._pods.get(pod_uid, {}))
        for key in keys:
            self.kill(key, signal.SIGKILL)
        for key in keys:
            await self.wait(key)

    def _sandbox(self, pod_uid: str) -> SandboxDirectory:
        return SandboxDirectory(self._layout.pod(pod_uid))

    # --- containers

    async def create(self, config: ContainerConfig) -> Container:
        image = self._images.find(config.image)
        if image is None:
            raise CreateError(f'image "{config.image}" not found')
        first = self._first.get(ContainerKey(config.key.pod_uid, INFRASTRUCTURE, 0))
        if first is None and config.target is not None:
            first = self._first.get(config.target)
        try:
            record = await asyncio.to_thread(self._bundler.make, config, image, time.time(), first)
        except OSError as error:
            raise CreateError(error.strerror or str(error)) from error
        container = states.created(config.key, record)
        self._put(container)
        return container

    async def start(self, key: ContainerKey) -> Container:
        directory = self._layout.container(key)
        async with self._starts:
            lock = directory.lock()
            if lock is None:
                raise StartError(f"container {key.name} runs already")
            try:
                running = await self._make(directory, lock)
                self._watch(key, running.monitor)
                await self._let_run(key)
            except (StartError, RuntimeFailure, TimeoutError, OSError) as error:
                text = str(error) or f"it was not ready to run within {PATIENCE:.0f} s"
                await self._give_up(directory, text)
                raise StartError(text) from error
            finally:
                os.close(lock)  # conmon holds it now
        container = self._pods[key.pod_uid][key]
        if container.phase is Phase.CREATED:
            self._first[key] = running.first
            container = container._replace(phase=Phase.RUNNING, started_at=running.started_at)
            self._put(container)
        return container

    async def update(self, key: ContainerKey, limits: Limits) -> None:
        if key not in self._first:
            raise UpdateError(f"container {key.name} does not run")
        path = self._layout.container(key).path / "resources.json"
        wanted = limiting(limits.within(self._place.limited), swap_limited=self._place.swap_limited)
        try:
            await asyncio.to_thread(self._update, key, path, wanted)
        except (RuntimeFailure, OSError) as error:
            raise UpdateError(str(error)) from error

    def _update(self, key: ContainerKey, path: Path, resources: dict[str, Any]) -> None:
        path.write_bytes(msgspec.json.encode(resources))
        self._engine.update(key.id, path)

    def usage(self, key: ContainerKey) -> Usage | None:
        if key not in self._first:
            return None
        return cgroupusage.usage(f"{directory}/{key.group}" for directory in self._place.directories)

    def pod_usage(self, pod_uid: str) -> Usage | None:
        return cgroupusage.usage(f"{directory}/{pod_group(pod_uid)}" for directory in self._place.directories)

    @property
    def group(self) -> str:
        return self._place.path

    def kill(self, key: ContainerKey, signal_number: int) -> bool:
        first = self._first.get(key)
        return first is not None and processes.send_signal(first, signal_number)

    async def wait(self, key: ContainerKey) -> None:
        """Return when the container has exited."""
        if key in self._watched:
            await self._ended[key].wait()

    async def remove(self, key: ContainerKey) -> None:
        if key in self._watched:
            self._unwatch(key)
        directory = self._layout.container(key)
        clearing = self._clearing.get(key)
        if clearing is not None:
            await asyncio.shield(clearing)
        await asyncio.to_thread(adoption.discard, self._engine, self._layout, directory)
        self._pods.get(key.pod_uid, {}).pop(key, None)
        self._first.pop(key, None)
        directory.remove_logs()

    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Session:
        from twinstack.node.runtime import execution  # rarely needed

        if key not in self._first:
            raise StartError(f"container {key.name} does not run")
        async with self._starts:
            directory = self._layout.container(key)
            return await execution.start(self._engine, directory, key.id, command, stdin=stdin, tty=tty)

    async def attach(self, key: ContainerKey, *, stdin: bool = False) -> Session:
        from twinstack.node.runtime import attachment  # rarely needed

        directory = self._layout.container(key)
        return attachment.connect(directory.path, self._first.get(key), stdin=stdin, logged=directory.last_output)

    async def _let_run(self, key: ContainerKey) -> None:
        """One that has ended at once is not cleared away before the runtime is done with it. Raises RuntimeFailure."""
        begun = self._begun[key] = asyncio.Event()
        try:
            await asyncio.to_thread(self._engine.start, key.id)
        finally:
            del self._begun[key]
            begun.set()

    async def _make(self, directory: ContainerDirectory, lock: int) -> Running:
        """Have the container made by the runtime, and note who is in it. Raises StartError, TimeoutError, OSError."""
        key = directory.key
        try:
            words = self._bundler.monitor(self._engine, directory)
            first = processes.identify(await engine.created(words, lock))
        finally:
            RootDirectory(directory.path).unmount()
        monitor = processes.identify(directory.monitor_pid() or 0)
        if first is None or monitor is None:
            raise StartError(f"container {key.name} ended before it ran")
        running = Running(monitor, first, time.time())
        directory.write_running(running)
        return running

    async def _give_up(self, directory: ContainerDirectory, text: str) -> None:
        """Note that a container never ran."""
        key = directory.key
        if key in self._watched:
            self._unwatch(key)
        if key in self._clearing:
            await asyncio.shield(self._clearing[key])
        await asyncio.to_thread(adoption.clear, self._engine, self._layout, directory)
        end = directory.write_exit(START_FAILED, "StartError", text)
        self._put(states.exited(self._pods[key.pod_uid][key], directory, end))
        self._tell(key)

    # --- the end of containers

    def _watch(self, key: ContainerKey, monitor: processes.Process) -> None:
        descriptor = processes.open_descriptor(monitor)
        self._ended[key] = asyncio.Event()
        if descriptor is None:
            asyncio.get_running_loop().call_soon(self._monitor_ended, key)
            return
        self._watched[key] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._monitor_ended, key)

    def _unwatch(self, key: ContainerKey) -> None:
        descriptor = self._watched.pop(key)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _monitor_ended(self, key: ContainerKey) -> None:
        if key in self._watched:
            self._unwatch(key)
        if key not in self._pods.get(key.pod_uid, {}):
            return
        first = self._first.pop(key, None)
        directory = self._layout.container(key)
        end = directory.exit()
        if end is None:
            log.warning("conmon of container %s of pod %s was killed", key.name, key.pod_uid)
            if first is not None:
                processes.send_signal(first, signal.SIGKILL)
            end = directory.write_unknown_exit()
        self._put(states.exited(self._pods[key.pod_uid][key], directory, end))
        self._clear(directory)
        self._tell(key)

    def _tell(self, key: ContainerKey) -> None:
        event = self._ended.pop(key, None)
        if event is not None:
            event.set()
        if key.name != INFRASTRUCTURE or event is not None:
            self._on_exit(self._pods[key.pod_uid][key])

    def _clear(self, directory: ContainerDirectory) -> None:
        """Let the runtime forget an exited container; its records and its log stay."""
        self._clearing[directory.key] = asyncio.get_running_loop().create_task(self._clear_guarded(directory))

    async def _clear_guarded(self, directory: ContainerDirectory) -> None:
        key = directory.key
        try:
            if key in self._begun:
                await self._begun[key].wait()
            await asyncio.to_thread(adoption.clear, self._engine, self._layout, directory)
        except (OSError, RuntimeFailure) as error:
            log.warning("what is left of container %s of pod %s: %s", key.name, key.pod_uid, error)  # again at the end
        finally:
            self._clearing.pop(key, None)

    # --- an earlier agent's containers

    def _adopt(self, directory: ContainerDirectory) -> None:
        found = adoption.look(self._engine, self._layout, directory)
        if found is None:
            return
        record, running, end = found
        key = directory.key
        container = states.created(key, record)
        if end is not None:
            self._put(states.exited(container, directory, end))
        elif running is not None:
            self._first[key] = running.first
            self._put(container._replace(phase=Phase.RUNNING, started_at=running.started_at))
            self._watch(key, running.monitor)

    def _put(self, container: Container) -> None:
        self._pods.setdefault(container.key.pod_uid, {})[container.key] = container

    def _rotate_logs(self) -> None:
        for key in self._first:
            try:
                self._layout.container(key).rotate_log()
            except OSError as error:
                log.warning("log of container %s of pod %s: %s", key.name, key.pod_uid, error)
        self._rotation = asyncio.get_running_loop().call_later(ROTATION, self._rotate_logs)
