"""The process beside every container: its parent, the holder of its streams, the keeper of its exit code.

It outlives the agent. Started as `python -IS` with the container's directory as argument, descriptor 3 to
report the start on and descriptor 4, a lock that says that it lives. It imports as little as it can: its
memory is paid once a container. When it dies, so does the container.

Files in the directory: `start` (in: what to run), `process` (out: see below), `exit` (out: code, time, reason, then a
message), and the socket `attach` (see switchboard).
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys
import time

from twinstack.linux import cgroups, terminals
from twinstack.linux.procfs import state_and_start
from twinstack.linux.syscalls import CLONE_NEWPID, unshare
from twinstack.node.runtime.log import Log
from twinstack.node.runtime.switchboard import SOCKET, Switchboard

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than all the rest
    from typing import Any

REPORT, LOCK = 3, 4  # descriptors
START_FAILED = 128  # exit code of a container that never ran


def main() -> None:
    directory = sys.argv[1]
    for descriptor in (REPORT, LOCK):
        os.set_inheritable(descriptor, False)
    with open(f"{directory}/start", "rb") as file:
        start = marshal.load(file)
    listener = _listen(directory)
    ready, go = os.pipe(), os.pipe()
    near, far = _streams(start)
    unshare(CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        from twinstack.node.runtime.rootfs import run

        run(start, far, ready[1], go[0])
    failure = _release(directory, child, (ready, go), start["cgroups"])
    terminal = -1
    if start["tty"]:
        terminal = terminals.receive(near[0]) if not failure else -1
        near = [terminal if start["stdin"] else -1, terminal, -1]
    for descriptor in far:
        if descriptor >= 0:
            os.close(descriptor)
    outputs = {stream: near[stream] for stream in (1, 2) if near[stream] >= 0}
    os.write(REPORT, failure or b"+")
    os.close(REPORT)
    board = Switchboard(Log(start["log"]), outputs, near[0], terminal, listener, once=start["stdin_once"])
    code = board.follow(os.pidfd_open(child), lambda: exit_code(os.waitpid(child, 0)[1]))
    reason = "StartError" if failure else "OOMKilled" if code and cgroups.oom_kills(start["cgroups"]) else ""
    _write_exit(directory, START_FAILED if failure else code, reason, failure)
    cgroups.remove(start["cgroups"])


def _listen(directory: str) -> _socket.socket:
    """The socket for whoever wants to attach. Its path is relative: the kernel takes only short ones."""
    os.chdir(directory)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    listener.bind(SOCKET)
    listener.listen(8)
    listener.setblocking(False)
    return listener


def _streams(start: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Our ends and the container's: input (-1: none), output and errors by number, or for a terminal the ends of a
    socket by which its master comes."""
    if start["tty"]:
        near, far = _socket.socketpair()
        return [near.detach(), -1, -1], [far.detach(), -1, -1]
    given = os.pipe() if start["stdin"] else (-1, -1)
    output, errors = os.pipe(), os.pipe()
    return [given[1], output[0], errors[0]], [given[0], output[1], errors[1]]


def _release(directory: str, child: int, pipes: tuple[tuple[int, int], tuple[int, int]], groups: list[str]) -> bytes:
    """Let the prepared container run once it is recorded; returns why it could not, empty when it runs."""
    (ready, theirs), (ours, go) = pipes
    os.close(theirs)
    os.close(ours)
    failure = os.read(ready, 4096)
    if failure == b"+":
        try:
            cgroups.join(groups, child)
            _write_process(directory, child)
            os.write(go, b"+")
            failure = os.read(ready, 4096)  # closed by exec
        except OSError as error:
            failure = str(error).encode()
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


def exit_code(status: int) -> int:
    """A wait status as a shell shows it: 128 + signal for a process that was killed."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
