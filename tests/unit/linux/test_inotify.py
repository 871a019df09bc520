from __future__ import annotations

import select
from pathlib import Path

import pytest

from twinstack.linux.inotify import CREATE, MODIFY, MOVED_TO, Inotify


def test_changes_are_told(tmp_path: Path) -> None:
    watch = Inotify()
    try:
        number = watch.watch(str(tmp_path), CREATE | MODIFY | MOVED_TO)
        assert watch.read() == []
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").rename(tmp_path / "b")
        assert select.select([watch], [], [], 5)[0]
        told = [(change.watch, change.mask, change.name) for change in watch.read()]
        assert told == [(number, CREATE, "a"), (number, MODIFY, "a"), (number, MOVED_TO, "b")]
        with pytest.raises(FileNotFoundError):
            watch.watch(str(tmp_path / "none"), MODIFY)
    finally:
        watch.close()
