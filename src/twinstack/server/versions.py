"""One version of one stored object, and how a resource shows what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from twinstack.api.resources import Resource
from twinstack.api.selectors import selectable_fields
from twinstack.server import autoscaler_forms, event_forms

JSON = dict[str, Any]

_NO_LABELS: dict[str, str] = {}


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None
    namespace: str = ""
    name: str = ""


class _Head(msgspec.Struct):
    metadata: _Metadata


_HEAD = msgspec.json.Decoder(_Head)
decode = msgspec.json.decode
encode = msgspec.json.encode


class Version:
    """One version of one object: its canonical JSON, and what selectors ask for, decoded on first use."""

    __slots__ = ("_fields", "key", "labels", "revision", "value")

    labels: Mapping[str, str]

    def __init__(self, key: str, revision: int, value: bytes) -> None:
        self.key = key
        self.revision = revision
        self.value = value
        self._fields: tuple[View, Mapping[str, str]] | None = None

    if not TYPE_CHECKING:  # which would then take any name for an attribute

        def __getattr__(self, name: str) -> Mapping[str, str]:
            """Fills `labels` when they are first asked for; afterwards they are found without a call."""
            if name != "labels":
                raise AttributeError(name)
            self.labels = labels = _HEAD.decode(self.value).metadata.labels or _NO_LABELS
            return labels

    def fields(self, view: View) -> Mapping[str, str]:
        """The selectable fields, as `view` names them."""
        if self._fields is None or self._fields[0] is not view:
            self._fields = (view, selectable_fields(view.resource, view.read(self)))
        return self._fields[1]

    def decode(self) -> JSON:
        """The stored object; the caller may change it."""
        value: JSON = decode(self.value)
        return value

    def at(self, revision: int) -> Version:
        """The same content under a later revision: what watchers are told of an object that goes."""
        obj = self.decode()
        obj["metadata"]["resourceVersion"] = str(revision)
        return Version(self.key, revision, encode(obj))


class _Forms(NamedTuple):
    """From what is stored to what a resource shows, and back."""

    shown: Callable[[JSON], JSON]
    stored: Callable[[JSON], JSON]


_FORMS = {
    ("events.k8s.io/v1", "events"): _Forms(event_forms.to_events_v1, event_forms.to_core),
    ("autoscaling/v1", "horizontalpodautoscalers"): _Forms(autoscaler_forms.to_v1, autoscaler_forms.to_v2),
}


class View:
    """How a resource shows stored objects: as they are, unless two resources share a storage."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._forms = _FORMS.get((resource.group_version, resource.plural))
        self.stores_as_shown = self._forms is None

    def show(self, version: Version) -> bytes:
        """The JSON of the object."""
        return encode(self.read(version)) if self._forms else version.value

    def read(self, version: Version) -> JSON:
        """The object, decoded; the caller may change it."""
        obj = version.decode()
        return self._forms.shown(obj) if self._forms else obj

    def store(self, obj: JSON) -> JSON:
        """The stored form of an object of this resource."""
        return self._forms.stored(obj) if self._forms else obj

    def encode(self, obj: JSON) -> bytes:
        return encode(self.store(obj))


def view_of(resource: Resource) -> View:
    return _view(resource) if resource.custom is None else resource.custom.keep("view", lambda: _custom(resource))


@cache
def _view(resource: Resource) -> View:
    return View(resource)


def _custom(resource: Resource) -> View:
    from twinstack.server.customresources.views import CustomView  # where kinds are defined, it is loaded

    return CustomView(resource)
