"""The forms in which objects go out: whole, as metadata only, or as rows of a table (meta/v1)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from twinstack.api.errors import bad_request, invalid
from twinstack.api.objects import nothing
from twinstack.server.versions import Version, View

JSON = dict[str, Any]

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_META = "meta.k8s.io"
_INCLUDES = ("Metadata", "Object", "None")

# Items of a long list that are joined: what is allocated stays small enough for the allocator to have it at hand.
_PART_ITEMS = 64

decode = msgspec.json.decode
encode = msgspec.json.encode


class Form(Protocol):
    """One representation. Forms with the same `name` give the same bytes of the same object."""

    name: str
    has_opening: bool  # the first event of a watch differs from the others

    def item(self, version: Version) -> bytes:
        """The JSON of one object."""

    def list_body(self, metadata: JSON, versions: Iterable[Version]) -> Sequence[bytes]:
        """The parts of a list's JSON."""

    def frame(self, event: str, version: Version, *, first: bool) -> bytes:
        """One watch event and the end of its line."""

    def bookmark(self, revision: int, *, initial_events_end: bool) -> bytes:
        """A BOOKMARK event."""


def event_frame(event: str, item: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (event.encode(), item)


def bookmark_metadata(revision: int, *, initial_events_end: bool) -> JSON:
    metadata: JSON = {"resourceVersion": str(revision)}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return metadata


class Whole:
    """Objects as they are: the stored bytes. In a list they do not repeat their type, as upstream."""

    has_opening = False

    def __init__(self, view: View) -> None:
        self.name = f"object/{view.resource.group_version}"
        self._view = view
        self._kind, self._api_version = view.resource.kind, view.resource.group_version
        self._list_kind = view.resource.list_kind
        self._typed_items = view.resource.custom is not None
        self._type = b'"kind":"%b","apiVersion":"%b",' % (self._kind.encode(), self._api_version.encode())

    def item(self, version: Version) -> bytes:
        return self._view.show(version)

    def list_body(self, metadata: JSON, versions: Iterable[Version]) -> Sequence[bytes]:
        head = {"kind": self._list_kind, "apiVersion": self._api_version, "metadata": metadata}
        if self._typed_items:
            return [encode(head)[:-1] + b',"items":[', b",".join(map(self._view.show, versions)), b"]}\n"]
        kind, start = self._type, 1 + len(self._type)
        bodies = [
            shown[start:] if (shown := self._view.show(version)).startswith(kind, 1) else _without_type(shown)
            for version in versions
        ]
        if not bodies:
            return [encode(head)[:-1] + b',"items":[]}\n']
        *starts, last = range(0, len(bodies), _PART_ITEMS)
        parts = [b",{".join([*bodies[start : start + _PART_ITEMS], b""]) for start in starts]
        return [encode(head)[:-1] + b',"items":[{', *parts, b",{".join(bodies[last:]) + b"]}\n"]

    def frame(self, event: str, version: Version, *, first: bool) -> bytes:
        return event_frame(event, self._view.show(version))

    def bookmark(self, revision: int, *, initial_events_end: bool) -> bytes:
        metadata = bookmark_metadata(revision, initial_events_end=initial_events_end)
        obj = {"kind": self._kind, "apiVersion": self._api_version, "metadata": metadata}
        return event_frame("BOOKMARK", encode(nothing(self._view.resource) | obj))


def _without_type(value: bytes) -> bytes:
    """The rest of an object's JSON after its opening brace, for one that no plan has written."""
    obj = decode(value)
    return encode({name: item for name, item in obj.items() if name not in ("kind", "apiVersion")})[1:]


class _RawMetadata(msgspec.Struct):
    metadata: msgspec.Raw


_RAW_METADATA = msgspec.json.Decoder(_RawMetadata)


class Partial:
    """PartialObjectMetadata: the metadata alone, cut out of the stored bytes. `version` is that of meta.k8s.io."""

    has_opening = False

    def __init__(self, version: str) -> None:
        self.name = f"metadata/{version}"
        self._api_version = f"{_META}/{version}"
        self._opening = b'{"kind":"PartialObjectMetadata","apiVersion":"%b","metadata":' % self._api_version.encode()

    def item(self, version: Version) -> bytes:
        return self._opening + bytes(_RAW_METADATA.decode(version.value).metadata) + b"}"

    def list_body(self, metadata: JSON, versions: Iterable[Version]) -> Sequence[bytes]:
        head = {"kind": "PartialObjectMetadataList", "apiVersion": self._api_version, "metadata": metadata}
        return [encode(head)[:-1] + b',"items":[', b",".join(map(self.item, versions)), b"]}\n"]

    def frame(self, event: str, version: Version, *, first: bool) -> bytes:
        return event_frame(event, self.item(version))

    def bookmark(self, revision: int, *, initial_events_end: bool) -> bytes:
        metadata = bookmark_metadata(revision, initial_events_end=initial_events_end)
        obj = {"kind": "PartialObjectMetadata", "apiVersion": self._api_version, "metadata": metadata}
        return event_frame("BOOKMARK", encode(obj))


class Table:
    """Rows for people (kubectl get). `include` says what each row carries of its object."""

    has_opening = True

    def __init__(self, view: View, version: str, include: str) -> None:
        """`version` is that of meta.k8s.io. Raises StatusError 400 for an unknown `include`."""
        if include not in _INCLUDES:
            error = invalid("includeObject", include, "must be 'Metadata', 'Object', 'None', or empty")
            raise bad_request(f"Unable to convert to Table as requested: {error}")
        self.name = f"table/{view.resource.group_version}/{version}/{include}"
        self._view = view
        self._version = version
        self._include = include

    def item(self, version: Version) -> bytes:
        return encode(self._table({"resourceVersion": str(version.revision)}, [version], columns_shown=True))

    def list_body(self, metadata: JSON, versions: Iterable[Version]) -> Sequence[bytes]:
        return [encode(self._table(metadata, versions, columns_shown=True)), b"\n"]

    def frame(self, event: str, version: Version, *, first: bool) -> bytes:
        table = self._table({"resourceVersion": str(version.revision)}, [version], columns_shown=first)
        return event_frame(event, encode(table))

    def bookmark(self, revision: int, *, initial_events_end: bool) -> bytes:
        row_object: JSON = {
            "kind": self._view.resource.kind,
            "apiVersion": self._view.resource.group_version,
            "metadata": bookmark_metadata(revision, initial_events_end=initial_events_end),
        }
        table = self._table({"resourceVersion": str(revision)}, [], columns_shown=False)
        table["rows"] = [{"cells": [], "object": row_object}]
        return event_frame("BOOKMARK", encode(table))

    def _table(self, metadata: JSON, versions: Iterable[Version], *, columns_shown: bool) -> JSON:
        from twinstack.server.tables import columns, row  # people ask for tables, programs do not

        resource, now = self._view.resource, time.time()
        return {
            "kind": "Table",
            "apiVersion": f"{_META}/{self._version}",
            "metadata": metadata,
            "columnDefinitions": columns(resource) if columns_shown else None,
            "rows": [row(resource, self._view.read(each), now, self._include, self._version) for each in versions],
        }
