"""Images out of tar archives: OCI image layouts, and what `docker save` writes, plain or compressed.

Nothing of the archive itself is unpacked: it is one file that can be searched, and its members are read by name.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from twinstack.node.images import builtin, manifests
from twinstack.node.images.assembly import assemble, fetch
from twinstack.node.images.compression import Hashed, Reader, is_compressed, opened
from twinstack.node.images.errors import ImageError
from twinstack.node.images.manifests import JSON, Descriptor, Manifest, Platform
from twinstack.node.images.reference import InvalidReference, Reference, parse
from twinstack.node.images.store import Image, ImageStore, digest
from twinstack.node.images.tarstream import TarStream

LARGEST = 256 << 30  # bytes of an archive, uncompressed
_MEMBERS, _LINKS, _INDEXES = 100_000, 8, 4  # entries of an archive, links in a row, indexes in indexes


class _Place(NamedTuple):
    offset: int
    size: int
    link: str = ""


class _Found(NamedTuple):
    """An image of an archive; `digest` of its manifest, if it has one."""

    manifest: Manifest
    names: list[Reference]
    digest: str = ""


def load(store: ImageStore, file: BinaryIO, name: str = "") -> list[Image]:
    """Bring all images of an archive into the store. `name`: of the only one, whatever the archive calls it.

    Raises ImageError for what is no such archive, or not as its digests say; images before that one have come in.
    """
    machine = manifests.machine_platform()
    with store.importing(), tempfile.TemporaryFile(dir=store.root / "staging") as spool:
        members = _Members(_searchable(file, cast("BinaryIO", spool)))
        found = _layout(members, machine) if members.has("index.json") else _saved(members)
        if name:
            if len(found) != 1:
                raise ImageError(f"the archive holds {len(found)} images, and only one can have the name {name}")
            found = [found[0]._replace(names=[_reference(name)])]
        if any(not image.names for image in found):
            raise ImageError("the archive does not name its image: give it a name with --tag")
        return [assemble(store, image.manifest, members, _keys(image), machine) for image in found]


def _searchable(file: BinaryIO, spool: BinaryIO) -> BinaryIO:
    """The archive without compression, in a file in which one can go back."""
    if file.seekable():
        start = file.tell()
        head = file.read(4)
        file.seek(start)
        if start == 0 and not is_compressed(head):
            return file
    source = Hashed(opened(file), LARGEST)
    for data in iter(lambda: source.read(1 << 20), b""):
        spool.write(data)
    spool.seek(0)
    return spool


class _Members:
    """The files of an archive by name; also what images are assembled from."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[str, _Place] = {}
        stream = TarStream(file)
        for number, entry in enumerate(stream):
            if number >= _MEMBERS:
                raise ImageError(f"the archive has more than {_MEMBERS} entries")
            name = _normal(entry.name)
            if entry.is_file:
                self._places[name] = _Place(stream.position, entry.size)
            elif entry.kind == tarfile.SYMTYPE:
                self._places[name] = _Place(0, 0, _normal(posixpath.join(posixpath.dirname(name), entry.link)))
            elif entry.kind == tarfile.LNKTYPE:
                self._places[name] = _Place(0, 0, _normal(entry.link))

    def has(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> bytes:
        """A document as a whole. Raises ImageError."""
        place = self._place(name)
        if place.size > manifests.LONGEST_DOCUMENT:
            raise ImageError(f"{name} has {place.size} bytes, which is too long for a document")
        self._file.seek(place.offset)
        return self._file.read(place.size)

    @contextlib.contextmanager
    def open(self, wanted: Descriptor) -> Iterator[Reader]:
        """By digest, or by name where an archive knows no digest."""
        kind, _, number = wanted.digest.partition(":")
        place = self._place(f"blobs/{kind}/{number}" if wanted.digest else wanted.name)
        yield _Slice(self._file, place)

    def _place(self, name: str) -> _Place:
        place = self._places.get(_normal(name))
        for _ in range(_LINKS):
            if place is None or not place.link:
                break
            place = self._places.get(place.link)
        if place is None or place.link:
            raise ImageError(f"the archive lacks {name[:200]!r}")
        return place


class _Slice:
    """One member of an archive."""

    def __init__(self, file: BinaryIO, place: _Place) -> None:
        self._file = file
        self._at = place.offset
        self._end = place.offset + place.size

    def read(self, size: int = -1, /) -> bytes:
        self._file.seek(self._at)
        data = self._file.read(min(size, self._end - self._at) if size >= 0 else self._end - self._at)
        self._at += len(data)
        return data


def _layout(members: _Members, machine: Platform) -> list[_Found]:
    """An OCI image layout. Rows of one name are the same image for several platforms."""
    tags = _tags(members)
    groups: dict[str, list[JSON]] = {}
    index = manifests.document(members.read("index.json"))
    for (row, its), raw in zip(manifests.listed(index), index["manifests"], strict=True):
        if its is None or its.os != "unknown":  # those are notes about images
            groups.setdefault(row.name, []).append(raw)
    found = []
    for name, rows in groups.items():
        chosen, image = _resolve(members, manifests.choose({"manifests": rows}, machine), machine)
        references = tags.get(image.config.digest, [])
        if not references and ("/" in name or ":" in name):
            references = [_reference(name)]
        found.append(_Found(image, references, chosen.digest))
    if not found:
        raise ImageError("the archive holds no image")
    return found


def _resolve(members: _Members, row: Descriptor, machine: Platform) -> tuple[Descriptor, Manifest]:
    """Through indexes to the manifest of this machine's image; the first row is what its name stands for."""
    first = row
    for _ in range(_INDEXES):
        found = manifests.document(fetch(members, row))
        if not manifests.is_index(found):
            return first, manifests.manifest(found)
        row = manifests.choose(found, machine)
    raise ImageError("the archive has too many indexes in indexes")


def _tags(members: _Members) -> dict[str, list[Reference]]:
    """What Docker adds to a layout: names by the digests of configurations."""
    if not members.has("manifest.json"):
        return {}
    found: dict[str, list[Reference]] = {}
    for row in _rows(members):
        path, number = str(row["Config"]), posixpath.basename(str(row["Config"]))
        if _normal(path) == f"blobs/sha256/{number}":
            found[f"sha256:{number}"] = [_reference(tag) for tag in row.get("RepoTags") or []]
    return found


def _saved(members: _Members) -> list[_Found]:
    """What `docker save` wrote before version 25, and others write still."""
    if not members.has("manifest.json"):
        raise ImageError("the archive is neither an OCI image layout nor one of `docker save`: no index.json in it")
    found = []
    for row in _rows(members):
        path, layers = row["Config"], row.get("Layers")
        if not isinstance(path, str) or not isinstance(layers, list) or not all(isinstance(x, str) for x in layers):
            raise ImageError("manifest.json of the archive is damaged")
        config = members.read(path)
        number = posixpath.basename(path).removesuffix(".json").removeprefix("sha256:")
        if len(number) == 64 and digest(config) != f"sha256:{number}":
            raise ImageError(f"the configuration {path} has the digest {digest(config)}")
        rows = tuple(Descriptor("", "", LARGEST, layer) for layer in layers)
        names = [_reference(str(tag)) for tag in row.get("RepoTags") or []]
        found.append(_Found(Manifest(Descriptor("", "", len(config), path), rows), names))
    return found


def _rows(members: _Members) -> list[JSON]:
    try:
        rows = json.loads(members.read("manifest.json"))
    except (ValueError, RecursionError) as error:
        raise ImageError(f"manifest.json of the archive is no JSON: {error}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and "Config" in row for row in rows):
        raise ImageError("manifest.json of the archive is damaged")
    return rows


def _keys(image: _Found) -> list[str]:
    """What it is stored under: its names, and each with the digest of its manifest."""
    keys = [name.key for name in image.names]
    digested = [f"{name.name}@{image.digest}" for name in image.names if image.digest]
    return [*keys, *dict.fromkeys(digested)]


def _reference(text: str) -> Reference:
    try:
        found = parse(text)
    except InvalidReference as error:
        raise ImageError(f"the image name {text[:300]!r}: {error}") from None
    if found.domain == builtin.DOMAIN and found.tagged in builtin.NAMES:
        raise ImageError(f"{found.tagged} is built in")
    return found


def _normal(name: str) -> str:
    return posixpath.normpath(f"/{name}")[1:]
