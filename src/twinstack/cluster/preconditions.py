"""What must be so before a cluster is made: privileges, room, a place that can be written."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from twinstack.cluster.errors import ClusterError
from twinstack.linux import capabilities

NEEDED = ("NET_ADMIN", "SYS_ADMIN")  # to make interfaces, and namespaces and mounts
LEAST_ROOM = 32 << 20  # bytes for the store, logs and certificates of a small cluster
_LEAST_FILES = 256

INSTALL = "apt-get install -y --no-install-recommends runc conmon busybox-static"
ELSEWHERE = "let TWINSTACK_HOME name a directory elsewhere"
_ADVICE = {
    errno.ENOSPC: f"free some space, or {ELSEWHERE}",
    errno.EDQUOT: f"free some space, or {ELSEWHERE}",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: f"make it writable, or {ELSEWHERE}",
    errno.ENOTDIR: ELSEWHERE,
    errno.EEXIST: ELSEWHERE,
    errno.ENAMETOOLONG: f"{ELSEWHERE}, with a shorter path",
}


def check_privileges() -> None:
    """Raises ClusterError for who may not make network namespaces."""
    if os.geteuid() != 0:
        raise ClusterError(
            "a cluster is made of network namespaces, which need root", "run the same command again with sudo"
        )
    missing = [f"CAP_{name}" for name in NEEDED if name not in capabilities.effective()]
    if missing:
        raise ClusterError(
            f"this is root without {' and '.join(missing)}, which network namespaces need",
            "in a container, start it with `--privileged`; otherwise run the command outside of what took them away",
        )


def check_programs() -> None:
    """Raises ClusterError when nothing here makes containers. `twinstack doctor` says more."""
    missing = [name for name in ("conmon", "busybox") if shutil.which(name) is None]
    if not any(shutil.which(name) for name in ("crun", "runc")):
        missing.append("runc")
    if missing:
        raise ClusterError(f"pods are made by programs that are missing: {', '.join(missing)}", INSTALL)


def check_space(directory: Path) -> None:
    """Raises ClusterError when the file system of an existing directory is read-only or almost full."""
    found = os.statvfs(directory)
    if found.f_flag & os.ST_RDONLY:
        raise ClusterError(f"{directory} is on a read-only file system", _ADVICE[errno.EROFS])
    room = found.f_bavail * found.f_frsize
    if room < LEAST_ROOM:
        raise ClusterError(
            f"{directory} has {room >> 20} MiB free and a cluster needs {LEAST_ROOM >> 20} MiB", _ADVICE[errno.ENOSPC]
        )
    if found.f_files and found.f_favail < _LEAST_FILES:
        raise ClusterError(f"{directory} has room for {found.f_favail} more files", _ADVICE[errno.ENOSPC])


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what file systems refuse into words and advice."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        raise ClusterError(f"{error.filename or 'the state directory'}: {error.strerror}", advice) from None
