"""What is known of the objects of a resource, whether its kind is built in or defined by an object of the cluster."""

from __future__ import annotations

import functools
from typing import Any

from twinstack.api.fieldsets.topology import Topology, topology_of
from twinstack.api.resource import Resource
from twinstack.api.schema import check, zero_object

JSON = dict[str, Any]


def check_object(obj: JSON, resource: Resource, known: JSON | None = None) -> tuple[JSON, list[str]]:
    """The object in stored form, and the findings of strict decoding. Raises TypeMismatch.

    Parts that it shares with `known`, an object in stored form, may be taken over unseen.
    """
    if resource.custom is not None:
        return resource.custom.check(obj)
    return check(obj, resource.schema, known)


def topology(resource: Resource) -> Topology:
    """How its objects are divided among field managers."""
    return topology_of(resource.schema) if resource.custom is None else resource.custom.topology


def nothing(resource: Resource) -> JSON:
    """An object with nothing set; not to be changed."""
    return {"metadata": {}} if resource.custom is not None else _nothing(resource.schema)


@functools.cache
def _nothing(schema: str) -> JSON:
    return zero_object(schema)
