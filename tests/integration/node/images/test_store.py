"""The store of images: archives, names, removal, several users at once, crashes."""

from __future__ import annotations

import ctypes
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.node.images.making import FILE, INDEX, LINK, Made, Row, encode, layout, saved, sha256, tar

from twinstack.node.images import builtin
from twinstack.node.images.errors import ImageError, ImageInUse
from twinstack.node.images.reference import InvalidReference
from twinstack.node.images.store import Image, ImageStore

FIELDS = st.sampled_from(
    ["Config", "RepoTags", "Layers", "manifests", "digest", "size", "mediaType", "annotations", "platform", "config"]
)
BASE = tar([("bin/app", FILE, b"first"), ("etc/old", FILE, b"")])
UPPER = tar([("bin/app", FILE, b"second"), ("etc/.wh.old", FILE, b"")])


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def image(**config: Any) -> Made:
    return Made([BASE, UPPER], **config)


def load(store: ImageStore, archive: bytes, name: str = "") -> list[Image]:
    return store.load(io.BytesIO(archive), name)


def is_empty(store: ImageStore) -> bool:
    """Whether nothing of any image is left, finished or not."""
    places = ("blobs/sha256", "layers", "uses", "staging")
    return not any(name for place in places for name in os.listdir(store.root / place))


def zstd(data: bytes) -> bytes:
    library = ctypes.CDLL("libzstd.so.1")
    out = ctypes.create_string_buffer(len(data) + 1000)
    size = library.ZSTD_compress(out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:size]


def test_an_oci_layout(store: ImageStore) -> None:
    made = Made(
        [BASE, UPPER],
        layers=[gzip.compress(BASE), zstd(UPPER)],
        Entrypoint=["/bin/app"],
        Cmd=["-v"],
        Env=["A=b"],
        User="7:8",
        WorkingDir="/w",
        StopSignal="SIGINT",
        Volumes={"/data": {}},
    )
    [loaded] = load(store, layout([(made, "me/app:1")]))
    assert loaded == store.find("docker.io/me/app:1")
    assert loaded == store.find(f"me/app@{sha256(made.manifest)}")
    assert loaded.id == sha256(made.config)
    assert loaded.names == ("docker.io/me/app:1",)
    assert loaded.reference == f"docker.io/me/app@{sha256(made.manifest)}"
    assert loaded.config == (("/bin/app",), ("-v",), ("A=b",), "7:8", "/w", "SIGINT", ("/data",))
    assert loaded.size == len(made.config) + len(BASE) + len(UPPER)
    assert [(layer / "bin/app").read_text() for layer in loaded.layers] == ["first", "second"]
    assert store.find("me/app:2") is None
    assert os.listdir(store.root / "staging") == []
    assert store.root.stat().st_mode & 0o077 == 0  # programs in it may have rights of their own


def test_what_docker_saved(store: ImageStore, tmp_path: Path) -> None:
    made = image(Cmd=["app"])
    file = tmp_path / "saved.tar.gz"
    file.write_bytes(gzip.compress(saved(made, "app:1", "ghcr.io/me/app:latest")))
    [loaded] = store.load(file)
    assert loaded.names == ("docker.io/library/app:1", "ghcr.io/me/app:latest")
    assert (loaded.digests, loaded.reference) == ((), loaded.id)
    [again] = load(store, saved(made), "other:2")
    assert again.names == ("docker.io/library/app:1", "docker.io/library/other:2", "ghcr.io/me/app:latest")


def test_old_archives_link_from_layer_to_layer(store: ImageStore) -> None:
    made = Made([BASE, BASE])
    rows: list[Row] = [
        ("a/layer.tar", FILE, BASE),
        ("b/layer.tar", LINK, "../a/layer.tar"),
        ("c.json", FILE, made.config),
    ]
    listed = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    [loaded] = load(store, tar([*rows, ("manifest.json", FILE, encode(listed))]))
    assert len(loaded.layers) == 2


def test_what_docker_saves_today_is_named_by_both_documents(store: ImageStore) -> None:
    made = image()
    config = f"blobs/{sha256(made.config).replace(':', '/')}"
    listed = [{"Config": config, "RepoTags": ["me/app:1"], "Layers": []}]
    archive = layout([(made, "1")], ("manifest.json", FILE, encode(listed)))
    [loaded] = load(store, archive)
    assert loaded.names == ("docker.io/me/app:1",)
    assert len(loaded.digests) == 1


