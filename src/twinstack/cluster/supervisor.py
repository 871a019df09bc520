"""Watches over the processes of a cluster: starts them at once, starts again what dies, reports, stops.

One thread and one selector. A part is known by a pidfd, so parts that outlived an earlier supervisor are
adopted as they run. Nothing is started for them here: `supervise` hands in what there is to run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twinstack.cluster.errors import ClusterError
from twinstack.cluster.parts import OUTWARD, Part
from twinstack.linux import namespaces, processes, procfs
from twinstack.linux.processes import Process

log = logging.getLogger(__name__)

SETTLED_AFTER = 0.6  # seconds that a part must live before the next one is replaced
TERM_PATIENCE = 5.0  # seconds for a part that is replaced to end by itself
FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0  # seconds before a part that died is started again
STABLE_AFTER = 10.0  # seconds after which a part's earlier failures are forgotten
LOG_LIMIT = 10 << 20  # bytes; a larger log is set aside as FILE.1 when its part starts
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_CLIENT_PATIENCE = 1.0  # seconds for a client of the socket to say what it wants


def restart_delay(failures: int) -> float:
    """Seconds to wait before the next start after `failures` deaths in a row: 0.1, 0.2, 0.4 … 10."""
    return float(min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY))


def describe_exit(status: int | None) -> str:
    """What wait(2) said, for people; None when it was another process's child."""
    if status is None:
        return "unknown"
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class _Running:
    """One part and what became of it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.is_new = True  # nobody has tried to start it
        self.process: Process | None = None
        self.descriptor = -1
        self.since = 0.0  # wall clock, for people
        self.started = 0.0  # monotonic
        self.restarts = 0
        self.failures = 0  # deaths in a row
        self.due: float | None = None  # monotonic time of the next start
        self.last_exit = ""
        self.fingerprint = ""  # of the part as it runs; differs from the part's while it waits to be replaced
        self.killed_at: float | None = None  # monotonic time at which patience with SIGTERM ends

    @property
    def is_current(self) -> bool:
        """Whether it runs as it is wanted, or will be started so."""
        return self.process is None or self.fingerprint == self.part.fingerprint

    @property
    def is_settled(self) -> bool:
        alive = self.process is not None and self.killed_at is None
        return alive and time.monotonic() - self.started >= SETTLED_AFTER

    def report(self) -> dict[str, Any]:
        idle = "waiting" if self.is_new or self.due is not None else "stopped"
        return {
            "name": self.part.name,
            "node": self.part.node,
            "state": "running" if self.process is not None else idle,
            "pid": self.process.pid if self.process is not None else None,
            "since": self.since,
            "restarts": self.restarts,
            "lastExit": self.last_exit,
        }


class Supervisor:
    """Keeps what `load` returns running until `stop` is asked for on the socket or by SIGTERM.

    `program` begins every command line; `records` and `logs` are directories; `address` is the path of the
    socket, on which a client writes `status`, `reload` or `stop` and a newline, and reads one JSON object.

    On `reload`, parts that are wanted no more are ended at once. Then, in their order, new parts are started, and
    those that are called differently now are replaced one by one, each after the one before has lived for a moment.
    """

    def __init__(
        self, load: Callable[[], Sequence[Part]], *, program: Sequence[str], records: Path, logs: Path, address: Path
    ) -> None:
        self._load = load
        self._running: dict[str, _Running] = {}
        self._leaving: list[_Running] = []
        self._replaced: _Running | None = None  # the last one
        self._program = tuple(program)
        self._records = records
        self._logs = logs
        self._address = address
        self._since = time.time()
        self._selector = selectors.DefaultSelector()
        self._exit_statuses: dict[int, int] = {}
        self._waiting_clients: list[socket.socket] = []
        self._stopping = False

    def run(self) -> None:
        """Blocks until everything has been stopped."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._selector.close)
            self._listen(stack)
            self._catch_signals(stack)
            self._reload()
            while not self._stopping:
                self._turn()
            self._stop_all()
            for client in self._waiting_clients:
                _answer(client, {"stopped": True})

    # -- the loop

    def _turn(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            if running.due is not None and running.due <= now:
                self._start(running)
        self._replace_next()
        times = [self._force(), *(running.due for running in self._running.values())]
        if self._replaced is not None and self._replaced.process is not None and self._replaced.killed_at is None:
            times.append(self._replaced.started + SETTLED_AFTER)
        due = [time_ for time_ in times if time_ is not None]
        self._wait(max(min(due) - time.monotonic(), 0) if due else None)

    def _reload(self) -> None:
        """Take up what is wanted now."""
        wanted = {part.name: part for part in self._load()}
        for name in self._running.keys() - wanted.keys():
            running = self._running.pop(name)
            running.due = None
            if running.process is not None:
                self._leaving.append(running)
                self._end(running)
            if running is self._replaced:
                self._replaced = None
        before, self._running = self._running, {}
        for name, part in wanted.items():
            running = self._running[name] = before.get(name) or _Running(part)
            running.part = part

    def _reloaded(self) -> dict[str, Any]:
        try:
            self._reload()
        except ClusterError as error:
            log.error("%s", error)
            return {"error": str(error)}
        return {"changing": self._pending()}

    def _replace_next(self) -> None:
        """End the first part that is not called as it should be; it is started again when it has ended.

        New parts before it are started: they may count on all that come before them.
        """
        if self._replaced is not None and not self._replaced.is_settled:
            return
        self._replaced = None
        for running in self._running.values():
            if running.is_new and not self._adopt(running):
                self._start(running)
            running.is_new = False
            if not running.is_current:
                log.info("%s is replaced: its configuration has changed", running.part.name)
                self._replaced = running
                self._end(running)
                return

    def _end(self, running: _Running) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(running.descriptor, signal.SIGTERM)
        running.killed_at = time.monotonic() + TERM_PATIENCE

    def _force(self) -> float | None:
        """SIGKILL those whose time is over; returns when the next one's is."""
        ending = [r for r in (*self._leaving, *self._running.values()) if r.killed_at is not None]
        for running in ending:
            if running.killed_at is not None and running.killed_at <= time.monotonic():
                running.killed_at = None
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(running.descriptor, signal.SIGKILL)
        return min((r.killed_at for r in ending if r.killed_at is not None), default=None)

    def _pending(self) -> list[str]:
        """Parts that a reload has yet to change."""
        found = [
            running.part.name
            for running in self._running.values()
            if running.is_new or not running.is_current or (running is self._replaced and not running.is_settled)
        ]
        return [*found, *(running.part.name for running in self._leaving)]

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            handle: Callable[[], None] = key.data
            handle()

    def _listen(self, stack: contextlib.ExitStack) -> None:
        listener = socket.socket(socket.AF_UNIX)
        stack.callback(listener.close)
        self._address.unlink(missing_ok=True)
        listener.bind(str(self._address))
        stack.callback(self._address.unlink, missing_ok=True)
        listener.listen()
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._serve(listener.accept()[0]))

    def _catch_signals(self, stack: contextlib.ExitStack) -> None:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
            stack.callback(end.close)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._on_signals(reader.recv(4096)))

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stopping = True
        self._reap()

    def _reap(self) -> None:
        """Collect every child that ended; orphans of the parts become children of this process, too."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if any(
                    running.process is not None and running.process.pid == pid
                    for running in (*self._running.values(), *self._leaving)
                ):
                    self._exit_statuses[pid] = status

    # -- one part

    def _record(self, running: _Running) -> Path:
        return self._records / running.part.name

    def _adopt(self, running: _Running) -> bool:
        """Take over a part that an earlier supervisor started."""
        try:
            pid, started, since, fingerprint = self._record(running).read_text().split()
            process = Process(int(pid), int(started))
        except (FileNotFoundError, ValueError):
            return False
        descriptor = processes.open_descriptor(process)
        if descriptor is None:
            return False
        log.info("%s runs already as process %s", running.part.name, process.pid)
        running.fingerprint = fingerprint
        self._watch(running, process, descriptor, float(since))
        return True

    def _start(self, running: _Running) -> None:
        part = running.part
        running.due = None
        try:
            pid = _spawn((*self._program, *part.arguments), part, self._open_log(part.name))
        except OSError as error:
            self._failed(running, f"could not start: {error}")
            return
        descriptor = os.pidfd_open(pid)  # a child keeps its number until it is reaped, also when it ended at once
        found = procfs.state_and_start(pid)
        process = Process(pid, found[1] if found is not None else 0)
        since = time.time()
        running.fingerprint = part.fingerprint
        self._record(running).write_text(f"{process.pid} {process.started} {since} {part.fingerprint}")
        log.info("%s started as process %s", part.name, pid)
        self._watch(running, process, descriptor, since)

    def _watch(self, running: _Running, process: Process, descriptor: int, since: float) -> None:
        running.process, running.descriptor, running.since = process, descriptor, since
        running.started = time.monotonic()
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._ended(running))

    def _ended(self, running: _Running) -> None:
        self._reap()
        process = running.process
        assert process is not None
        self._selector.unregister(running.descriptor)
        os.close(running.descriptor)
        running.process, running.descriptor = None, -1
        was_told, running.killed_at = running.killed_at is not None, None
        self._record(running).unlink(missing_ok=True)
        reason = describe_exit(self._exit_statuses.pop(process.pid, None))
        if running in self._leaving:
            self._leaving.remove(running)
            return
        if self._stopping or was_told:
            running.last_exit = reason
            running.due = None if self._stopping else time.monotonic()
            return
        if time.monotonic() - running.started >= STABLE_AFTER:
            running.failures = 0
        self._failed(running, reason)

    def _failed(self, running: _Running, reason: str) -> None:
        running.last_exit = reason
        running.failures += 1
        running.restarts += 1
        delay = restart_delay(running.failures)
        running.due = time.monotonic() + delay
        log.warning("%s: %s; starts again in %.1f s", running.part.name, reason, delay)

    def _open_log(self, name: str) -> int:
        path = self._logs / f"{name}.log"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_LIMIT:
                path.replace(path.with_name(f"{name}.log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    # -- clients

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_CLIENT_PATIENCE)
        try:
            wish = client.recv(64).strip()
        except OSError:
            client.close()
            return
        if wish == b"stop":
            self._stopping = True
            self._waiting_clients.append(client)
        elif wish == b"status":
            reports = [running.report() for running in self._running.values()]
            _answer(client, {"pid": os.getpid(), "since": self._since, "parts": reports, "changing": self._pending()})
        elif wish == b"reload":
            _answer(client, self._reloaded())
        else:
            _answer(client, {"error": f"unknown request {wish.decode(errors='replace')!r}"})

    # -- the end

    def _stop_all(self) -> None:
        """The API server last, so that the others can say good-bye to it."""
        *others, first = [*self._leaving, *reversed(self._running.values())]
        self._stop(others, patience=0.7)
        self._stop([first], patience=0.7)

    def _stop(self, group: Sequence[_Running], patience: float) -> None:
        """SIGTERM, and SIGKILL for what still runs after `patience` seconds."""
        for running in group:
            running.due = None
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
            for running in group:
                if running.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(running.descriptor, number)
            deadline = time.monotonic() + seconds
            while any(running.process is not None for running in group):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._wait(left)


def _spawn(command: tuple[str, ...], part: Part, output: int) -> int:
    """Start a process in a session of its own, inside its network namespace, its output to `output` (closed here)."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def spawn() -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        if part.outward:
            actions.append((os.POSIX_SPAWN_DUP2, own, OUTWARD))
        return os.posix_spawn(
            command[0], command, os.environ, file_actions=actions, setsid=True, setsigdef=_IGNORED_BY_PYTHON
        )

    try:
        return spawn() if part.namespace is None else namespaces.inside(part.namespace, spawn)
    finally:
        os.close(own)
        os.close(output)


def _answer(client: socket.socket, value: dict[str, Any]) -> None:
    with client, contextlib.suppress(OSError):  # a client that went away needs no answer
        client.sendall(json.dumps(value).encode() + b"\n")
