"""A directory whose files change all at once, as readers of ConfigMap and Secret volumes expect it.

```
..2026_11_24_12_00_00.123456789/key    the files, never changed once they are shown
..data -> ..2026_11_24_12_00_00.123456789
key -> ..data/key
```

A change is a new directory and one rename of the link `..data`; programs watch for that.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from twinstack.node.projection import Content

_LINK = "..data"


def write(directory: Path, files: Mapping[str, Content], group: int | None = None) -> bool:
    """Show these files and no others; whether that was a change. `group`: who may read them as well as the owner."""
    if group is not None:
        files = {path: each._replace(mode=each.mode | 0o440) for path, each in files.items()}
    current = _current(directory)
    if current is not None and _read(current) == dict(files):
        return False
    stamp = time.time_ns()
    name = f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime(stamp // 10**9))}.{stamp % 10**9:09d}"
    _fill(directory / name, files, group)
    replacement = directory / f"{_LINK}_tmp"
    replacement.unlink(missing_ok=True)
    replacement.symlink_to(name)
    replacement.rename(directory / _LINK)
    shown = {path.split("/")[0] for path in files}
    for top in shown:
        link = directory / top
        if not link.is_symlink():
            _discard(link)
            link.symlink_to(f"{_LINK}/{top}")
    for entry in os.listdir(directory):
        if not entry.startswith("..") and entry not in shown:
            _discard(directory / entry)
    if current is not None:
        shutil.rmtree(current)
    return True


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _current(directory: Path) -> Path | None:
    """The directory that is shown; None when nothing is."""
    try:
        return directory / os.readlink(directory / _LINK)
    except FileNotFoundError:
        return None


def _read(directory: Path) -> dict[str, Content]:
    found = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            stat = path.stat()
            found[str(path.relative_to(directory))] = Content(path.read_bytes(), stat.st_mode & 0o7777, stat.st_uid)
    return found


def _fill(directory: Path, files: Mapping[str, Content], group: int | None) -> None:
    directory.mkdir()
    directories = [directory]
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        directories.append(target.parent)
        target.write_bytes(content.data)
        if group is not None or content.owner:
            os.chown(target, content.owner, -1 if group is None else group)
        os.chmod(target, content.mode)
    for made in directories:
        os.chmod(made, 0o755)