def test_an_index_of_platforms(store: ImageStore) -> None:
    own, other = image(), Made([BASE], architecture="vax")
    note = other.descriptor | {"platform": {"os": "unknown", "architecture": "unknown"}, "digest": sha256(b"none")}
    index = encode({"mediaType": INDEX, "manifests": [other.descriptor, own.descriptor, note]})
    row = Made.row(index, INDEX) | {"annotations": {"io.containerd.image.name": "docker.io/me/app:1"}}
    blobs = {**own.blobs, sha256(index): index}
    rows: list[Row] = [(f"blobs/{key.replace(':', '/')}", FILE, value) for key, value in blobs.items()]
    [loaded] = load(store, tar([("index.json", FILE, encode({"manifests": [row]})), *rows]))
    assert loaded.id == sha256(own.config)
    assert loaded.digests == (f"docker.io/me/app@{sha256(index)}",)
    with pytest.raises(ImageError, match=r"no match for platform in manifest: .* only for linux/vax"):
        load(store, layout([(other, "x:1")]))
    with pytest.raises(ImageError, match="the image is for linux/vax, and this machine is"):
        load(store, saved(other, "x:1"))


def damaged(archive: bytes, good: bytes, bad: bytes) -> bytes:
    assert good in archive
    return archive.replace(good, bad)


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (damaged(layout([(image(), "x:1")]), b"second", b"seconk"), "a blob has the digest"),
        (damaged(saved(image(), "x:1"), b"second", b"seconk"), "a layer has the digest"),
        (damaged(layout([(image(Cmd=["a"]), "x:1")]), b'"Cmd": ["a"]', b'"Cmd": ["b"]'), "a blob has the digest"),
        (damaged(saved(image(Cmd=["a"]), "x:1"), b'"Cmd": ["a"]', b'"Cmd": ["b"]'), "has the digest"),
        (saved(image(), "x:1", layers=["missing"] * 2), "lacks 'missing'"),
        (saved(image(), "x:1", layers=["0/layer.tar"]), "speaks of 2"),
        (saved(image(), "Not A Name"), "the image name 'Not A Name': "),
        (saved(image(), "twinstack.local/host"), "is built in"),
        (saved(image()), "--tag"),
        (layout([]), "holds no image"),
        (tar([("other", FILE, b"")]), "neither an OCI image layout nor"),
        (tar([("index.json", FILE, b"[]")]), "no JSON object"),
        (tar([("index.json", FILE, b"[" * 100_000)]), "no JSON"),
        (tar([("index.json", LINK, "a"), ("a", LINK, "index.json")]), "lacks 'index.json'"),
        (b"", "neither an OCI image layout nor"),
        (b"nonsense" * 100, "not a tar archive"),
        (layout([(image(), "x:1")])[:-8000], "cut off"),
    ],
)
def test_archives_that_are_refused(store: ImageStore, archive: bytes, why: str) -> None:
    with pytest.raises(ImageError) as caught:
        load(store, archive)
    assert why in str(caught.value)
    assert is_empty(store)
    assert [found.names for found in store.images()] == [(builtin.HOST,)]


SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x:1", "sha256:" + "a" * 64, "../x", "\0"])
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(FIELDS, v, max_size=3), max_leaves=8)


@given(data=st.data())
def test_whatever_documents_say_is_an_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = ImageStore(tmp_path_factory.mktemp("fuzz"))
    made = image()
    document = json.loads(data.draw(st.sampled_from([made.config, made.manifest])))
    of_config = "rootfs" in document
    at = document
    while isinstance(at, dict) and at:
        key = data.draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            at[key] = data.draw(VALUES)
            break
        at = at[key] if isinstance(at[key], dict) else at[key][0]
    changed = encode(document)
    known, new = sha256(made.config).encode(), sha256(changed).encode()
    manifest = made.manifest.replace(known, new) if of_config else changed
    made.blobs |= {sha256(changed): changed, sha256(manifest): manifest}
    made.descriptor |= {"digest": sha256(manifest), "size": len(manifest)}
    with suppress(ImageError):
        load(store, layout([(made, "x:1")]))


@given(listed=VALUES, index=VALUES)
def test_whatever_an_archive_lists(tmp_path_factory: pytest.TempPathFactory, listed: Any, index: Any) -> None:
    store = ImageStore(tmp_path_factory.mktemp("fuzz"))
    for name, document in (("manifest.json", [listed]), ("index.json", index), ("index.json", {"manifests": [listed]})):
        with pytest.raises(ImageError):
            load(store, tar([(name, FILE, encode(document)), ("c", FILE, b"{}")]))


@pytest.mark.parametrize("field", ["digest", "size", "layers", "config"])
def test_manifests_that_are_refused(store: ImageStore, field: str) -> None:
    made = image()
    manifest = made.manifest
    wrong = {
        "digest": manifest.replace(b"sha256:", b"../../../../etc/"),
        "size": manifest.replace(b'"size": ', b'"size": -'),
        "layers": manifest.replace(b'"layers"', b'"slayer"'),
        "config": manifest.replace(b'"config"', b'"gifnoc"'),
    }[field]
    made.descriptor |= {"digest": sha256(wrong), "size": len(wrong)}
    with pytest.raises(ImageError):
        load(store, layout([(made, "x:1")], blobs={sha256(wrong): wrong}))
    assert is_empty(store)


