"""Volumes that are a file or directory of the node (v1 HostPathVolumeSource), and what they are expected to be."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class WrongType(Exception):
    """It is not what the pod expects; kubelet's words."""


def ensure(wish: Mapping[str, Any]) -> None:
    """Make what may be made and is missing. Raises WrongType, OSError."""
    path, kind = wish["path"], wish.get("type") or ""
    if kind in ("", "DirectoryOrCreate") and not os.path.exists(path):
        os.makedirs(path, 0o755)  # untyped ones are made by container runtimes
    if kind == "FileOrCreate" and not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    known = _KINDS.get(kind.removesuffix("OrCreate"))
    if known is None:
        return
    fits, name = known
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = 0
    if not fits(mode):
        raise WrongType(f"hostPath type check failed: {path} is not {name}")
