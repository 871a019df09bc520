"""The supervisor as other commands see it: started, asked and told to stop."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any, NamedTuple

from twinstack.cluster.errors import ClusterError
from twinstack.cluster.parts import program
from twinstack.cluster.state import ClusterPaths
from twinstack.linux import processes

GO = b"go\n"  # tells a supervisor that network and certificates are there

_ANSWER = 2.0  # seconds within which a supervisor answers
_STOP = 15.0  # seconds within which it has ended all parts, by force if need be


class PartReport(NamedTuple):
    """One process of the cluster as the supervisor sees it. `since` is a Unix time."""

    name: str
    node: str
    state: str  # running, waiting (for its next start), stopped
    pid: int | None
    since: float
    restarts: int
    last_exit: str


def parts_running(paths: ClusterPaths) -> list[PartReport] | None:
    """What the supervisor says of its parts; None when there is no supervisor."""
    answer = _ask(paths, b"status\n", _ANSWER)
    if answer is None:
        return None
    return [
        PartReport(p["name"], p["node"], p["state"], p["pid"], p["since"], p["restarts"], p["lastExit"])
        for p in answer["parts"]
    ]


def changing(paths: ClusterPaths) -> list[str] | None:
    """The parts that the supervisor has yet to change after a reload; None when there is no supervisor."""
    answer = _ask(paths, b"status\n", _ANSWER)
    return None if answer is None else list(answer["changing"])


def reload(paths: ClusterPaths) -> bool:
    """Let the supervisor take up the configuration in the state directory; False when there is none."""
    return _ask(paths, b"reload\n", _ANSWER) is not None


def stop(paths: ClusterPaths) -> bool:
    """Let the supervisor stop all parts and itself; False when there was none.

    Raises ClusterError when it does not end.
    """
    with socket.socket(socket.AF_UNIX) as client:
        if not _connect(client, paths):
            return False
        pid = int.from_bytes(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        process = processes.identify(pid)
        client.settimeout(_STOP)
        try:
            client.sendall(b"stop\n")
            client.recv(1024)
        except TimeoutError:
            raise ClusterError(
                f"the supervisor (process {pid}) does not end", f"its log is {paths.logs / 'supervisor.log'}"
            ) from None
        except ConnectionError:
            pass  # it died while it was asked, which is what was wanted
    deadline = time.monotonic() + _ANSWER
    while process is not None and processes.is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.005)
    return True


def start(paths: ClusterPaths) -> int:
    """Start a supervisor; returns the descriptor that it waits on for the word to go."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        log = os.open(paths.logs / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            command = (*program(), "supervise", "--name", paths.name)
            actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)
        finally:
            os.close(log)
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    return writer


def _ask(paths: ClusterPaths, question: bytes, patience: float) -> dict[str, Any] | None:
    with socket.socket(socket.AF_UNIX) as client:
        if not _connect(client, paths):
            return None
        client.settimeout(patience)
        data = b""
        try:
            client.sendall(question)
            while chunk := client.recv(1 << 16):
                data += chunk
        except ConnectionError:
            return None
        except TimeoutError:
            raise ClusterError(
                "the supervisor does not answer", f"its log is {paths.logs / 'supervisor.log'}"
            ) from None
    answer: dict[str, Any] = json.loads(data)
    return answer


def _connect(client: socket.socket, paths: ClusterPaths) -> bool:
    try:
        client.connect(str(paths.supervisor))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True