def test_the_same_name_for_other_content(store: ImageStore, tmp_path: Path) -> None:
    [old] = load(store, saved(image(Cmd=["old"]), "app:1"))
    pod = tmp_path / "pod"
    pod.mkdir()
    store.hold(old.id, pod, "pod default/a")
    [new] = load(store, saved(Made([BASE], Cmd=["new"]), "app:1"))
    assert store.find("app:1") == new
    assert [found.id for found in store.images() if not found.names] == [old.id]
    assert all(layer.is_dir() for layer in old.layers)
    pod.rmdir()
    store.sweep()
    assert [layer.is_dir() for layer in old.layers] == [True, False]  # the first is of both
    assert [found.names for found in store.images()] == [("docker.io/library/app:1",), (builtin.HOST,)]


def test_removal(store: ImageStore, tmp_path: Path) -> None:
    [loaded] = load(store, saved(image(), "a:1", "b:1"))
    pod = tmp_path / "pod"
    pod.mkdir()
    store.hold(loaded.id, pod, "pod default/a")
    assert store.remove("a:1") == ["docker.io/library/a:1"]  # another name keeps it
    with pytest.raises(ImageInUse, match=r"the image b:1 is in use: containers of pod default/a are made of it"):
        store.remove("b:1")
    with pytest.raises(ImageInUse):
        store.remove(loaded.id)
    pod.rmdir()
    assert store.remove(loaded.id) == ["docker.io/library/b:1"]
    assert is_empty(store)
    with pytest.raises(ImageError, match="there is no image b:1"):
        store.remove("b:1")
    with pytest.raises(ImageError, match="has just been removed"):
        store.hold(loaded.id, pod, "pod default/a")
    with pytest.raises(ImageError, match="is built in"):
        store.remove("twinstack.local/busybox")
    with pytest.raises(InvalidReference):
        store.remove("B:1")


def test_digests_alone_keep_no_image(store: ImageStore) -> None:
    load(store, layout([(image(), "a:1")]))
    assert len(store.remove("a:1")) == 2
    assert is_empty(store)


def test_a_layer_that_hides_everything_below(store: ImageStore) -> None:
    top = tar([(".wh..wh..opq", FILE, b""), ("only", FILE, b"")])
    [loaded] = load(store, saved(Made([BASE, top]), "x:1"))
    assert [os.listdir(layer) for layer in loaded.layers] == [["only"]]


def test_what_is_made_of_the_machine(store: ImageStore) -> None:
    host = ImageStore(store.root, hidden=["/secret"]).find("twinstack.local/host")
    assert host is not None
    assert host.layers == (Path("/"),)
    assert {"/root", "/run", "/secret"} <= set(host.masks)
    busybox = store.find("twinstack.local/busybox")
    assert busybox is not None
    [layer] = busybox.layers
    assert (layer / "bin/busybox").stat().st_mode & 0o777 == 0o755
    assert os.readlink(layer / "bin/ls") == "/bin/busybox"
    assert (layer / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert busybox.config.command == ("sh",)
    done = subprocess.run(
        ["chroot", str(layer), "/bin/sh", "-c", "ls -d /etc; id -un"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "/etc\nroot\n"
    assert builtin.is_static(Path(sys.executable).resolve()) is False
    assert builtin.is_static(Path(__file__)) is False


def test_a_machine_without_busybox(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert store.find("twinstack.local/busybox") is None


def test_many_bring_in_the_same_at_once(store: ImageStore) -> None:
    archive = saved(Made([tar([(f"d{n}/f", FILE, bytes(1000)) for n in range(200)])]), "x:1")
    found: list[Image] = []
    workers = [threading.Thread(target=lambda: found.extend(load(ImageStore(store.root), archive))) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 6
    assert {image.layers for image in found} == {found[0].layers}
    assert len(os.listdir(found[0].layers[0])) == 200
    store.sweep()
    assert os.listdir(store.root / "staging") == []


def test_a_loader_that_is_killed_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(saved(Made([tar([(f"d{n}/f", FILE, b"") for n in range(20)])]), "x:1"))
    program = "import sys, time; from pathlib import Path; from twinstack.node.images import layer; "
    program += "from twinstack.node.images.store import ImageStore; layer._Layer.finish = lambda own: time.sleep(300); "
    program += "ImageStore(Path(sys.argv[1])).load(Path(sys.argv[2]))"
    loader = subprocess.Popen([sys.executable, "-c", program, str(store.root), str(archive)])
    staging = store.root / "staging"
    deadline = time.monotonic() + 30
    while not any(path.is_dir() and len(os.listdir(path)) > 5 for path in staging.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    store.sweep()  # not while somebody brings something in
    assert os.listdir(staging)
    loader.send_signal(signal.SIGKILL)
    loader.wait()
    assert is_empty(ImageStore(store.root))
    assert store.find("x:1") is None
    store.load(archive)
    assert store.find("x:1") is not None
