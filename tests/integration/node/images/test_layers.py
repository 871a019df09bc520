"""Layers are unpacked for overlayfs, and nothing of an archive gets out of its directory."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node.images.making import DIRECTORY, FILE, HARD, LINK, Row, sha256, tar

from twinstack.node.images.errors import ImageError
from twinstack.node.images.layer import Limits, unpack
from twinstack.node.images.overlay import is_opaque

BYTES = st.binary(max_size=40)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a layer goes; beside it is a file that no layer may touch."""
    (tmp_path / "secret").write_text("untouched")
    return tmp_path / "layer"


def put(target: Path, *rows: Row) -> None:
    unpack(io.BytesIO(tar(rows)), target)


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def beside(target: Path) -> None:
    assert sorted(os.listdir(target.parent)) == ["layer", "secret"]
    assert (target.parent / "secret").read_text() == "untouched"


def test_files_keep_owner_mode_time_and_capabilities(target: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # version 2, effective: CAP_NET_BIND_SERVICE
    records = {"SCHILY.xattr.user.note": "mine", "SCHILY.xattr.security.capability": capability.decode()}
    data = tar([("bin/x", FILE, b"text")], mode=0o4755, owner=70000, records=records)
    done = unpack(io.BytesIO(data), target)
    assert (done.diff_id, done.size) == (sha256(data), len(data))
    found = (target / "bin/x").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o4755, 70000, 70000, 0)
    assert (target / "bin").stat().st_uid == 0
    assert os.getxattr(target / "bin/x", "user.note") == b"mine"
    assert os.getxattr(target / "bin/x", "security.capability") == capability


@pytest.mark.parametrize("attribute", ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"])
def test_no_archive_speaks_to_overlayfs_by_attributes(target: Path, attribute: str) -> None:
    unpack(io.BytesIO(tar([("d", DIRECTORY, "")], records={f"SCHILY.xattr.{attribute}": "y"})), target)
    assert os.listxattr(target / "d") == []


def test_deletions(target: Path) -> None:
    rows: list[Row] = [("a/.wh.gone", FILE, b""), ("b/.wh..wh..opq", FILE, b""), ("b/new", FILE, b"")]
    put(target, *rows, (".wh..wh.plnk", FILE, b""))
    assert is_whiteout(target / "a/gone")
    assert is_opaque(target / "b")
    assert not is_opaque(target / "a")
    assert sorted(os.listdir(target)) == ["a", "b"]


def test_a_deletion_concerns_lower_layers_only(target: Path) -> None:
    put(
        target,
        ("file", FILE, b"kept"),
        (".wh.file", FILE, b""),
        ("tree/x", FILE, b"kept"),
        (".wh.tree", FILE, b""),
        (".wh.later", FILE, b""),
        ("later/x", FILE, b""),
        (".wh.again", FILE, b""),
        ("again", DIRECTORY, ""),
    )
    assert (target / "file").read_bytes() == b"kept"
    assert (target / "tree/x").read_bytes() == b"kept"
    for name in ("tree", "later", "again"):
        assert is_opaque(target / name)


def test_devices_are_left_out_and_so_are_false_deletions(target: Path) -> None:
    put(target, ("null", tarfile.CHRTYPE, ""), ("disk", tarfile.BLKTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""))
    assert os.listdir(target) == ["pipe"]


def test_what_comes_later_counts(target: Path) -> None:
    put(
        target,
        ("x", FILE, b"old"),
        ("y", HARD, "x"),
        ("x", FILE, b"new"),
        ("d/in", FILE, b""),
        ("d", FILE, b"a file"),
        ("l", LINK, "/etc"),
        ("l", DIRECTORY, ""),
    )
    assert ((target / "x").read_bytes(), (target / "y").read_bytes()) == (b"new", b"old")
    assert (target / "d").read_bytes() == b"a file"
    assert (target / "l").is_dir()
    assert not (target / "l").is_symlink()


def test_a_link_as_a_place_leads_to_where_it_would_in_a_container(target: Path) -> None:
    put(target, ("usr/lib", DIRECTORY, ""), ("lib", LINK, "/usr/lib"), ("lib/x", FILE, b"here"))
    assert (target / "usr/lib/x").read_bytes() == b"here"
    assert os.readlink(target / "lib") == "/usr/lib"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("../secret", FILE, b"evil")], "leads out of it"),
        ([("a/../../secret", FILE, b"evil")], "leads out of it"),
        ([("x", HARD, "../secret")], "leads out of it"),
        ([("..", DIRECTORY, "")], "leads out of it"),
        ([(".wh...", FILE, b"")], "deletion mark without a name"),
        ([(".wh..", FILE, b"")], "deletion mark without a name"),
        ([(".wh.", FILE, b"")], "deletion mark without a name"),
        ([(".wh.a/x", FILE, b"")], "leads through a deletion mark"),
        ([("out", LINK, "/nowhere"), ("out/x", FILE, b"evil")], "cannot unpack 'out/x'"),
        ([("out", LINK, "../secret"), ("out/x", FILE, b"evil")], "cannot unpack 'out/x'"),
        ([("loop", LINK, "loop"), ("loop/x", FILE, b"evil")], "cannot unpack 'loop/x'"),
        ([("f", FILE, b""), ("f/x", FILE, b"evil")], "cannot unpack 'f/x'"),
        ([("x", HARD, "missing")], "is not in its layer"),
        ([("x", HARD, "no/such")], "is not in its layer"),
        ([("d", DIRECTORY, ""), ("x", HARD, "d")], "does not lead to a file"),
        ([(".wh.d", FILE, b""), ("x", HARD, "d")], "does not lead to a file"),
        ([("x", HARD, "/")], "leads nowhere"),
        ([("x" * 300, FILE, b"")], "file name too long"),
        ([("d/" * 300 + "x", FILE, b"")], "too deep"),
        ([("x", b"Z", "")], "unknown type"),
    ],
)
def test_what_is_refused(target: Path, rows: list[Row], why: str) -> None:
    with pytest.raises(ImageError) as caught:
        put(target, *rows)
    assert why.lower() in str(caught.value).lower()
    beside(target)


