"""The window of the terminal that a process is on (pty(7), proc(5))."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from twinstack.linux import procfs

_MASTERS = 136  # major device number of Unix 98 terminals; the minor one is their name in /dev/pts


def set_size(pid: int, columns: int, rows: int) -> bool:
    """Tell the programs on the controlling terminal of a process how large its window is (SIGWINCH).

    False when there is no such process, or it has no pseudo-terminal. The terminal is looked up in the process's own
    /dev/pts, and must be the one that the kernel names: whatever else lies there is not touched.
    """
    device = procfs.terminal(pid)
    if os.major(device) != _MASTERS:
        return False
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        slave = os.open(f"/proc/{pid}/root/dev/pts/{os.minor(device)}", flags)
    except OSError:
        return False
    try:
        if os.fstat(slave).st_rdev != device:
            return False
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("=4H", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0))
    finally:
        os.close(slave)
    return True
