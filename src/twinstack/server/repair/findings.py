"""What a repair finds: the event that says it and the operation that mends it. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from twinstack.api.core import Service
from twinstack.api.meta import Object
from twinstack.api.networking import IPAddress
from twinstack.store import Operation

JSON = dict[str, Any]


class Finding(NamedTuple):
    """One thing that is wrong with an allocation. Without a reason there is nothing to tell, without `mend`
    nothing that the server may do about it."""

    about: Service | IPAddress
    reason: str
    action: str
    note: str
    mend: Operation | None = None


def reference(obj: Object) -> JSON:
    """A core/v1 ObjectReference to a stored object."""
    meta = obj.metadata
    fields = {
        "kind": obj.kind,
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "apiVersion": obj.api_version,
        "resourceVersion": meta.resource_version,
    }
    return {name: text for name, text in fields.items() if text}
