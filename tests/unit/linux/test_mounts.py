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


def test_who_sees_what_is_mounted_later(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 8:1 / /a rw,relatime shared:7 - ext4 /dev/sda rw\n"
        "3 1 8:1 / /ab rw shared:8 master:7 - ext4 /dev/sda rw\n"
        "4 2 8:1 / /a/with\\040space rw master:7 propagate_from:2 - ext4 /dev/sda rw\n"
    )
    assert mounts.peers("/x", str(table)) == ("/", frozenset())
    assert mounts.peers("/a", str(table)) == mounts.peers("/a/b", str(table)) == ("/a", frozenset({"shared"}))
    assert mounts.peers("/ab/c", str(table)) == ("/ab", frozenset({"shared", "master"}))
    assert mounts.peers("/a/with space/x", str(table))[1] == {"master", "propagate_from"}
