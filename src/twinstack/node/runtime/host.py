"""The built-in runtime: containers made from the node's own root file system, image `twinstack.local/host`.

Every program of the node runs in them, under an overlay that takes the writes. They are processes in their
own mount, PID, network, UTS and IPC namespaces with the usual capabilities of containers, each below a shim
of its own (`shim.py`) that outlives the agent. What lies outside the masks is readable in them: an image for
trying and testing, not for keeping secrets from. Limits of memory and CPU hold where there are control groups
of version 1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import twinstack
from twinstack.linux import capabilities, cgroups, mounts, processes
from twinstack.node.logs import LogOptions, LogReader
from twinstack.node.runtime import shim
from twinstack.node.runtime.base import (
    Container,
    ContainerConfig,
    ContainerKey,
    Exited,
    Phase,
    SandboxConfig,
    Session,
    StartError,
)
from twinstack.node.runtime.layout import ContainerDirectory, Layout, Record, Running
from twinstack.node.runtime.sandbox import SandboxDirectory
from twinstack.node.runtime.spawning import spawn

IMAGE = "twinstack.local/host"
MASKS = ("/root", "/home", "/work", "/run", "/tmp", "/var/log")
CONCURRENT_STARTS = 4  # a start is a burst of CPU
START_TIMEOUT = 30.0
LAST_LINES, LAST_BYTES = 80, 2048  # of a log that stand for last words, as kubelet takes them
_DISK = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"})
_ADOPTION_STEP, _ADOPTION_STEPS = 0.005, 400  # how long a shim that has just been started may take to say who it is

log = logging.getLogger(__name__)


class HostRuntime:
    """A Runtime (see base) for one node; `hidden` are further directories that no container may see.

    `group` names the control group, below the agent's own, of containers with limits.
    """

    def __init__(self, root: Path, *, hidden: Iterable[str] = (), group: str = "") -> None:
        self._layout = Layout(root)
        self._groups = cgroups.own(group) if group else {}
        self._masks = [*MASKS, str(root), *hidden]
        self._submounts = _submounts(self._masks)
        self._pods: dict[str, dict[ContainerKey, Container]] = {}
        self._first: dict[ContainerKey, processes.Process] = {}
        self._watched: dict[ContainerKey, int] = {}  # pidfd of the shim
        self._ended: dict[ContainerKey, asyncio.Event] = {}
        self._starts = asyncio.Semaphore(CONCURRENT_STARTS)
        self._on_exit: Exited = lambda _: None

    @property
    def name(self) -> str:
        return f"twinstack-host://{twinstack.__version__}"

    @property
    def limited(self) -> frozenset[str]:
        return frozenset(self._groups)

    @property
    def images(self) -> list[str]:
        return [IMAGE]

    def open(self, on_exit: Exited) -> None:
        self._on_exit = on_exit
        self._layout.pods.mkdir(parents=True, mode=0o700, exist_ok=True)
        for uid in self._layout.pod_uids():
            self._pods[uid] = {}
            for directory in self._layout.containers(uid):
                self._adopt(directory)

    def pods(self) -> list[str]:
        return list(self._pods)

    def containers(self, pod_uid: str) -> list[Container]:
        return sorted(self._pods.get(pod_uid, {}).values(), key=lambda container: container.key)

    def volumes_directory(self, pod_uid: str) -> Path:
        return self._layout.pod(pod_uid) / "volumes"

    def has_image(self, image: str) -> bool:
        return image.removesuffix(":latest") == IMAGE

    async def create_sandbox(self, config: SandboxConfig) -> None:
        self._pods.setdefault(config.pod_uid, {})
        await asyncio.to_thread(self._sandbox(config.pod_uid).create, config)

    def sandbox_since(self, pod_uid: str) -> float:
        return self._sandbox(pod_uid).since if pod_uid in self._pods else 0.0

    async def stop_sandbox(self, pod_uid: str) -> None:
        await self._kill_all(pod_uid)
        await asyncio.to_thread(self._sandbox(pod_uid).stop)

    async def remove_sandbox(self, pod_uid: str) -> None:
        await self._kill_all(pod_uid)
        await asyncio.to_thread(self._remove, pod_uid)
        self._pods.pop(pod_uid, None)

    async def create(self, config: ContainerConfig) -> Container:
        container = Container(config.key, Phase.CREATED, config.image, IMAGE, time.time())
        directory = self._layout.container(config.key)
        record = Record(container.image, container.image_id, container.created_at, config.last_words_from_log)
        await asyncio.to_thread(self._create, config, directory, record)
        self._put(container)
        return container

    async def start(self, key: ContainerKey) -> Container:
        directory = self._layout.container(key)
        async with self._starts:
            lock = directory.lock()
            if lock is None:
                raise StartError(f"container {key.name} runs already")
            try:
                pid, report = await asyncio.to_thread(_spawn, directory.path, lock)
            finally:
                os.close(lock)  # the shim holds it now
            shim_descriptor = os.pidfd_open(pid)
            self._watch(key, shim_descriptor, pid)
            try:
                failure = await _read_report(report)
            except TimeoutError:
                signal.pidfd_send_signal(shim_descriptor, signal.SIGKILL)
                failure = f"it was not ready to run within {START_TIMEOUT:.0f} s"
        if failure:
            await self.wait(key)
            raise StartError(failure)
        return self._note_running(directory)

    def kill(self, key: ContainerKey, signal_number: int) -> bool:
        first = self._first.get(key)
        return first is not None and processes.send_signal(first, signal_number)

    async def wait(self, key: ContainerKey) -> None:
        """Return when the container has exited."""
        if key in self._watched:
            await self._ended[key].wait()

    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Session:
        from twinstack.node.runtime import exec as execution  # rarely needed

        first = self._first.get(key)
        descriptor = processes.open_descriptor(first) if first is not None else None
        if descriptor is None:
            raise StartError(f"container {key.name} does not run")
        try:
            async with self._starts:
                directory = self._layout.container(key).path
                return await execution.start(directory, descriptor, command, stdin=stdin, tty=tty)
        finally:
            os.close(descriptor)

    async def attach(self, key: ContainerKey, *, stdin: bool = False) -> Session:
        from twinstack.node.runtime import attach  # rarely needed

        return attach.connect(self._layout.container(key).path, stdin=stdin)

    async def remove(self, key: ContainerKey) -> None:
        self._forget(key)
        directory = self._layout.container(key)
        await asyncio.to_thread(directory.remove)
        for path in (self.log_path(key), self.log_path(key).with_suffix(".log.1")):
            path.unlink(missing_ok=True)

    def log_path(self, key: ContainerKey) -> Path:
        return self._layout.log(key)

    def close(self) -> None:
        for key in list(self._watched):
            self._unwatch(key)

    def _remove(self, pod_uid: str) -> None:
        for directory in self._layout.containers(pod_uid):
            cgroups.remove(directory.groups())
        self._sandbox(pod_uid).remove()

    def _sandbox(self, pod_uid: str) -> SandboxDirectory:
        return SandboxDirectory(self._layout.pod(pod_uid))

    def _put(self, container: Container) -> None:
        self._pods.setdefault(container.key.pod_uid, {})[container.key] = container

    async def _kill_all(self, pod_uid: str) -> None:
        keys = list(self._pods.get(pod_uid, {}))
        for key in keys:
            self.kill(key, signal.SIGKILL)
        for key in keys:
            await self.wait(key)

    def _adopt(self, directory: ContainerDirectory) -> None:
        """Take up a container that an earlier agent made."""
        key = directory.key
        record = directory.record()
        if record is None:
            directory.remove()  # half made
            return
        container = Container(key, Phase.CREATED, record.image, record.image_id, record.created_at)
        if directory.exit() is None and directory.is_running():
            running = _await_process(directory)
            descriptor = processes.open_descriptor(running.shim) if running else None
            if running is not None and descriptor is not None:
                self._put(container)
                self._watch(key, descriptor, 0)
                self._note_running(directory)
                return
        if directory.exit() is None:
            if directory.running() is None:
                directory.remove()  # made, never started
                return
            directory.write_unknown_exit()
        self._put(_exited(container, directory))

    def _note_running(self, directory: ContainerDirectory) -> Container:
        key = directory.key
        running = directory.running()
        container = self._pods[key.pod_uid][key]
        if running is not None and container.phase is Phase.CREATED:
            self._first[key] = running.first
            container = container._replace(phase=Phase.RUNNING, started_at=running.started_at)
            self._put(container)
        return container

    def _watch(self, key: ContainerKey, descriptor: int, child: int) -> None:
        self._watched[key] = descriptor
        self._ended[key] = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._shim_ended, key, child)

    def _unwatch(self, key: ContainerKey) -> None:
        descriptor = self._watched.pop(key)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _shim_ended(self, key: ContainerKey, child: int) -> None:
        self._unwatch(key)
        if child:
            os.waitpid(child, 0)
        self._first.pop(key, None)
        directory = self._layout.container(key)
        if directory.exit() is None:
            log.warning("the process beside container %s of pod %s was killed", key.name, key.pod_uid)
            directory.write_unknown_exit()
        container = _exited(self._pods[key.pod_uid][key], directory)
        self._put(container)
        self._ended.pop(key).set()
        self._on_exit(container)

    def _forget(self, key: ContainerKey) -> None:
        if key in self._watched:
            self._unwatch(key)
        self._pods.get(key.pod_uid, {}).pop(key, None)
        self._first.pop(key, None)

    def _create(self, config: ContainerConfig, directory: ContainerDirectory, record: Record) -> None:
        memory, cpu, shares = config.limits
        groups = cgroups.create(self._groups, config.key.id, memory=memory, cpu=cpu, shares=shares)
        directory.create(record, self._start_record(config, directory) | {"cgroups": groups})

    def _start_record(self, config: ContainerConfig, directory: ContainerDirectory) -> dict[str, Any]:
        """What the shim reads; only types that marshal knows."""
        sandbox = self._sandbox(config.key.pod_uid)
        security = config.security
        nodev = 0 if security.privileged else mounts.NODEV
        shared = [(str(sandbox.etc / name), "", f"/etc/{name}", 0) for name in os.listdir(sandbox.etc)]
        shared.append((str(sandbox.shm), "", "/dev/shm", 0))
        shared.append((str(directory.termination_log), "", config.termination_message_path, 0))
        for mount in config.mounts:
            flags = nodev | (mounts.RDONLY if mount.read_only else 0)
            shared.append((mount.source, mount.sub_path, mount.target, flags))
        return {
            "log": str(self._layout.log(config.key)),
            "network": sandbox.network,
            "uts": str(sandbox.uts),
            "ipc": str(sandbox.ipc),
            "root": str(directory.root),
            "upper": str(directory.upper),
            "work": str(directory.work),
            "submounts": self._submounts,
            "masks": self._masks,
            "mounts": shared,
            "privileged": security.privileged,
            "read_only_root": security.read_only_root,
            "no_new_privileges": security.no_new_privileges,
            "capabilities": capabilities.numbers(security.capabilities),
            "user": security.user,
            "group": security.group,
            "groups": list(security.groups),
            "directory": config.working_directory,
            "command": config.command,
            "environment": config.environment,
            "stdin": config.stdin,
            "stdin_once": config.stdin_once,
            "tty": config.tty,
        }


def _submounts(masks: list[str]) -> list[str]:
    """Disks mounted below the root, which an overlay of the root does not show."""
    return [
        point
        for point, kind in mounts.mounted()
        if kind in _DISK and point != "/" and not any(f"{point}/".startswith(f"{mask}/") for mask in masks)
    ]


def _spawn(directory: Path, lock: int) -> tuple[int, int]:
    """Start a shim; returns its process number and the descriptor on which it reports."""
    report, far = os.pipe()
    try:
        given = {shim.REPORT: far, shim.LOCK: lock}
        return spawn(shim.__name__, [str(directory)], given, directory / "shim.log"), report
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(far)


async def _read_report(report: int) -> str:
    """Why the container does not run; empty when it does."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(report, readable.set)
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await readable.wait()
        said = os.read(report, 4096)
    finally:
        loop.remove_reader(report)
        os.close(report)
    if said == b"+":
        return ""
    return said.decode(errors="replace") or "the process beside the container ended early"


def _await_process(directory: ContainerDirectory) -> Running | None:
    """Who runs in a container whose shim may have started only just now."""
    for _ in range(_ADOPTION_STEPS):
        running = directory.running()
        if running is not None or directory.exit() is not None:
            return running
        time.sleep(_ADOPTION_STEP)
    return None


def _exited(container: Container, directory: ContainerDirectory) -> Container:
    ended, running = directory.exit(), directory.running()
    if ended is None:
        return container
    return container._replace(
        phase=Phase.EXITED,
        started_at=running.started_at if running else 0.0,
        finished_at=ended.finished_at,
        exit_code=ended.code,
        reason=ended.reason or ("Completed" if ended.code == 0 else "Error"),
        message=ended.message or (_last_lines(directory) if ended.code else ""),
    )


def _last_lines(directory: ContainerDirectory) -> str:
    """The end of the log of a container that wants it for its last words (FallbackToLogsOnError)."""
    record = directory.record()
    if record is None or not record.last_words_from_log:
        return ""
    reader = LogReader(directory.log, LogOptions(tail_lines=LAST_LINES))
    try:
        return b"".join(reader.read())[-LAST_BYTES:].decode(errors="replace")
    finally:
        reader.close()
