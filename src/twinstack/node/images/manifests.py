"""The documents of an image: index, manifest, configuration (OCI image-spec 1.1, Docker manifest schema 2). Pure.

Everything in them is somebody else's word: what is not as the specification says raises ImageError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from twinstack.node.images.errors import ImageError
from twinstack.node.images.reference import is_digest

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LONGEST_DOCUMENT = 8 << 20  # bytes
MOST_LAYERS = 127  # as Docker's
_FOREIGN = "foreign.diff"  # in the type of layers that are not in registries
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
}

JSON = dict[str, Any]


class Descriptor(NamedTuple):
    """A blob by its digest. `name`: what archives call an image in the annotations of their index."""

    media_type: str
    digest: str
    size: int
    name: str = ""


class Manifest(NamedTuple):
    """An image: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class ImageConfig(NamedTuple):
    """How a container of the image runs if its pod does not say otherwise. `environment`: NAME=value."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""
    working_directory: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()


class Platform(NamedTuple):
    """What programs run on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def machine_platform() -> Platform:
    """This machine's."""
    machine = os.uname().machine
    return Platform("linux", *_MACHINES.get(machine, (machine, "")))


def document(data: bytes) -> JSON:
    """A JSON object. Raises ImageError."""
    if len(data) > LONGEST_DOCUMENT:
        raise ImageError(f"a document of {len(data)} bytes is too long")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"a document of the image is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ImageError("a document of the image is no JSON object")
    return found


def is_index(found: JSON) -> bool:
    """Whether it lists manifests, rather than being one."""
    kind = found.get("mediaType")
    return kind in INDEXES or (kind not in MANIFESTS and "manifests" in found)


def manifest(found: JSON) -> Manifest:
    """Raises ImageError for what is no manifest of an image."""
    if found.get("schemaVersion") == 1:
        raise ImageError("the image has a manifest of schema 1, which Docker gave up in 2017: push it anew")
    layers = found.get("layers")
    if not isinstance(found.get("config"), dict) or not isinstance(layers, list):
        raise ImageError("a manifest lacks its configuration or its layers")
    if len(layers) > MOST_LAYERS:
        raise ImageError(f"the image has {len(layers)} layers, and {MOST_LAYERS} can be stacked")
    read = Manifest(_descriptor(found["config"]), tuple(_descriptor(layer) for layer in layers))
    for layer in read.layers:
        if _FOREIGN in layer.media_type or "encrypted" in layer.media_type:
            raise ImageError(f"layers of the type {layer.media_type} are not supported")
    return read


def listed(found: JSON) -> list[tuple[Descriptor, Platform | None]]:
    """What an index lists; without a platform where it names none. Raises ImageError."""
    rows = found.get("manifests")
    if not isinstance(rows, list):
        raise ImageError("an index of images lists no manifests")
    return [(_descriptor(row), _platform(row.get("platform"))) for row in rows]


def choose(found: JSON, wanted: Platform) -> Descriptor:
    """The manifest of an index for a platform: the same variant if there is one. Raises ImageError."""
    rows = listed(found)
    fitting = [(row, its) for row, its in rows if its is None or its[:2] == wanted[:2]]
    if wanted.architecture != "arm":  # of arm a later variant does not run on an earlier machine
        exact = [row for row, its in fitting if its is not None and its.variant in ("", wanted.variant)]
    else:
        exact = [row for row, its in fitting if its is not None and its.variant == wanted.variant]
    chosen = exact or [row for row, _ in fitting]
    if not chosen:
        offered = ", ".join(sorted({str(its) for _, its in rows if its is not None and its.os != "unknown"}))
        raise ImageError(f"no match for platform in manifest: there is none for {wanted}, only for {offered or 'none'}")
    return chosen[0]


def diff_ids(config: JSON) -> tuple[str, ...]:
    """The digests of an image's unpacked layers, lowest first. Raises ImageError."""
    root = config.get("rootfs")
    ids = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(ids, list) or not all(isinstance(text, str) and _is_sha256(text) for text in ids):
        raise ImageError("an image's configuration does not say what its layers are")
    if len(ids) > MOST_LAYERS:
        raise ImageError(f"the image has {len(ids)} layers, and {MOST_LAYERS} can be stacked")
    return tuple(ids)


def check_platform(config: JSON, wanted: Platform) -> None:
    """Raises ImageError for an image of another platform; those that name none are taken."""
    its = Platform(str(config.get("os") or wanted.os), str(config.get("architecture") or wanted.architecture))
    if its[:2] != wanted[:2]:
        raise ImageError(f"the image is for {its}, and this machine is {wanted}")


def image_config(config: JSON) -> ImageConfig:
    """Raises ImageError for fields of the wrong type."""
    own = config.get("config") or {}
    if not isinstance(own, dict):
        raise ImageError("an image's configuration is damaged: config")
    volumes = own.get("Volumes") or {}
    return ImageConfig(
        entrypoint=_texts(own, "Entrypoint"),
        command=_texts(own, "Cmd"),
        environment=_texts(own, "Env"),
        user=_text(own, "User"),
        working_directory=_text(own, "WorkingDir"),
        stop_signal=_text(own, "StopSignal"),
        volumes=tuple(sorted(map(str, volumes))) if isinstance(volumes, dict) else (),
    )


def _descriptor(row: Any) -> Descriptor:
    if not isinstance(row, dict):
        raise ImageError("a descriptor is no object")
    kind, digest, size = row.get("mediaType", ""), row.get("digest"), row.get("size")
    if not isinstance(digest, str) or not _is_sha256(digest):
        raise ImageError(f"a descriptor has the digest {str(digest)[:100]!r}, and only sha256 is supported")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not isinstance(kind, str):
        raise ImageError(f"the descriptor of {digest} is damaged")
    notes = row.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name") or ""
    return Descriptor(kind, digest, size, str(name))


def _is_sha256(text: str) -> bool:
    return text.startswith("sha256:") and is_digest(text)


def _platform(row: Any) -> Platform | None:
    if not isinstance(row, dict):
        return None
    return Platform(str(row.get("os", "")), str(row.get("architecture", "")), str(row.get("variant", "")))


def _texts(own: JSON, field: str) -> tuple[str, ...]:
    value = own.get(field) or []
    texts: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ImageError(f"an image's configuration is damaged: {field}")
    return tuple(texts)


def _text(own: JSON, field: str) -> str:
    value = own.get(field) or ""
    if not isinstance(value, str) or "\0" in value:
        raise ImageError(f"an image's configuration is damaged: {field}")
    return value
