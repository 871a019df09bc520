"""Removes all that an agent has left on the machine: for a cluster that is taken down."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from pathlib import Path

from twinstack.linux import cgroups, mounts, namespaces, processes
from twinstack.node import hostports, masquerade
from twinstack.node.routes import NodeRoutes
from twinstack.node.runtime.layout import Layout

_NAMESPACE = "namespace"  # file in the root directory
PATIENCE = 5.0  # seconds for killed processes to go

log = logging.getLogger(__name__)


def remove_everything(root: Path, netns_prefix: str) -> int:
    """Kill the containers below `root`, unmount, unpin the pods' namespaces, delete `root`; returns an exit code.

    The agent must not be running. Its routes and tables are removed if this is the namespace it worked in;
    otherwise they go with that namespace.
    """
    root = root.resolve()
    remaining = _kill(Layout(root))
    if _is_namespace_of(root):
        if (root / "cni").is_dir():
            from twinstack.node.cni.network import detach_all  # rarely needed

            detach_all(root / "cni", netns_prefix)
        masquerade.remove()
        hostports.remove()
        routes = NodeRoutes()
        routes.remove_all()
        routes.close()
    mounts.unmount_below(str(root))
    shutil.rmtree(root, ignore_errors=True)
    if namespaces.RUN_DIRECTORY.is_dir():
        for name in os.listdir(namespaces.RUN_DIRECTORY):
            if _is_pod(name, netns_prefix):
                namespaces.remove(namespaces.RUN_DIRECTORY / name)
    for process in remaining:
        log.error("process %d of a pod is still there", process.pid)
    return 1 if remaining or root.exists() else 0


def remember_namespace(root: Path) -> None:
    """Note in which network namespace the agent of `root` works: the calling thread's."""
    root.mkdir(parents=True, mode=0o700, exist_ok=True)
    (root / _NAMESPACE).write_text(_own_namespace())


def _is_namespace_of(root: Path) -> bool:
    try:
        return (root / _NAMESPACE).read_text() == _own_namespace()
    except FileNotFoundError:
        return False


def _own_namespace() -> str:
    """Of this boot: numbers of namespaces are given anew after the next."""
    return f"{processes.boot_id()} {os.stat('/proc/thread-self/ns/net').st_ino}"


def _is_pod(name: str, prefix: str) -> bool:
    """`PREFIX-` and eight hexadecimal digits."""
    digest = name.removeprefix(f"{prefix}-")
    return len(digest) == 8 and digest != name and all(digit in "0123456789abcdef" for digit in digest)


def _kill(layout: Layout) -> list[processes.Process]:
    """End every container and the process beside it; returns those that did not go."""
    left: list[processes.Process] = []
    for uid in layout.pod_uids():
        for directory in layout.containers(uid):
            running = directory.running()
            if running is not None and directory.exit() is None:
                processes.send_signal(running.first, signal.SIGKILL)
                left += [running.first, running.shim]
    until = time.monotonic() + PATIENCE
    while left and time.monotonic() < until:
        left = [process for process in left if processes.is_alive(process)]
        time.sleep(0.005)
    for process in left:
        processes.send_signal(process, signal.SIGKILL)
    for uid in layout.pod_uids():
        for directory in layout.containers(uid):
            cgroups.remove(directory.groups())
    return [process for process in left if processes.is_alive(process)]
