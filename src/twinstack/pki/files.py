"""Files that hold secrets: never readable by others, not even for a moment, and never half written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_secret(path: Path | str, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by a file with `data`: a reader sees the old content or the new, whole.

    Missing directories are made for the owner alone (0700).
    """
    target = Path(path)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
