"""Writes what a controller reports of an object to its status subresource."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.errors import StatusError
from twinstack.api.meta import Object, Struct, camel
from twinstack.client.informer import Informer
from twinstack.client.rest import MERGE, Client


def status_patch(status: Struct) -> dict[str, Any]:
    """The status for a merge patch: every number is said, also 0, and the conditions, also none."""
    return {camel(field): _said(getattr(status, field)) for field in status.__struct_fields__}


def _said(value: Any) -> Any:
    if isinstance(value, Struct):  # else what it no longer holds would be kept
        return {name: entry or None for name, entry in status_patch(value).items()}
    return msgspec.to_builtins(value)


async def write_status(client: Client, informer: Informer[Any], obj: Object, status: Struct) -> bool:
    """Write a whole status; False when the object is gone, or another one has its name."""
    meta = obj.metadata
    patch = {"metadata": {"uid": meta.uid}, "status": status_patch(status)}
    try:
        answer = await client.patch(
            informer.kind, meta.name, meta.namespace, patch, subresource="status", content_type=MERGE
        )
    except StatusError as error:
        if error.code not in (404, 409):
            raise
        return False
    informer.wrote(answer)
    return True
