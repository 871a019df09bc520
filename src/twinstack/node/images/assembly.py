"""From a manifest and its blobs, wherever they are, to an image in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

from twinstack.node.images import manifests
from twinstack.node.images.compression import Hashed, Reader
from twinstack.node.images.errors import ImageError
from twinstack.node.images.manifests import Descriptor, Manifest, Platform
from twinstack.node.images.store import Image, ImageStore


class Blobs(Protocol):
    """An archive, or a repository of a registry."""

    def open(self, wanted: Descriptor) -> AbstractContextManager[Reader]:
        """The blob of that digest, unchecked. Raises ImageError when there is none."""


def assemble(store: ImageStore, found: Manifest, blobs: Blobs, names: Iterable[str], machine: Platform) -> Image:
    """Unpack the layers that are not there, and name the image; within `store.importing`. Raises ImageError."""
    data = fetch(blobs, found.config)
    config = manifests.document(data)
    manifests.check_platform(config, machine)
    ids = manifests.diff_ids(config)
    if len(ids) != len(found.layers):
        raise ImageError(f"the image has {len(found.layers)} layers, and its configuration speaks of {len(ids)}")
    for diff_id, layer in zip(ids, found.layers, strict=True):
        if not store.has_layer(diff_id):
            store.add_layer(diff_id, partial(_checked, blobs, layer))
    return store.add_image(data, names)


def fetch(blobs: Blobs, wanted: Descriptor) -> bytes:
    """A document as a whole. Raises ImageError when it is not what its digest says."""
    if wanted.size > manifests.LONGEST_DOCUMENT:
        raise ImageError(f"a document of {wanted.size} bytes is too long")
    with blobs.open(wanted) as source:
        checked = Hashed(source, manifests.LONGEST_DOCUMENT)
        data = b"".join(iter(lambda: checked.read(1 << 16), b""))
    check(wanted, checked)
    return data


def check(wanted: Descriptor, read: Hashed) -> None:
    """Raises ImageError when what was read is not the blob that was asked for. Without a digest, which archives of
    Docker lack, a layer is known by what it is unpacked to."""
    if wanted.digest and read.digest != wanted.digest:
        raise ImageError(f"a blob has the digest {read.digest}, and {wanted.digest} was expected")


@contextmanager
def _checked(blobs: Blobs, layer: Descriptor) -> Iterator[Reader]:
    with blobs.open(layer) as source:
        checked = Hashed(source, layer.size)
        yield checked
        checked.drain()
        check(layer, checked)
