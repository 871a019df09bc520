"""The images of a cluster on this machine: one directory that all of its nodes share.

```
index.json          names of images, by reference            replaced as a whole
blobs/sha256/HEX    configurations of images                 by digest
layers/HEX          layers, unpacked for overlayfs           by the first 128 bits of their diff ID, for mounting many
layers/HEX.size     bytes of each                             of them takes short paths
uses/HEX            what is made of an image, as long as a path exists
staging/            what is not finished
lock, imports       flock(2): over the index; shared by those who bring something in
```

A layer is unpacked once, in staging, and renamed when its digest is right. A crash at any moment leaves garbage that
the next sweep removes, which waits until nobody brings anything in. The directory is for root alone: programs in it may
have the set-user-ID bit.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from twinstack.node.images import manifests
from twinstack.node.images.errors import ImageError, ImageInUse
from twinstack.node.images.manifests import ImageConfig as ImageConfig
from twinstack.node.images.overlay import is_opaque
from twinstack.node.images.reference import parse

if TYPE_CHECKING:
    from twinstack.node.images.compression import Reader

PARTIAL = ".partial"  # how files end that a pull goes on with
_NEW = ".new"  # and those that take the place of another one in a moment
_KEPT = 3600.0  # seconds that those are kept


class Image(NamedTuple):
    """An image that is here.

    `id`: the digest of its configuration. `names`: normalised, with tags; `digests`: with digests of manifests instead.
    `layers`: unpacked directories, lowest first, for overlayfs. `masks`: directories in it that nobody may look into.
    `size` in bytes.
    """

    id: str
    names: tuple[str, ...]
    layers: tuple[Path, ...]
    size: int
    config: ImageConfig
    masks: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """What a container's status has as its imageID: by the digest of a manifest if it has one."""
        return self.digests[0] if self.digests else self.id


