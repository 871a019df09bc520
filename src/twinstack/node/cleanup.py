"""Removes all that an agent has left on the machine: for a cluster that is taken down."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from twinstack.linux import mounts, namespaces, processes
from twinstack.node import hostports, masquerade
from twinstack.node.routes import NodeRoutes
from twinstack.node.runtime import adoption
from twinstack.node.runtime.records import Layout

_NAMESPACE = "namespace"  # file in the root directory

log = logging.getLogger(__name__)


def remove_everything(root: Path, netns_prefix: str) -> int:
    """Kill the containers below `root`, unmount, unpin the pods' namespaces, delete `root`; returns an exit code.

    The agent must not be running. Its routes and tables are removed if this is the namespace it worked in;
    otherwise they go with that namespace.
    """
    root = root.resolve()
    gone = adoption.destroy(Layout(root))
    if _is_namespace_of(root):
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
    if not gone:
        log.error("a process of a pod is still there")
    return 0 if gone and not root.exists() else 1


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
