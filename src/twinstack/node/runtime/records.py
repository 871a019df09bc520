"""What the runtime keeps on disk about a container: paths, records, and the lock that says that something of it lives.

conmon writes `conmon.pid`, `pid`, `exit` and `oom` beside ours, and opens `attach` and `ctl`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from twinstack.linux import cgroups
from twinstack.linux.processes import Process
from twinstack.node.runtime.base import ContainerKey, User

TERMINATION_MESSAGE_SIZE = 4096  # bytes that a status shows
KILLED = 137
LOG_SIZE = 10 << 20  # bytes after which the log is moved to `.1` and begun anew
INFRASTRUCTURE = "POD"  # no name that a container can have: the first process of shared processes
_TAIL = 32 << 10  # bytes of a log in which a line has been begun
_REOPEN = b"2 0 0\n"
_UNKNOWN = "The container could not be located when the pod was terminated"


class Record(msgspec.Struct):
    """`container.json`: what is known once a container is made."""

    image: str
    image_id: str
    created_at: float
    last_words_from_log: bool = False
    options: list[str] = []  # of its conmon
    user: User | None = None
    stop_signal: str = ""  # of the image


class Running(NamedTuple):
    """`process`: who runs, and since when."""

    monitor: Process  # conmon
    first: Process
    started_at: float


class Exit(msgspec.Struct):
    """How it ended; `end.json` if conmon cannot tell."""

    code: int
    finished_at: float
    reason: str = ""
    message: str = ""


class Layout:
    """Paths below the agent's root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pods = root / "pods"
        self.state = root / "runtime"  # the OCI runtime's own
        self.groups = root / "cgroups"  # the directories below which containers have control groups, a line each

    def pod(self, uid: str) -> Path:
        return self.pods / uid

    def container(self, key: ContainerKey) -> ContainerDirectory:
        return ContainerDirectory(self.pod(key.pod_uid) / "containers" / key.name / str(key.attempt), key)

    def pod_uids(self) -> list[str]:
        return sorted(path.name for path in self.pods.iterdir()) if self.pods.is_dir() else []

    def containers(self, uid: str) -> Iterator[ContainerDirectory]:
        """Every container of a pod, older attempts first; the infrastructure is one."""
        below = self.pod(uid) / "containers"
        for name in sorted(os.listdir(below)) if below.is_dir() else []:
            attempts = sorted(int(entry) for entry in os.listdir(below / name) if entry.isdecimal())
            for attempt in attempts:
                yield self.container(ContainerKey(uid, name, attempt))

    def group_directories(self) -> list[str]:
        return cgroups.recorded(self.groups)

    def add_group_directories(self, directories: Iterable[str]) -> None:
        """Note where groups are made; an earlier agent may have run in another group than this one."""
        known = self.group_directories()
        wanted = list(dict.fromkeys([*directories, *known]))
        if wanted != known:
            _write(self.groups, "".join(f"{directory}\n" for directory in wanted).encode())


class ContainerDirectory:
    """One container's records, which is its OCI bundle. Each record is written whole or not at all."""

    def __init__(self, path: Path, key: ContainerKey) -> None:
        self.path = path
        self.key = key
        self.termination_log = path / "termination-log"
        self.log = path.with_name(f"{path.name}.log")
        self.sessions = path / "exec"  # a directory for each program that runs beside the first

    def write_record(self, record: Record) -> None:
        _write(self.path / "container.json", msgspec.json.encode(record))

    def record(self) -> Record | None:
        content = _read(self.path / "container.json")
        return msgspec.json.decode(content, type=Record) if content else None

    def lock(self) -> int | None:
        """A descriptor that holds the container's lock; None when somebody else does: something of it lives."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_locked(self) -> bool:
        descriptor = self.lock()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def monitor_pid(self) -> int | None:
        """Of conmon, whether or not it still lives."""
        content = _read(self.path / "conmon.pid").strip()
        return int(content) if content else None

    def write_running(self, running: Running) -> None:
        (monitor, its_start), (first, start), at = running
        _write(self.path / "process", f"{monitor} {its_start} {first} {start} {int(at * 1e9)}".encode())

    def running(self) -> Running | None:
        """Who runs, or ran."""
        content = _read(self.path / "process")
        if not content:
            return None
        monitor, its_start, first, start, nanoseconds = (int(field) for field in content.split())
        return Running(Process(monitor, its_start), Process(first, start), nanoseconds / 1e9)

    def exit(self) -> Exit | None:
        """How it ended, with what it left as its last words (v1 Container terminationMessagePath)."""
        content = _read(self.path / "end.json")
        if content:
            return msgspec.json.decode(content, type=Exit)
        try:
            at = (self.path / "exit").stat().st_mtime
            code = int(_read(self.path / "exit"))
        except (FileNotFoundError, ValueError):  # a file without a number in it: conmon was killed as it wrote
            return None
        reason = "OOMKilled" if code and (self.path / "oom").exists() else ""
        return Exit(code, at, reason, self._last_words())

    def write_exit(self, code: int, reason: str, message: str) -> Exit:
        end = Exit(code, time.time(), reason, message)
        _write(self.path / "end.json", msgspec.json.encode(end))
        return end

    def write_unknown_exit(self) -> Exit:
        """For a container whose conmon went without a word: killed, or the machine restarted."""
        return self.write_exit(KILLED, "ContainerStatusUnknown", _UNKNOWN)

    def rotate_log(self) -> None:
        """Begin a new log if this one is long; the one before it has the suffix `.1`."""
        try:
            if self.log.stat().st_size <= LOG_SIZE:
                return
        except FileNotFoundError:
            return
        self.log.rename(self.log.with_name(f"{self.log.name}.1"))
        _reopen_log(self.path)

    def last_output(self) -> bytes:
        """The end of what the container has said on its standard output, as the log has it."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                records = file.read().split(b"\n")
        except FileNotFoundError:
            return b""
        parts: list[bytes] = []
        for record in records:
            fields = record.split(b" ", 3)
            if len(fields) == 4 and fields[1] == b"stdout":
                parts.append(fields[3] if fields[2] == b"P" else fields[3] + b"\n")
        return b"".join(parts)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_logs(self) -> None:
        for path in (self.log, self.log.with_name(f"{self.log.name}.1")):
            path.unlink(missing_ok=True)

    def _last_words(self) -> str:
        try:
            with open(self.termination_log, "rb") as file:
                return file.read(TERMINATION_MESSAGE_SIZE).decode(errors="replace")
        except FileNotFoundError:
            return ""


def _reopen_log(directory: Path) -> None:
    """Tell the conmon by its pipe; nothing happens when it has gone."""
    try:
        descriptor = os.open(directory / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: nobody reads, ENOENT: nobody has begun to
        return
    try:
        os.write(descriptor, _REOPEN)
    except (BlockingIOError, BrokenPipeError):
        return
    finally:
        os.close(descriptor)


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