class ImageStore:
    """See the module. Several processes may use one directory at the same time. Methods block; raise OSError."""

    def __init__(self, root: Path, hidden: Sequence[str] = ()) -> None:
        """`hidden`: directories that no container of the machine's own image may see, besides the usual ones."""
        self.root = root
        self.hidden = tuple(hidden)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("blobs/sha256", "layers", "uses", "staging"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: tuple[tuple[int, int, int], dict[str, str]] | None = None
        self._read: dict[str, Image] = {}  # by ID, without names
        self.sweep()

    # --- what there is

    def find(self, reference: str) -> Image | None:
        """The image of that name, if it is here. Raises InvalidReference."""
        from twinstack.node.images import builtin

        key = parse(reference).key
        if key == builtin.HOST:
            return builtin.host(self.hidden)
        names = self._names()
        if key in names:
            return self._image(names[key], names)
        return builtin.add_busybox(self) if key == builtin.BUSYBOX else None

    def images(self) -> list[Image]:
        """All of them, by name; last those in use whose names went to others. Busybox once it was asked for."""
        from twinstack.node.images import builtin

        names = self._names()
        ids = {*names.values(), *(use.image for use in self._uses())}
        found = [image for image in (self._image(id_, names) for id_ in ids) if image is not None]
        found.append(builtin.host(self.hidden))
        return sorted(found, key=lambda image: (not image.names, image.names, image.id))

    def _image(self, id_: str, names: dict[str, str]) -> Image | None:
        image = self._read.get(id_)
        if image is None:
            try:
                data = self._blob(id_).read_bytes()
            except FileNotFoundError:
                return None
            config = manifests.document(data)
            layers = [self._layer(diff) for diff in manifests.diff_ids(config)]
            size = len(data) + sum(_size(layer) for layer in layers)
            image = Image(id_, (), tuple(_visible(layers)), size, manifests.image_config(config))
            self._read[id_] = image
        own = sorted(name for name, other in names.items() if other == id_)
        tagged = tuple(name for name in own if "@" not in name)
        return image._replace(names=tagged, digests=tuple(name for name in own if "@" in name))

    # --- what comes in

    def load(self, archive: BinaryIO | Path, name: str = "") -> list[Image]:
        """Bring in the images of an OCI layout or a `docker save` archive; `name` stands for what it says.

        Raises ImageError.
        """
        from twinstack.node.images.archive import load

        if isinstance(archive, Path):
            with archive.open("rb") as file:
                return load(self, file, name)
        return load(self, archive, name)

    @contextlib.contextmanager
    def importing(self, *, resumed: bool = False) -> Iterator[None]:
        """Nothing is swept while something is brought in: layers come before the image that needs them.

        `resumed`: what has come before a failure stays for the next attempt, unless somebody else sweeps first.
        """
        try:
            with self._flock("imports", fcntl.LOCK_SH):
                yield
        except BaseException:
            if not resumed:
                self.sweep()
            raise
        self.sweep()

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[Path]:
        """Of all who bring in `name` one at a time; the path in staging is that one's. Within `importing`."""
        with self._flock(f"staging/{name}.lock", fcntl.LOCK_EX):
            yield self.root / "staging" / name

    def has_layer(self, diff_id: str) -> bool:
        return self._layer(diff_id).is_dir()

    def add_layer(self, diff_id: str, source: Callable[[], AbstractContextManager[Reader]]) -> None:
        """Unpack a layer unless it is there; the source's end raises if it was not what it should have been.

        Within `importing`. Raises ImageError, and then nothing has changed.
        """
        from twinstack.node.images.layer import unpack

        if self.has_layer(diff_id):
            return
        with self.alone(_short(diff_id)) as work:
            if self.has_layer(diff_id):
                return
            _remove(work)
            try:
                with source() as reader:
                    done = unpack(reader, work)
                if done.diff_id != diff_id:
                    raise ImageError(f"a layer has the digest {done.diff_id}, and its image says {diff_id}")
                self._write(self._layer(diff_id).with_suffix(".size"), str(done.size).encode())
                os.rename(work, self._layer(diff_id))
            finally:
                _remove(work)

    def add_image(self, config: bytes, names: Iterable[str]) -> Image:
        """Name an image whose layers are there: within `importing`. Names leave those who had them.

        Raises ImageError.
        """
        id_ = digest(config)
        found = manifests.document(config)
        manifests.image_config(found)
        missing = [diff for diff in manifests.diff_ids(found) if not self.has_layer(diff)]
        if missing:
            raise ImageError(f"layers of the image {id_} are missing: {', '.join(missing)}")
        with self._flock("lock", fcntl.LOCK_EX):
            self._write(self._blob(id_), config)
            index = self._names()
            index = index | dict.fromkeys(names, id_)
            self._write_names(index)
        image = self._image(id_, index)
        assert image is not None
        return image

    # --- what goes

    def hold(self, image: str, path: Path, owner: str) -> None:
        """The image with this ID is in use as long as `path` exists; `owner` is named to those who remove it.

        Raises ImageError when it has just gone.
        """
        with self._flock("lock", fcntl.LOCK_EX):
            if not self._blob(image).exists():
                raise ImageError(f"the image {image} has just been removed")
            name = hashlib.sha256(f"{path}\0{image}".encode()).hexdigest()[:32]
            self._write(self.root / "uses" / name, json.dumps([image, str(path), owner]).encode(), durable=False)

    def remove(self, reference: str) -> list[str]:
        """Take a name from an image, by its ID all names; the image goes with the last one. Returns the names.

        Raises ImageInUse when containers are made of it, ImageError when there is none, InvalidReference.
        """
        from twinstack.node.images import builtin

        key = reference if reference.startswith("sha256:") else parse(reference).key
        if key in builtin.NAMES:
            raise ImageError(f"{reference} is built in: it is made of this machine's own programs")
        with self._flock("lock", fcntl.LOCK_EX):
            names = self._names()
            id_ = key if key in names.values() else names.get(key, "")
            own = {name for name, other in names.items() if other == id_}
            gone = {name for name in own if key in (id_, name)}
            if not gone:
                raise ImageError(f"there is no image {reference} in this cluster")
            if all("@" in name for name in own - gone):
                gone = own  # digests alone are no reason to keep it
            owners = sorted({use.owner for use in self._uses() if use.image == id_})
            if gone == own and owners:
                raise ImageInUse(f"the image {reference} is in use: containers of {', '.join(owners)} are made of it")
            self._write_names({name: other for name, other in names.items() if name not in gone})
        self.sweep()
        return sorted(gone)

    def sweep(self) -> None:
        """Remove what no name and no container needs, and what was left unfinished; not now if something comes in."""
        with self._try_flock("imports") as is_free:
            if not is_free:
                return
            with self._flock("lock", fcntl.LOCK_EX):
                for path in (self.root / "staging").glob(f"*{_NEW}"):
                    path.unlink()  # whoever writes one has this lock, or imports
                self._discard()
            now = time.time()
            for path in (self.root / "staging").iterdir():
                if path.suffix == _NEW:
                    continue  # it has just begun
                if path.suffix != PARTIAL or now - path.stat().st_mtime > _KEPT:
                    _remove(path)

    def _discard(self) -> None:
        """Renamed first: a layer that is half gone must not have its name."""
        live = set(self._names().values()) | {use.image for use in self._uses(discard=True)}
        needed: set[str] = set()
        for path in (self.root / "blobs" / "sha256").iterdir():
            if f"sha256:{path.name}" not in live:
                path.unlink()
                continue
            for diff in manifests.diff_ids(manifests.document(path.read_bytes())):
                needed.add(_short(diff))
        for path in (self.root / "layers").iterdir():
            if path.stem not in needed:
                os.rename(path, self.root / "staging" / f"{path.name}.gone")

    def _uses(self, *, discard: bool = False) -> list[_Use]:
        """What images are in use for; `discard` those files whose user has gone."""
        found: list[_Use] = []
        for file in (self.root / "uses").iterdir():
            try:
                use = _Use(*json.loads(file.read_bytes()))
            except FileNotFoundError:
                continue  # discarded meanwhile
            if os.path.lexists(use.path):
                found.append(use)
            elif discard:
                file.unlink(missing_ok=True)
        return found

    # --- files

    def _blob(self, id_: str) -> Path:
        return self.root / "blobs" / "sha256" / id_.removeprefix("sha256:")

    def _layer(self, diff_id: str) -> Path:
        return self.root / "layers" / _short(diff_id)

    def _names(self) -> dict[str, str]:
        """IDs of images by reference; read again only when the file is another one."""
        path = self.root / "index.json"
        try:
            with path.open("rb") as file:
                seen = os.fstat(file.fileno())
                stamp = seen.st_ino, seen.st_mtime_ns, seen.st_size
                if self._known is None or self._known[0] != stamp:
                    self._known = stamp, json.loads(file.read())["names"]
                    self._read = {}  # images may have gone
                return self._known[1]
        except FileNotFoundError:
            return {}

    def _write_names(self, names: dict[str, str]) -> None:
        self._write(self.root / "index.json", json.dumps({"names": names}, indent=1, sort_keys=True).encode())

    def _write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace a file as a whole; `durable`: also if the power fails."""
        new = self.root / "staging" / f"{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}{_NEW}"
        try:
            with new.open("xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(new, path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _flock(self, name: str, kind: int) -> Iterator[None]:
        descriptor = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _try_flock(self, name: str) -> Iterator[bool]:
        descriptor = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)


class _Use(NamedTuple):
    image: str
    path: str
    owner: str


def digest(data: bytes) -> str:
    """As images are named by."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _short(diff_id: str) -> str:
    return diff_id.removeprefix("sha256:")[:32]


def _visible(layers: Sequence[Path]) -> Sequence[Path]:
    """Those from the last on whose root hides what is below: overlayfs does not look at that mark there."""
    for number in range(len(layers) - 1, 0, -1):
        if is_opaque(layers[number]):
            return layers[number:]
    return layers


def _size(layer: Path) -> int:
    return int(layer.with_suffix(".size").read_bytes())


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except NotADirectoryError:
        path.unlink()
    except FileNotFoundError:
        return
