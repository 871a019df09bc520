from __future__ import annotations

from pathlib import Path

import pytest

from twinstack.linux import mounts

TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:30 / /state rw - tmpfs none rw
31 30 0:31 / /state/a\\040b rw shared:1 master:2 - tmpfs none rw
32 27 0:32 / /state2 rw - xfs /dev/vdb rw
"""


def test_what_is_mounted_where(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert mounts.mounted("/state", str(table)) == [("/state", "tmpfs"), ("/state/a b", "tmpfs")]
    assert [point for point, _ in mounts.mounted("/", str(table))] == ["/proc", "/", "/state", "/state/a b", "/state2"]
    assert mounts.mounted("/none", str(table)) == []


def test_a_mount_point(tmp_path: Path) -> None:
    assert mounts.is_mount("/proc")
    assert not mounts.is_mount(str(tmp_path))


def test_paths_that_overlay_would_misread() -> None:
    with pytest.raises(ValueError, match="comma, colon"):
        mounts.overlay("/x", "/", "/a,b", "/c")
