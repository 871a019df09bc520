"""Starts the small processes beside containers: a bare interpreter, one module, and descriptors by number."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import twinstack

_OWN_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)


def spawn(module: str, arguments: Sequence[str], given: Mapping[int, int], log: Path | None = None) -> int:
    """Run `main()` of a module of twinstack in a session of its own; returns its process number.

    `given` are its descriptors. Without one, 0 to 2 are /dev/null, or 1 and 2 the file `log`. Raises OSError, and
    ValueError for arguments that no program can be given.
    """
    source = str(Path(twinstack.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r}); from {module} import main; main()"
    # Duplicates above the numbers that they become, so that none overwrites another.
    high = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for number, descriptor in given.items()}
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2)
    ]
    if log is not None:
        actions.append((os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
    actions += [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in high.items()]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", code, *arguments],
            {"PATH": os.environ.get("PATH", "")},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_OWN_SIGNALS,
        )
    finally:
        for descriptor in high.values():
            os.close(descriptor)