def test_paths_and_links_that_point_out_stay_inside(target: Path) -> None:
    outside = str(target.parent)
    put(
        target,
        ("/absolute", FILE, b"inside"),
        (outside.lstrip("/"), DIRECTORY, ""),
        ("up", LINK, "../../../../.."),
        ("up/secret", FILE, b"inside"),
        ("there", LINK, outside),
        ("there/secret", FILE, b"inside"),
        ("hard", HARD, "there/secret"),
    )
    assert (target / "absolute").read_bytes() == b"inside"
    assert (target / "secret").read_bytes() == b"inside"
    assert Path(f"{target}{outside}/secret").read_bytes() == b"inside"
    assert (target / "hard").read_bytes() == b"inside"
    beside(target)


def test_bounds(target: Path, tmp_path: Path) -> None:
    bomb = gzip.compress(tar([("x", FILE, bytes(10_000_000))]))
    with pytest.raises(ImageError, match="more than the 1000000 bytes"):
        unpack(io.BytesIO(bomb), target, Limits(size=1_000_000))
    with pytest.raises(ImageError, match="more than 5 entries"):
        unpack(io.BytesIO(tar([(str(n), FILE, b"") for n in range(6)])), tmp_path / "many", Limits(entries=5))


def header(**fields: int | bytes) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.size = int(fields.get("size", 0))
    entry.type = bytes(fields.get("type", FILE))
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (header(size=1 << 60), "cut off"),
        (header(size=-5), "negative size"),
        (header(size=1 << 40, type=tarfile.XHDTYPE), "too long"),
        (header(size=1 << 40, type=tarfile.GNUTYPE_LONGNAME), "too long"),
        (header(type=tarfile.GNUTYPE_SPARSE), "sparse"),
        (b"x" * 512, "not a tar archive"),
        (header()[:100], "cut off in a header"),
        (b"\x1f\x8b" + b"\x00" * 100, "damaged gzip"),
        (gzip.compress(tar([("x", FILE, os.urandom(5000))]))[:-3000], "damaged gzip"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "damaged zstd"),
        (b"\x28\xb5\x2f\xfd", "damaged zstd"),
    ],
)
def test_damaged_archives(target: Path, data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        unpack(io.BytesIO(data), target)
    beside(target)


PARTS = st.sampled_from([".", "..", "", "a", "b", "l", "secret", "layer", ".wh.a", ".wh.l", ".wh..wh..opq", "/", "tmp"])
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from([FILE, FILE, DIRECTORY, LINK, HARD, tarfile.CHRTYPE, tarfile.FIFOTYPE])
ROWS = st.lists(
    st.tuples(PATHS, KINDS, PATHS).map(lambda t: (t[0], t[1], t[2].encode() if t[1] == FILE else t[2])), max_size=12
)


@given(rows=ROWS)
def test_whatever_is_in_an_archive_nothing_outside_is_touched(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    (base / "secret").write_text("untouched")
    with suppress(ImageError):
        put(base / "layer", *rows)
    beside(base / "layer")
    assert (base / "secret").stat().st_nlink == 1


@given(data=st.data())
def test_a_damaged_archive_is_an_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    (base / "secret").write_text("untouched")
    good = bytearray(tar([("a/b", FILE, b"text"), ("a/c", LINK, "/etc"), ("n" * 120, FILE, b"long")]))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        unpack(io.BytesIO(bytes(good)), base / "layer")
    beside(base / "layer")
