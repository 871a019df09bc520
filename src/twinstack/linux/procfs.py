"""What /proc says about a process (proc(5)).

Imports nothing: the process that is left beside every container runs this.
"""

from __future__ import annotations


def state_and_start(pid: int) -> tuple[str, int] | None:
    """The state's letter (Z: zombie) and the start time in clock ticks since boot; None without such a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[19])
