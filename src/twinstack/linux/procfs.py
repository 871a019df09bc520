"""What /proc says about a process (proc(5))."""

from __future__ import annotations


def state_and_start(pid: int) -> tuple[str, int] | None:
    """The state's letter (Z: zombie) and the start time in clock ticks since boot; None without such a process."""
    fields = _stat(pid)
    return (fields[0].decode(), int(fields[19])) if fields else None


def terminal(pid: int) -> int:
    """The device number of its controlling terminal; 0 without one, or without such a process."""
    fields = _stat(pid)
    return int(fields[4]) if fields else 0


def group(pid: int) -> int:
    """The process group that it is in; 0 without such a process."""
    fields = _stat(pid)
    return int(fields[2]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    """From its state on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()  # the name before it may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return []
