"""A container's root: the layers of its image under a directory that takes the writes (overlayfs).

It is mounted for as long as the OCI runtime needs to make the container, whose own mount namespace then keeps it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from twinstack.linux import mounts
from twinstack.node.runtime.base import Mount
from twinstack.node.runtime.specification import Shown

_DISK = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"})
_LONGEST = 64 << 10  # of /etc/passwd and /etc/group, as far as they are read


class RootDirectory:
    """`root` in a container's directory, with what belongs to it: `upper`, `work`; `mounts` for parts of volumes."""

    def __init__(self, container: Path) -> None:
        self.path = container / "root"
        self._upper = container / "upper"
        self._work = container / "work"
        self._parts = container / "mounts"
        self._memory = container / "memory"

    def mount(self, layers: Sequence[Path]) -> None:
        """`layers`: the lowest first. Where the kernel refuses an overlay above this disk, writes go to memory."""
        for directory in (self.path, self._upper, self._work):
            directory.mkdir(parents=True, exist_ok=True)
        os.chmod(self._upper, 0o755)
        lower = ":".join(str(layer) for layer in reversed(layers))
        try:
            mounts.overlay(str(self.path), lower, str(self._upper), str(self._work))
        except OSError:
            upper, work = self._memory / "upper", self._memory / "work"
            self._memory.mkdir(exist_ok=True)
            mounts.mount("tmpfs", str(self._memory), "tmpfs", mounts.NOSUID, "mode=755")
            upper.mkdir()
            work.mkdir()
            mounts.overlay(str(self.path), lower, str(upper), str(work))

    def read(self, path: str) -> str:
        """A short file of it, no link leading out; empty if there is none."""
        try:
            descriptor = mounts.open_beneath(str(self.path), path)
        except OSError:
            return ""
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST)

    def shown(self, given: Iterable[Mount]) -> list[Shown]:
        """What to bind. Parts of volumes are opened now, so that no link in them leads out when they are bound."""
        found = []
        for number, mount in enumerate(given):
            source = mount.source
            if mount.sub_path:
                source = str(self._parts / str(number))
                self._open_part(mount, Path(source))
            found.append(Shown(source, mount.target, mount.read_only, mount.propagation, mount.recursive_read_only))
        return found

    def _open_part(self, mount: Mount, place: Path) -> None:
        tree = mounts.open_tree_beneath(mount.source, mount.sub_path)
        try:
            self._parts.mkdir(exist_ok=True)
            if mounts.is_directory(tree):
                place.mkdir()
            else:
                place.touch()
            mounts.move_mount(tree, str(place))
        finally:
            os.close(tree)

    def unmount(self) -> None:
        """Idempotent. A container that has been made keeps its root."""
        mounts.unmount(str(self.path))
        mounts.unmount(str(self._memory))
        if self._parts.is_dir():
            for name in os.listdir(self._parts):
                mounts.unmount(str(self._parts / name))

    def remove(self) -> None:
        self.unmount()
        for directory in (self._upper, self._work, self._parts, self._memory):
            shutil.rmtree(directory, ignore_errors=True)


def submounts(masks: Iterable[str]) -> list[Shown]:
    """Disks mounted below the node's root, which an overlay of it does not show; those under masks are left out."""
    return [
        Shown(point, point, read_only=True)
        for point, kind in mounts.mounted()
        if kind in _DISK and point != "/" and not any(f"{point}/".startswith(f"{mask}/") for mask in masks)
    ]
