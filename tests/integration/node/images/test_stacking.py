"""What the kernel makes of unpacked layers: deletions, opaque directories, as many layers as an image may have."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.node.images.making import DIRECTORY, FILE, LINK, Made, saved, tar

from twinstack.linux import mounts
from twinstack.node.images.manifests import MOST_LAYERS
from twinstack.node.images.store import ImageStore


@contextmanager
def stacked(directory: Path, layers: list[bytes]) -> Iterator[Path]:
    """The root of an image."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    store = ImageStore(directory / "images")
    [image] = store.load(io.BytesIO(saved(Made(layers), "x:1")))
    root, upper, work = (directory / name for name in ("root", "upper", "work"))
    for place in (root, upper, work):
        place.mkdir()
    lower = ":".join(map(str, reversed(image.layers)))
    mounts.overlay(str(root), lower, str(upper), str(work))
    try:
        yield root
    finally:
        mounts.unmount(str(root))


def test_deletions(tmp_path: Path) -> None:
    below = tar(
        [
            ("etc/gone", FILE, b""),
            ("etc/kept", FILE, b"kept"),
            ("tree/old", FILE, b""),
            ("again/old", FILE, b""),
            ("whole/old", FILE, b""),
            ("was-file", FILE, b""),
            ("lib", LINK, "usr/lib"),
        ]
    )
    above = tar(
        [
            ("etc/.wh.gone", FILE, b""),
            ("tree/.wh..wh..opq", FILE, b""),
            ("tree/new", FILE, b""),
            (".wh.again", FILE, b""),
            ("again/new", FILE, b""),
            (".wh.whole", FILE, b""),
            ("was-file", DIRECTORY, ""),
        ]
    )
    with stacked(tmp_path, [below, above]) as root:
        assert sorted(os.listdir(root)) == ["again", "etc", "lib", "tree", "was-file"]
        assert os.listdir(root / "etc") == ["kept"]
        assert os.listdir(root / "tree") == ["new"]
        assert os.listdir(root / "again") == ["new"]
        assert (root / "was-file").is_dir()
        (root / "etc/kept").write_text("changed")
    assert (tmp_path / "upper/etc/kept").read_text() == "changed"


def test_as_many_layers_as_there_may_be(tmp_path: Path) -> None:
    layers = [tar([("number", FILE, str(n).encode()), (f"of-{n}", FILE, b"")]) for n in range(MOST_LAYERS)]
    with stacked(tmp_path, layers) as root:
        assert (root / "number").read_text() == str(MOST_LAYERS - 1)
        assert len(os.listdir(root)) == MOST_LAYERS + 1
