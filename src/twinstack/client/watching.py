"""Watch streams: one JSON document a line, decoded straight into the typed object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

import msgspec

from twinstack.api.kinds import Kind
from twinstack.api.meta import Object, ObjectMeta
from twinstack.client.status import status_error

T = TypeVar("T", bound=Object)

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class WatchEvent(msgspec.Struct, Generic[T]):
    """One change. A BOOKMARK's object holds metadata.resourceVersion and perhaps annotations only."""

    type: EventType
    object: T

    @property
    def ends_initial_events(self) -> bool:
        """Whether everything that existed at the start of a WatchList has been sent."""
        return self.type == "BOOKMARK" and self.object.metadata.annotations.get(INITIAL_EVENTS_END) == "true"


class _AnyEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _BookmarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    annotations: dict[str, str] = {}


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMeta


class EventDecoder(Generic[T]):
    """Cuts a stream of chunks into lines and decodes them.

    Objects of watches carry kind and apiVersion; they are replaced by the table's own strings, so that
    thousands of objects share them.
    """

    def __init__(self, kind: Kind[T]) -> None:
        self._type = kind.type
        self._kind = kind.resource.kind
        self._api_version = kind.resource.group_version
        self._decoder = msgspec.json.Decoder(WatchEvent[kind.type])  # type: ignore[name-defined]
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[WatchEvent[T]]:
        """The events that `data` completes.

        Raises StatusError for an ERROR event, msgspec.DecodeError for a line that is no event of the kind.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line:
                yield self._decode(line)

    def _decode(self, line: bytes) -> WatchEvent[T]:
        try:
            event: WatchEvent[T] = self._decoder.decode(line)
        except msgspec.ValidationError:
            special = self._special(msgspec.json.decode(line, type=_AnyEvent))
            if special is None:
                raise
            event = special
        event.object.kind, event.object.api_version = self._kind, self._api_version
        return event

    def _special(self, event: _AnyEvent) -> WatchEvent[T] | None:
        """An event whose object is none of the kind: a Status, or a bookmark, whose other fields may be null."""
        body = bytes(event.object)
        if event.type == "ERROR":
            raise status_error(0, body)
        if event.type == "BOOKMARK":
            meta = msgspec.json.decode(body, type=_Bookmark).metadata
            bookmark = self._type(
                metadata=ObjectMeta(resource_version=meta.resource_version, annotations=meta.annotations)
            )
            return WatchEvent("BOOKMARK", bookmark)
        return None
