"""What the built-in runtime keeps on disk about a container: paths, records, and the lock that says it runs."""

from __future__ import annotations

import fcntl
import marshal
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from twinstack.linux import cgroups
from twinstack.linux.processes import Process
from twinstack.node.runtime.base import ContainerKey

TERMINATION_MESSAGE_SIZE = 4096  # bytes that a status shows
UNKNOWN_EXIT = (137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated")


class Record(msgspec.Struct):
    """`container.json`: what is known once a container is made."""

    image: str
    image_id: str
    created_at: float
    last_words_from_log: bool = False


class Running(NamedTuple):
    """`process`: who runs, and since when."""

    shim: Process
    first: Process
    started_at: float


class Exit(NamedTuple):
    """`exit`: how it ended."""

    code: int
    finished_at: float
    reason: str
    message: str


class Layout:
    """Paths below the agent's root directory."""

    def __init__(self, root: Path) -> None:
        self.pods = root / "pods"

    def pod(self, uid: str) -> Path:
        return self.pods / uid

    def container(self, key: ContainerKey) -> ContainerDirectory:
        return ContainerDirectory(self.pod(key.pod_uid) / "containers" / key.name / str(key.attempt), key)

    def log(self, key: ContainerKey) -> Path:
        return self.container(key).log

    def pod_uids(self) -> list[str]:
        return sorted(path.name for path in self.pods.iterdir()) if self.pods.is_dir() else []

    def containers(self, uid: str) -> Iterator[ContainerDirectory]:
        """Every container of a pod, older attempts first."""
        below = self.pod(uid) / "containers"
        for name in sorted(os.listdir(below)) if below.is_dir() else []:
            attempts = sorted(int(entry) for entry in os.listdir(below / name) if entry.isdecimal())
            for attempt in attempts:
                yield self.container(ContainerKey(uid, name, attempt))


class ContainerDirectory:
    """One container's records. Each is written whole or not at all."""

    def __init__(self, path: Path, key: ContainerKey) -> None:
        self.path = path
        self.key = key
        self.root = path / "root"
        self.upper = path / "upper"
        self.work = path / "work"
        self.termination_log = path / "termination-log"
        self.log = path.with_name(f"{path.name}.log")

    def create(self, record: Record, start: dict[str, Any]) -> None:
        for directory in (self.root, self.upper, self.work):
            directory.mkdir(parents=True, exist_ok=True)
        self.termination_log.touch(0o666)
        os.chmod(self.upper, 0o755)
        (self.path / "start").write_bytes(marshal.dumps(start))
        _write(self.path / "container.json", msgspec.json.encode(record))

    def lock(self) -> int | None:
        """A descriptor that holds the container's lock; None when somebody else does: it runs."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_running(self) -> bool:
        descriptor = self.lock()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def record(self) -> Record | None:
        content = _read(self.path / "container.json")
        return msgspec.json.decode(content, type=Record) if content else None

    def running(self) -> Running | None:
        content = _read(self.path / "process")
        if not content:
            return None
        shim, shim_start, first, first_start, nanoseconds = (int(field) for field in content.split())
        return Running(Process(shim, shim_start), Process(first, first_start), nanoseconds / 1e9)

    def exit(self) -> Exit | None:
        """How it ended, with what it left as its last words (v1 Container terminationMessagePath)."""
        content = _read(self.path / "exit")
        if not content:
            return None
        head, _, message = content.partition(b"\n")
        code, nanoseconds, reason = head.split(b" ", 2)
        text = message or self._last_words()
        return Exit(int(code), int(nanoseconds) / 1e9, reason.decode(), text.decode(errors="replace"))

    def write_unknown_exit(self) -> None:
        """For a container whose shim went without a word: killed, or the machine restarted."""
        code, reason, message = UNKNOWN_EXIT
        _write(self.path / "exit", f"{code} {time.time_ns()} {reason}\n{message}".encode())

    def remove(self) -> None:
        cgroups.remove(self.groups())
        shutil.rmtree(self.path, ignore_errors=True)

    def groups(self) -> list[str]:
        """The control groups that hold it to its limits, as long as it runs."""
        try:
            return list(marshal.loads(_read(self.path / "start")).get("cgroups", []))
        except (EOFError, ValueError, TypeError):
            return []  # half made, or not at all

    def _last_words(self) -> bytes:
        try:
            with open(self.termination_log, "rb") as file:
                return file.read(TERMINATION_MESSAGE_SIZE)
        except FileNotFoundError:
            return b""


def _read(path: Path) -> bytes:
    """Empty when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.rename(path)
