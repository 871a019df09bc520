"""Objects as rows for people (meta/v1 Table): what `kubectl get` prints, column by column.

All columns are always sent; those of priority 1 are shown on request (`-o wide`). One module a field of kinds:
each says in `TABLES` which columns a resource has and which function makes the cells.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from twinstack.api import times
from twinstack.api.resources import Resource
from twinstack.server.tables import admission, apiserver, core, networking, pods, storage, workloads
from twinstack.server.tables.custom import cells as custom_cells
from twinstack.server.tables.custom import columns as custom_columns

JSON = dict[str, Any]

_TABLES = core.TABLES | networking.TABLES | workloads.TABLES | storage.TABLES | admission.TABLES | apiserver.TABLES
_PLAIN = "Name|Created At:date"


def columns(resource: Resource) -> list[JSON]:
    """`columnDefinitions` of a resource. The caller must not change them."""
    return _columns(resource.group, resource.plural) if resource.custom is None else custom_columns(resource.custom)


def row(resource: Resource, obj: JSON, now: float, include: str, version: str = "v1") -> JSON:
    """One row. `include` is Metadata, Object or None; `version` that of meta.k8s.io the client asked for."""
    result: JSON = {"cells": _cells(resource)(obj, now)}
    conditions = pods.conditions(obj) if resource.kind == "Pod" else []
    if conditions:
        result["conditions"] = conditions
    if include == "Object":
        result["object"] = {"kind": resource.kind, "apiVersion": resource.group_version} | obj
    elif include == "Metadata":
        meta = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}
        result["object"] = meta
    else:
        result["object"] = None
    return result


@functools.cache
def _columns(group: str, plural: str) -> list[JSON]:
    """From `Name:type*`, the type a string unless named, the star for priority 1."""
    text, _ = _TABLES.get((group, plural), (_PLAIN, _plain))
    definitions: list[JSON] = []
    for part in text.split("|"):
        name, _, kind = part.rstrip("*").partition(":")
        definitions.append(
            {
                "name": name,
                "type": kind or "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": 1 if part.endswith("*") else 0,
            }
        )
    return definitions


def _cells(resource: Resource) -> Callable[[JSON, float], list[Any]]:
    if resource.custom is not None:
        return functools.partial(custom_cells, resource.custom)
    return _TABLES.get((resource.group, resource.plural), (_PLAIN, _plain))[1]


def _plain(obj: JSON, _now: float) -> list[Any]:
    created = obj["metadata"].get("creationTimestamp")
    return [obj["metadata"].get("name", ""), created or times.format_time(0)]
