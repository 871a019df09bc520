"""The process beside every container: its parent, the writer of its log, the keeper of its exit code.

It outlives the agent. Started as `python -IS` with the container's directory as argument, descriptor 3 to
report the start on and descriptor 4, a lock that says that it lives. It imports as little as it can: its
memory is paid once a container. When it dies, so does the container.

Files in the directory: `start` (in: what to run, see `spawn`), `process` (out: four numbers, see below),
`exit` (out: code, time, reason, then a message).
"""

from __future__ import annotations

import marshal
import os
import select
import sys
import time

from twinstack.linux.procfs import state_and_start
from twinstack.linux.syscalls import CLONE_NEWPID, unshare

REPORT, LOCK = 3, 4  # descriptors
LONGEST_LINE = 16 << 10  # longer ones are split into parts, as the CRI does
LOG_SIZE = 10 << 20  # bytes after which the log is moved to `.1` and begun anew
DRAIN_SECONDS = 2.0  # how long output is still read after the container's end
START_FAILED = 128  # exit code of a container that never ran


def main() -> None:
    directory = sys.argv[1]
    for descriptor in (REPORT, LOCK):
        os.set_inheritable(descriptor, False)
    with open(f"{directory}/start", "rb") as file:
        start = marshal.load(file)
    output, errors = os.pipe(), os.pipe()
    ready, go = os.pipe(), os.pipe()
    unshare(CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        from twinstack.node.runtime.rootfs import run

        run(start, output[1], errors[1], ready[1], go[0])
    for descriptor in (output[1], errors[1], ready[1], go[0]):
        os.close(descriptor)
    failure = _release(directory, child, ready[0], go[1])
    os.write(REPORT, failure or b"+")
    os.close(REPORT)
    log = Log(start["log"], output[0], errors[0])
    code = log.follow(child)
    _write_exit(directory, START_FAILED if failure else code, "StartError" if failure else "", failure)


def _release(directory: str, child: int, ready: int, go: int) -> bytes:
    """Let the prepared container run once it is recorded; returns why it could not, empty when it runs."""
    failure = os.read(ready, 4096)
    if failure == b"+":
        _write_process(directory, child)
        os.write(go, b"+")
        failure = os.read(ready, 4096)  # closed by exec
    elif not failure:
        failure = b"the container's first process ended before it ran"
    os.close(ready)
    os.close(go)
    return failure


def _write_process(directory: str, child: int) -> None:
    """`SHIM START CHILD START NANOSECONDS`: both processes' identity, and when the container began to run."""
    own, other = state_and_start(os.getpid()), state_and_start(child)
    text = f"{os.getpid()} {own[1] if own else 0} {child} {other[1] if other else 0} {time.time_ns()}"
    _write(f"{directory}/process", text.encode())


def _write_exit(directory: str, code: int, reason: str, message: bytes) -> None:
    head = f"{code} {time.time_ns()} {reason}\n"
    _write(f"{directory}/exit", head.encode() + message)


def _write(path: str, content: bytes) -> None:
    """Whole or not at all."""
    temporary = path + ".new"
    with open(temporary, "wb") as file:
        file.write(content)
    os.rename(temporary, path)


class Log:
    """Copies a container's output into its log: `TIME STREAM F|P LINE` (CRI log format)."""

    def __init__(self, path: str, output: int, errors: int) -> None:
        self._path = path
        self._streams = {output: b" stdout ", errors: b" stderr "}
        self._rest = {output: b"", errors: b""}
        self._second = 0
        self._prefix = b""
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def follow(self, child: int) -> int:
        """Copy until the container has ended and its output is read; returns its exit code."""
        ended = os.pidfd_open(child)
        poll = select.poll()
        for descriptor in (ended, *self._streams):
            poll.register(descriptor, select.POLLIN)
        code = -1
        until = 0.0
        streams = len(self._streams)
        while code < 0 or (streams and time.monotonic() < until):
            for descriptor, _ in poll.poll(None if code < 0 else int(DRAIN_SECONDS * 1000)):
                if descriptor == ended:
                    code = exit_code(os.waitpid(child, 0)[1])
                    until = time.monotonic() + DRAIN_SECONDS
                elif self._copy(descriptor):
                    continue
                else:
                    streams -= 1
                poll.unregister(descriptor)
        return code

    def _copy(self, descriptor: int) -> bool:
        """Copy what is there; False at the end of the stream."""
        data = os.read(descriptor, 1 << 16)
        stream = self._streams[descriptor]
        lines = (self._rest[descriptor] + data).split(b"\n")
        rest = lines.pop()
        parts = [record for line in lines for record in self._records(stream, line)]
        while len(rest) > LONGEST_LINE or (rest and not data):
            parts.append(self._stamp() + stream + b"P " + rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._rest[descriptor] = rest
        if parts:
            self._append(b"\n".join(parts) + b"\n")
        return bool(data)

    def _records(self, stream: bytes, line: bytes) -> list[bytes]:
        stamp = self._stamp()
        records = []
        while len(line) > LONGEST_LINE:
            records.append(stamp + stream + b"P " + line[:LONGEST_LINE])
            line = line[LONGEST_LINE:]
        records.append(stamp + stream + b"F " + line)
        return records

    def _stamp(self) -> bytes:
        """RFC 3339 with nanoseconds, in UTC."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%s.%09dZ" % (self._prefix, nanoseconds)

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > LOG_SIZE:
            os.close(self._file)
            os.rename(self._path, self._path + ".1")
            self._open()
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)


def exit_code(status: int) -> int:
    """A wait status as a shell shows it: 128 + signal for a process that was killed."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
