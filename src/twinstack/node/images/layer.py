"""Unpacks one layer of an image into a directory, in the form that overlayfs stacks (OCI image-spec, layer.md).

The archive is nobody's friend. Every path is resolved by the kernel beneath the directory (openat2 with
RESOLVE_IN_ROOT), links included, so that a name like `/etc` or a link that points out means a place inside; a name
with `..` is refused. Files are always new ones: nothing is written through a link. Devices are left out, for
containers have their own; what deletes files of lower layers becomes what overlayfs understands (whiteouts are
character devices 0:0, opaque directories have an attribute), and no other way leads to such a mark.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import shutil
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from twinstack.linux.syscalls import libc
from twinstack.node.images.compression import Hashed, Reader, opened
from twinstack.node.images.errors import ImageError
from twinstack.node.images.overlay import delete_lower, hide_lower
from twinstack.node.images.tarstream import Entry, TarStream

_WHITEOUT, _AUFS, _OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"
_DEEPEST, _LONGEST = 256, 4096  # components and bytes of a path
_LARGEST_ID = 2**32 - 2
_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 1, 2, 16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Limits(NamedTuple):
    """What one layer may come to: bytes of its archive, and entries."""

    size: int = 64 << 30
    entries: int = 2_000_000


LIMITS = Limits()


class Unpacked(NamedTuple):
    """`diff_id`: the digest of the archive without compression. `size`: its bytes."""

    diff_id: str
    size: int


def unpack(source: Reader, target: Path, limits: Limits = LIMITS) -> Unpacked:
    """Unpack an archive, compressed or not, into the new directory `target`. Raises ImageError, OSError."""
    target.mkdir(mode=0o755)
    archive = Hashed(opened(source), limits.size)
    layer = _Layer(target)
    try:
        stream = TarStream(archive)
        for number, entry in enumerate(stream, 1):
            if number > limits.entries:
                raise ImageError(f"a layer has more than {limits.entries} entries")
            try:
                layer.add(entry, stream)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise
                raise ImageError(f"cannot unpack {entry.name[:200]!r}: {error.strerror}") from None
        layer.finish()
        archive.drain()
    finally:
        layer.close()
    return Unpacked(archive.digest, archive.count)


class _Layer:
    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        self._parent: tuple[tuple[str, ...], int] | None = None  # the directory of the last entry
        self._times: dict[tuple[str, ...], float] = {}  # of directories: what is put into them changes it

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def add(self, entry: Entry, stream: TarStream) -> None:
        path = _components(entry.name)
        if not path:
            if entry.is_directory:
                self._dress(self._root, path, entry)
            return
        *above, name = path
        if any(part.startswith(_WHITEOUT) for part in above):
            raise ImageError(f"a path leads through a deletion mark: {entry.name[:200]!r}")
        parent = self._directory(tuple(above))
        if name.startswith(_WHITEOUT):
            self._delete_lower(parent, name)
        elif entry.is_directory:
            self._add_directory(parent, path, entry)
        elif entry.is_file:
            self._add_file(parent, name, entry, stream)
        elif entry.kind == tarfile.LNKTYPE:
            self._add_hard_link(parent, name, entry)
        elif entry.kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE):
            self._add_special(parent, name, entry)
        elif entry.kind not in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            raise ImageError(f"an entry of unknown type {entry.kind!r}: {entry.name[:200]!r}")

    def finish(self) -> None:
        """Give directories the times that they should have."""
        for path, when in self._times.items():
            try:
                descriptor = self._open(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # something else came to its place
            try:
                os.utime(descriptor, (when, when))
            finally:
                os.close(descriptor)

    # --- directories

    def _directory(self, path: tuple[str, ...]) -> int:
        """A descriptor of a directory in the layer, which is made if it is not there; the caller does not close it."""
        if not path:
            return self._root
        if self._parent is not None and self._parent[0] == path:
            return self._parent[1]
        try:
            descriptor = self._open(path)
        except (FileNotFoundError, NotADirectoryError):  # nothing is there, or a deletion mark
            for depth in range(1, len(path) + 1):
                self._make_directory(path[:depth])
            descriptor = self._open(path)
        self._forget()
        self._parent = path, descriptor
        return descriptor

    def _make_directory(self, path: tuple[str, ...]) -> None:
        above = self._open(path[:-1])
        try:
            os.mkdir(path[-1], 0o755, dir_fd=above)
            os.chmod(path[-1], 0o755, dir_fd=above)
        except FileExistsError:
            if stat.S_ISCHR(os.stat(path[-1], dir_fd=above, follow_symlinks=False).st_mode):
                self._replace_whiteout(above, path[-1])
        finally:
            os.close(above)

    def _open(self, path: Sequence[str]) -> int:
        return _open_in(self._root, "/".join(path) or ".", _DIRECTORY)

    def _add_directory(self, parent: int, path: tuple[str, ...], entry: Entry) -> None:
        name = path[-1]
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISCHR(mode):
                self._replace_whiteout(parent, name)
            elif not stat.S_ISDIR(mode):
                self._make_room(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            self._dress(descriptor, path, entry)
        finally:
            os.close(descriptor)

    def _dress(self, descriptor: int, path: tuple[str, ...], entry: Entry) -> None:
        os.fchown(descriptor, *_owner(entry))
        os.fchmod(descriptor, entry.mode)
        _set_attributes(descriptor, entry)
        self._times[path] = _time(entry)

    # --- deletions

    def _delete_lower(self, parent: int, name: str) -> None:
        """A mark concerns lower layers only: what this one has of that name stays."""
        if name == _OPAQUE:
            hide_lower(parent)
            return
        if name.startswith(_AUFS):
            return  # what the file system of that name kept for itself
        deleted = name.removeprefix(_WHITEOUT)
        if deleted in ("", ".", ".."):
            raise ImageError(f"a deletion mark without a name: {name!r}")
        try:
            delete_lower(parent, deleted)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(deleted, dir_fd=parent, follow_symlinks=False).st_mode):
                descriptor = os.open(deleted, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    hide_lower(descriptor)
                finally:
                    os.close(descriptor)

    def _replace_whiteout(self, parent: int, name: str) -> None:
        """A directory in the place of what was deleted shows nothing of that."""
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            hide_lower(descriptor)
        finally:
            os.close(descriptor)

    # --- files

    def _add_file(self, parent: int, name: str, entry: Entry, stream: TarStream) -> None:
        self._make_room(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        with open(descriptor, "wb", buffering=0) as file:
            for data in stream.content():
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
            os.fchown(descriptor, *_owner(entry))
            os.fchmod(descriptor, entry.mode)
            _set_attributes(descriptor, entry)
            os.utime(descriptor, (_time(entry), _time(entry)))

    def _add_hard_link(self, parent: int, name: str, entry: Entry) -> None:
        """To a file that came before in the same layer."""
        target = _components(entry.link)
        if not target:
            raise ImageError(f"the hard link {entry.name[:200]!r} leads nowhere")
        try:
            above = self._open(target[:-1])
        except FileNotFoundError:
            raise _lost(entry) from None
        try:
            found = os.stat(target[-1], dir_fd=above, follow_symlinks=False)
            if stat.S_ISCHR(found.st_mode) or stat.S_ISDIR(found.st_mode):
                raise ImageError(f"the hard link {entry.name[:200]!r} does not lead to a file")
            if not _is_same(found, parent, name):
                self._make_room(parent, name)
                os.link(target[-1], name, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise _lost(entry) from None
        finally:
            os.close(above)

    def _add_special(self, parent: int, name: str, entry: Entry) -> None:
        self._make_room(parent, name)
        if entry.kind == tarfile.FIFOTYPE:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            if not entry.link or "\0" in entry.link:
                raise ImageError(f"the link {entry.name[:200]!r} leads nowhere")
            os.symlink(entry.link, name, dir_fd=parent)  # to where it leads inside of a container
        os.chown(name, *_owner(entry), dir_fd=parent, follow_symlinks=False)
        if entry.kind == tarfile.FIFOTYPE:
            os.chmod(name, entry.mode, dir_fd=parent)
        os.utime(name, (_time(entry), _time(entry)), dir_fd=parent, follow_symlinks=False)

    def _make_room(self, parent: int, name: str) -> None:
        """What comes later in an archive counts."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if self._parent is not None and self._parent[1] != parent:
            self._forget()  # it may have been found by way of what goes now
        if stat.S_ISDIR(mode):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _forget(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None


def _components(name: str) -> tuple[str, ...]:
    """The parts of a path beneath the layer; none for the layer itself. Raises ImageError."""
    if "\0" in name or len(os.fsencode(name)) > _LONGEST:
        raise ImageError(f"a path in the archive is not one: {name[:200]!r}")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ImageError(f"a path in the archive leads out of it: {name[:200]!r}")
    if len(parts) > _DEEPEST:
        raise ImageError(f"a path in the archive is too deep: {name[:200]!r}…")
    return parts


def _owner(entry: Entry) -> tuple[int, int]:
    if not (0 <= entry.uid <= _LARGEST_ID and 0 <= entry.gid <= _LARGEST_ID):
        raise ImageError(f"{entry.name[:200]!r} has the owner {entry.uid}:{entry.gid}")
    return entry.uid, entry.gid


def _time(entry: Entry) -> float:
    return min(max(entry.mtime, 0.0), 2.0**33) if math.isfinite(entry.mtime) else 0.0


def _set_attributes(descriptor: int, entry: Entry) -> None:
    """Capabilities of files, and users' attributes; none that overlayfs or a security module acts on."""
    for name, value in entry.attributes.items():
        if name == "security.capability":
            os.setxattr(descriptor, name, value)
        elif name.startswith("user.") and not name.startswith("user.overlay."):
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise


def _lost(entry: Entry) -> ImageError:
    return ImageError(f"the hard link {entry.name[:200]!r} leads to {entry.link[:200]!r}, which is not in its layer")


def _is_same(target: os.stat_result, parent: int, name: str) -> bool:
    """Whether a link would take the place of its own target."""
    try:
        return os.path.samestat(target, os.stat(name, dir_fd=parent, follow_symlinks=False))
    except FileNotFoundError:
        return False


class _How(ctypes.Structure):
    """struct open_how."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _open_in(root: int, path: str, flags: int) -> int:
    """openat2(2): as if `root` were the root of everything."""
    how = _How(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV)
    arguments = ctypes.c_long(_SYS_OPENAT2), root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)
    descriptor = libc.syscall(*arguments)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return int(descriptor)
