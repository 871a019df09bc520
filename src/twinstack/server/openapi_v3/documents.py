"""`/openapi/v3` and the document of each group and version, built when asked for.

The root names every document with its hash; a client that asks with the right hash may keep the answer for ever,
one with another hash is sent to the right one.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from urllib.parse import quote

import msgspec

from twinstack.api.resources import RESOURCES, Resource
from twinstack.server.accept import media_types
from twinstack.server.conditional import is_known
from twinstack.server.customresources.openapi import component_schemas
from twinstack.server.messages import Request, Response
from twinstack.server.openapi_v3.paths import path_items, roots
from twinstack.server.openapi_v3.schemas import components
from twinstack.server.version import GIT_VERSION

_ROOT = "/openapi/v3"
_JSON_TYPES = ("application/json", "*/*", "application/*")
_KEPT = 4  # documents in memory; the hashes of all are kept
_YEAR = 365 * 24 * 3600.0  # seconds


class Document(msgspec.Struct, frozen=True):
    """JSON, and the hash that names it."""

    body: bytes
    hash: str

    @property
    def etag(self) -> str:
        return f'"{self.hash}"'


def answer(request: Request, custom: Sequence[Resource] = ()) -> Response | None:
    """The root or a document; None for a group and version that is not served; 406 for other forms than JSON.

    `custom` are resources that are served beside the built-in ones.
    """
    name = request.path.rstrip("/").removeprefix(_ROOT).strip("/")
    added = _by_document(custom)
    if not name:
        return _conditional(request, root_with(added) if added else root(), [])
    if name not in _rows() and name not in added:
        return None
    if not any(media.type in _JSON_TYPES for media in media_types(request.headers.get("accept", ""))):
        return Response(status=406, body=b"", content_type="text/plain; charset=utf-8")
    wanted = request.parameter("hash")
    found = extended(name, added[name]) if name in added else document(name)
    if not wanted:
        return _conditional(request, found, [])
    known = found.hash
    if wanted != known:
        return Response(status=301, content_type="text/plain; charset=utf-8", headers=[("Location", _url(name, known))])
    lasting = [
        ("Cache-Control", "public, immutable"),
        ("Expires", formatdate(time.time() + _YEAR, usegmt=True)),
    ]
    return _conditional(request, found, lasting)


def _conditional(request: Request, found: Document, lasting: list[tuple[str, str]]) -> Response:
    headers = [("ETag", found.etag), ("Vary", "Accept"), *lasting]
    if is_known(found.etag, request.headers):
        return Response(status=304, headers=headers)
    return Response(status=200, body=found.body, headers=headers)


def _url(name: str, known: str) -> str:
    return f"{_ROOT}/{name}?hash={quote(known)}"


@functools.cache
def _rows() -> dict[str, list[Resource]]:
    """Resources by `api/v1`, `apis/apps/v1` …"""
    return _by_document(RESOURCES)


def _by_document(resources: Sequence[Resource]) -> dict[str, list[Resource]]:
    rows: dict[str, list[Resource]] = {}
    for row in resources:
        rows.setdefault(f"{'apis' if row.group else 'api'}/{row.group_version}", []).append(row)
    return rows


@functools.cache
def root() -> Document:
    """Where every document is."""
    paths = {name: {"serverRelativeURL": _url(name, known)} for name, known in hashes().items()}
    return _document({"paths": paths})


def root_with(added: Mapping[str, Sequence[Resource]]) -> Document:
    """The same, with the documents of further resources."""
    known = hashes() | {name: _extended_hash(name, rows) for name, rows in added.items()}
    return _document({"paths": {name: {"serverRelativeURL": _url(name, each)} for name, each in known.items()}})


def extended(name: str, added: Sequence[Resource]) -> Document:
    """The document of one group and version with further resources, which know its hash from then on."""
    return _extended(name, tuple(added))


@functools.lru_cache(maxsize=_KEPT)
def _extended(name: str, added: tuple[Resource, ...]) -> Document:
    return _document(_contents([*_rows().get(name, ()), *added]))


def _extended_hash(name: str, added: Sequence[Resource]) -> str:
    first = added[0].custom
    assert first is not None
    return first.keep(("openapi", tuple(added)), lambda: extended(name, added).hash)


@functools.cache
def hashes() -> dict[str, str]:
    """The hash of every document, by name."""
    return {name: document(name).hash for name in _rows()}


@functools.lru_cache(maxsize=_KEPT)
def document(name: str) -> Document:
    """The document of one group and version. Raises KeyError."""
    return _document(_contents(_rows()[name]))


def _contents(rows: Sequence[Resource]) -> dict[str, object]:
    paths: dict[str, object] = {}
    for row in rows:
        paths |= path_items(row)
    schemas = components(name for row in rows for name in roots(row))
    for row in rows:
        if row.custom is not None:
            schemas |= component_schemas(row)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas},
    }


def _document(contents: object) -> Document:
    body = msgspec.json.encode(contents)
    return Document(body, hashlib.sha512(body).hexdigest().upper())
