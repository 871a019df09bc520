"""Mounts: bind, overlay, tmpfs, and what is mounted where (mount(2), proc(5)).

The process that is left beside every container runs this, so it imports little.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys

from twinstack.linux.syscalls import check, libc

RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
REMOUNT = 0x20
BIND = 0x1000
REC = 0x4000
PRIVATE = 0x40000
SLAVE = 0x80000

_DETACH = 2
_LONGEST_OPTIONS = 4000  # the kernel takes one page of them; descriptors stand for the names of many layers
_AT_FDCWD = ctypes.c_int(-100)
_OPEN_TREE_CLONE = 1
_MOVE_EMPTY_PATH = 4
_EMPTY_PATH = 0x1000
_RESOLVE_NO_MAGIC_LINKS, _RESOLVE_BENEATH, _RESOLVE_IN_ROOT = 2, 8, 16
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_OPENAT2 = 428, 429, 437  # the same on every architecture
_OCTAL = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}  # how the kernel writes them in mountinfo
_STATVFS_FLAGS = ((os.ST_NOSUID, NOSUID), (os.ST_NODEV, NODEV), (os.ST_NOEXEC, NOEXEC), (os.ST_RDONLY, RDONLY))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    result = libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) if kind else None,
        ctypes.c_ulong(flags),
        os.fsencode(options) if options else None,
    )
    check(result, f"mount {kind or source} on {target}")


def bind(source: str, target: str, flags: int = 0, *, recursive: bool = False) -> None:
    """Show `source` at `target`; `flags` (RDONLY, NODEV …) are added to those that the source's mount has.

    The kernel takes the flags of a bind only in a second call, and refuses to drop locked ones.
    """
    mount(source, target, "", BIND | (REC if recursive else 0))
    if flags:
        remount(target, flags)


def remount(target: str, flags: int) -> None:
    """Add `flags` to the mount at `target`, and to no other mount of the same file system."""
    present = os.statvfs(target).f_flag
    for stat_flag, mount_flag in _STATVFS_FLAGS:
        if present & stat_flag:
            flags |= mount_flag
    mount("", target, "", BIND | REMOUNT | flags)


def open_tree_beneath(directory: str, path: str) -> int:
    """As `open_tree`, for a path below a directory that no link can lead out of (openat2(2), Linux 5.6).

    What is missing is made: directories. Raises OSError.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    opened = [os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for count, name in enumerate(names, 1):
            below = "/".join(names[:count])
            try:
                opened.append(_open_beneath(opened[0], below))
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=opened[-1])
                opened.append(_open_beneath(opened[0], below))
        number, flags = ctypes.c_long(_SYS_OPEN_TREE), _OPEN_TREE_CLONE | _EMPTY_PATH | os.O_CLOEXEC
        result = libc.syscall(number, opened[-1], b"", ctypes.c_uint(flags))
        return check(result, f"open {directory}/{path} for mounting")
    finally:
        for descriptor in opened:
            os.close(descriptor)


def open_beneath(directory: str, path: str) -> int:
    """A descriptor to read the file `path` of a directory, whose links, also absolute ones, stay in it."""
    above = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _openat2(above, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, _RESOLVE_IN_ROOT)
    finally:
        os.close(above)


def _open_beneath(directory: int, path: str) -> int:
    return _openat2(directory, path, os.O_PATH | os.O_CLOEXEC, _RESOLVE_BENEATH)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    fields = (flags, 0, resolve | _RESOLVE_NO_MAGIC_LINKS)
    how = b"".join(field.to_bytes(8, sys.byteorder) for field in fields)
    result = libc.syscall(ctypes.c_long(_SYS_OPENAT2), directory, os.fsencode(path), how, ctypes.c_size_t(len(how)))
    return check(result, f"open {path} inside its directory")


def move_mount(tree: int, target: str) -> None:
    """Attach what `open_tree` opened (move_mount(2))."""
    number = ctypes.c_long(_SYS_MOVE_MOUNT)
    result = libc.syscall(number, tree, b"", _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_MOVE_EMPTY_PATH))
    check(result, f"mount on {target}")


def is_directory(tree: int) -> bool:
    """Whether what `open_tree` opened is a directory."""
    return stat.S_ISDIR(os.fstat(tree).st_mode)


def overlay(target: str, lower: str, upper: str, work: str, flags: int = 0) -> None:
    """Mount `lower`, directories with colons between them, the highest first, at `target` so that writes go to `upper`;
    `work` is an empty directory beside it."""
    for path in (*lower.split(":"), upper, work):
        if "," in path or ":" in path or "\\" in path:
            raise ValueError(f"overlay cannot use a path with a comma, colon or backslash: {path}")
    above = f"upperdir={upper},workdir={work}"
    layers: list[int] = []
    try:
        if len(os.fsencode(lower + above)) > _LONGEST_OPTIONS:
            layers.extend(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lower.split(":"))
            lower = ":".join(f"/proc/self/fd/{layer}" for layer in layers)
        mount("overlay", target, "overlay", flags, f"lowerdir={lower},{above}")
    finally:
        for layer in layers:
            os.close(layer)


def unmount(target: str) -> None:
    """Detach `target` at once; busy files stay usable. No error when nothing is mounted there."""
    if libc.umount2(os.fsencode(target), _DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, f"unmount {target}: {os.strerror(code)}")


def make_private() -> None:
    """Let no mount of the calling thread's namespace reach another one."""
    mount("", "/", "", REC | PRIVATE)


def mounted(below: str = "/", table: str = "/proc/self/mountinfo") -> list[tuple[str, str]]:
    """(mount point, file system type) of every mount at or below a path, in the order of mounting."""
    prefix = below.rstrip("/") + "/"
    found = []
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            front, _, back = line.partition(" - ")
            point = _unescape(front.split(" ")[4])
            if point == below or point.startswith(prefix):
                found.append((point, back.split(" ")[0]))
    return found


def peers(path: str, table: str = "/proc/self/mountinfo") -> tuple[str, frozenset[str]]:
    """The mount that a path is in, and whom else it has to do with: `shared`, `master` (mount_namespaces(7))."""
    found = "/", frozenset[str]()
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            front, _, _ = line.partition(" - ")
            fields = front.split(" ")
            point = _unescape(fields[4])
            if len(point) >= len(found[0]) and f"{path}/".startswith(f"{point.rstrip('/')}/"):
                found = point, frozenset(field.partition(":")[0] for field in fields[6:])
    return found


def is_mount(path: str) -> bool:
    """Whether another file system than its parent's begins at `path`: not so for a bind of the same one."""
    return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev


def unmount_below(path: str) -> None:
    """Detach every mount at or below a path, the innermost first."""
    for point, _ in reversed(mounted(path)):
        unmount(point)


def _unescape(text: str) -> str:
    if "\\" in text:
        for escaped, character in _OCTAL.items():
            text = text.replace(escaped, character)
    return text
