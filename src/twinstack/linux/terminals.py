"""Pseudo-terminals: a pair of descriptors, the controlling terminal of a session, the window's size (pty(7)).

Imports as little as it can: the processes beside containers run this.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414


def open_pair(owner: int) -> tuple[int, int]:
    """Master and slave of a new terminal of the calling process's /dev/pts; the slave belongs to user `owner`."""
    master, slave = os.openpty()
    os.fchown(slave, owner, -1)
    return master, slave


def take(slave: int) -> None:
    """Begin a session with `slave` as its terminal and as the standard descriptors of the calling process."""
    os.setsid()
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for descriptor in (0, 1, 2):
        os.dup2(slave, descriptor)


def set_size(master: int, columns: int, rows: int) -> None:
    """Tell the programs on the terminal how large its window is (SIGWINCH). Raises OSError."""
    fcntl.ioctl(master, _TIOCSWINSZ, struct.pack("=4H", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0))


def send(socket: int, master: int, message: bytes = b"+") -> None:
    """Hand a descriptor over to the process at the other end of a Unix socket (unix(7))."""
    end = _socket.socket(fileno=os.dup(socket))
    end.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("=i", master))])
    end.close()


def receive(socket: int) -> int:
    """Take the descriptor that was sent, and close the socket. Raises OSError when there is none."""
    end = _socket.socket(fileno=socket)
    _, given, _, _ = end.recvmsg(1, 64, _socket.MSG_CMSG_CLOEXEC)
    end.close()
    if not given:
        raise OSError("no terminal was handed over")
    return int(struct.unpack_from("=i", given[0][2])[0])
