"""How overlayfs is told that something of lower layers is not to be seen (Linux, filesystems/overlayfs)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OPAQUE = "trusted.overlay.opaque"


def delete_lower(parent: int, name: str) -> None:
    """A name is gone: a character device 0:0 has it. Raises FileExistsError."""
    os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)


def hide_lower(directory: int) -> None:
    """Nothing of lower layers is seen in the directory of this descriptor."""
    os.setxattr(directory, _OPAQUE, b"y")


def is_opaque(directory: Path) -> bool:
    """Whether that has been said of it."""
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
