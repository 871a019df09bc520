"""The process that runs one more program in a container (`kubectl exec`): its parent, and its end.

Started as `python -IS` with the container's directory, `tty` or `pipes`, and the program's words as arguments.
Descriptors: 0 to 2 are the program's unless it gets a terminal, 3 is the agent's end of a socket, 4 a pidfd of the
container's first process. It says `+` on the socket once the program runs, with the terminal's master as ancillary
data, or else why it does not. It ends with the program's exit code; when the agent closes the socket, or ends, the
program is killed.
"""

from __future__ import annotations

import _socket
import encodings.ascii  # noqa: F401 - what is needed after the container's files have taken the place of the node's
import marshal
import os
import select
import sys

from twinstack.linux import cgroups, terminals
from twinstack.linux.syscalls import enter_process
from twinstack.node.runtime import rootfs
from twinstack.node.runtime.shim import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than all the rest
    from typing import Any, NoReturn

CONTROL, CONTAINER = 3, 4  # descriptors
HANG_UP_SECONDS = 0.5  # between the loss of the terminal, which a shell tells its jobs, and SIGKILL
_SIGKILL = 9


def main() -> None:
    for descriptor in (CONTROL, CONTAINER):
        os.set_inheritable(descriptor, False)
    directory, kind, *command = sys.argv[1:]
    with open(f"{directory}/start", "rb") as file:
        start = marshal.load(file)
    control = _socket.socket(fileno=CONTROL)
    try:
        groups = cgroups.open_members(start["cgroups"])
        enter_process(CONTAINER)
        pair = terminals.open_pair(start["user"]) if kind == "tty" else None
        child, failure = _spawn(start, command, pair, groups)
    except OSError as error:
        child, failure = 0, rootfs.explain(error).encode()
    if failure:
        control.send(failure[:4000])
        os._exit(1)
    if pair:
        terminals.send(CONTROL, pair[0])
    else:
        control.send(b"+")
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)  # the program alone holds its ends
    for descriptor in pair or ():
        os.close(descriptor)
    os._exit(_wait(child, patience=HANG_UP_SECONDS if pair else 0))


def _spawn(
    start: dict[str, Any], command: list[str], pair: tuple[int, int] | None, groups: list[int]
) -> tuple[int, bytes]:
    """The program's process number, and why it does not run; empty when it does."""
    status, far = os.pipe()
    child = os.fork()
    if child == 0:
        _become(start, command, pair, far, groups)
    os.close(far)
    failure = os.read(status, 4096)  # closed by exec
    os.close(status)
    if failure:
        os.waitpid(child, 0)
    return child, failure


def _become(
    start: dict[str, Any], command: list[str], pair: tuple[int, int] | None, status: int, groups: list[int]
) -> NoReturn:
    try:
        for descriptor in groups:
            os.write(descriptor, b"0")
        if pair:
            terminals.take(pair[1])
        else:
            os.setsid()  # so that one signal reaches all that it starts
        try:
            os.chdir(start["directory"])
        except FileNotFoundError:
            os.chdir("/")
        rootfs.give_up_rights(start)
        rootfs.execute(command, rootfs.environment(start, terminal=pair is not None))
    except (OSError, ValueError) as error:
        os.write(status, rootfs.explain(error).encode()[:4000])
    os._exit(1)


def _wait(child: int, patience: float) -> int:
    """The program's exit code. It is killed once the agent wants no more of it."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(CONTROL, select.POLLIN)
    if all(descriptor != ended for descriptor, _ in poll.poll()):
        poll.unregister(CONTROL)
        if not poll.poll(patience * 1000):
            os.killpg(child, _SIGKILL)
    return exit_code(os.waitpid(child, 0)[1])
