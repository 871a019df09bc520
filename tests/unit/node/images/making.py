"""Archives and images made for tests."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

from twinstack.node.images.manifests import machine_platform

FILE, DIRECTORY, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

Row = tuple[str, bytes, bytes | str]  # name, type, content or where a link leads


def tar(rows: Iterable[Row], *, mode: int = 0o644, owner: int = 0, records: Mapping[str, str] | None = None) -> bytes:
    """A tar archive. `records`: a pax header for each."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, content in rows:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
            entry.pax_headers = dict(records or {})
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.linkname = content
                archive.addfile(entry)
    return out.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


class Made:
    """An image: its blobs by digest, and the descriptor of its manifest. `layers`: as sent, `plain`: as tar."""

    def __init__(self, plain: list[bytes], *, layers: list[bytes] | None = None, **config: Any) -> None:
        its = machine_platform()
        platform = {"os": its.os, "architecture": config.pop("architecture", its.architecture)}
        self.config = encode(
            {**platform, "config": config, "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in plain]}}
        )
        self.layers = layers or plain
        self.manifest = encode(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.row(self.config, "application/vnd.oci.image.config.v1+json"),
                "layers": [self.row(layer, LAYER) for layer in self.layers],
            }
        )
        self.descriptor = self.row(self.manifest, MANIFEST) | {"platform": platform}
        self.blobs = {sha256(data): data for data in (self.config, self.manifest, *self.layers)}

    @staticmethod
    def row(data: bytes, kind: str) -> dict[str, Any]:
        return {"mediaType": kind, "digest": sha256(data), "size": len(data)}

    def named(self, name: str) -> dict[str, Any]:
        return self.descriptor | {"annotations": {"org.opencontainers.image.ref.name": name}}


def layout(images: Iterable[tuple[Made, str]], *more: Row, blobs: Mapping[str, bytes] | None = None) -> bytes:
    """An OCI image layout as an archive; `blobs` besides or instead of the images' own."""
    pairs = list(images)
    held = {key: value for image, _ in pairs for key, value in image.blobs.items()} | dict(blobs or {})
    index = encode({"schemaVersion": 2, "manifests": [image.named(name) for image, name in pairs]})
    rows: list[Row] = [("oci-layout", FILE, b'{"imageLayoutVersion": "1.0.0"}'), ("index.json", FILE, index)]
    rows += [(f"blobs/{key.replace(':', '/')}", FILE, value) for key, value in held.items()]
    return tar([*rows, *more])


def saved(image: Made, *tags: str, layers: list[str] | None = None) -> bytes:
    """What `docker save` wrote before version 25."""
    config = sha256(image.config).removeprefix("sha256:") + ".json"
    names = [f"{number}/layer.tar" for number in range(len(image.layers))]
    rows: list[Row] = [(name, FILE, layer) for name, layer in zip(names, image.layers, strict=True)]
    listed = [{"Config": config, "RepoTags": list(tags) or None, "Layers": layers or names}]
    return tar([*rows, (config, FILE, image.config), ("manifest.json", FILE, encode(listed))])
