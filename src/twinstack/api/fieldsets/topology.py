"""How the values of a type are divided among managers (list types, map types and keys of the OpenAPI schema).

A scalar has one owner; so has a list or map that is `atomic`. The fields of a structure, the entries of a granular
map, and the items of a list with keys or of a list that is a set each have their own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from twinstack.api.schema_table import Field, get_type


class Shape(IntEnum):
    """What a value is."""

    SCALAR = 0
    ATOMIC = 1  # a list, map or structure with one owner
    STRUCT = 2
    MAP = 3
    KEYED = 4  # a list whose items are found by some of their fields
    SET = 5  # a list of distinct scalars


# Structures that have one owner as a whole (`+structType=atomic` upstream).
_ATOMIC_TYPES = frozenset(
    {
        "admissionregistration.v1.NamedRuleWithOperations",
        "admissionregistration.v1.ParamKind",
        "admissionregistration.v1.ParamRef",
        "autoscaling.v1.CrossVersionObjectReference",
        "core.v1.ConfigMapKeySelector",
        "core.v1.EndpointAddress",
        "core.v1.EndpointPort",
        "core.v1.FileKeySelector",
        "core.v1.LocalObjectReference",
        "core.v1.NodeSelector",
        "core.v1.NodeSelectorTerm",
        "core.v1.ObjectFieldSelector",
        "core.v1.ObjectReference",
        "core.v1.ResourceFieldSelector",
        "core.v1.ScopeSelector",
        "core.v1.ScopedResourceSelectorRequirement",
        "core.v1.SecretKeySelector",
        "core.v1.SecretReference",
        "core.v1.TopologySelectorTerm",
        "core.v1.TypedLocalObjectReference",
        "discovery.v1.EndpointPort",
        "meta.v1.LabelSelector",
        "meta.v1.OwnerReference",
        "networking.v1.ServiceBackendPort",
        "rbac.v1.RoleRef",
        "rbac.v1.Subject",
    }
)
_SCALARS = {"string": "string", "bool": "boolean", "int32": "numeric", "int64": "numeric", "float64": "numeric"}
_TEXT = ("time", "microtime", "bytes")  # strings on the wire
_MERGED = ("merge", "merge,retainKeys")


class Topology:
    """One type. `accepts` is the JSON type of a value: string, numeric, boolean, scalar, list, map or any.

    `inner` is that of the values of a map or the items of a list, if it is known. `keys` are names, sorted, with
    the value that absence stands for or None. `leaf` says that a value has one owner.
    """

    __slots__ = ("_fields", "_type", "accepts", "inner", "keys", "leaf", "shape")

    def __init__(
        self,
        shape: Shape,
        accepts: str,
        *,
        inner: Topology | None = None,
        fields: dict[str, Topology] | None = None,
        type_name: str = "",
        keys: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.shape = shape
        self.accepts = accepts
        self.leaf = shape < Shape.STRUCT
        self.inner = inner
        self.keys = tuple(keys)
        self._fields = fields
        self._type = type_name

    @property
    def fields(self) -> dict[str, Topology]:
        """Those of a structure, compiled at first use: types may contain themselves."""
        if self._fields is None:
            described = get_type(self._type).fields if self._type else {}
            self._fields = {name: _of_field(field) for name, field in described.items()}
        return self._fields

    def field(self, name: str) -> Topology | None:
        """That of a field of a structure or an entry of a map."""
        return self.inner if self.inner is not None else self.fields.get(name)

    def element(self, item: Any) -> str:
        """The path element of a list's item."""
        if self.shape is Shape.SET:
            return f"v:{json.dumps(item, ensure_ascii=False)}"
        parts = []
        for name, default in self.keys:
            value = item.get(name, default)
            if type(value) is int or (type(value) is str and value.isalnum()):
                parts.append(f'"{name}":{value}' if type(value) is int else f'"{name}":"{value}"')
            else:
                parts.append(f'"{name}":{json.dumps(value, ensure_ascii=False)}')
        return f"k:{{{','.join(parts)}}}"


SCALAR = {name: Topology(Shape.SCALAR, name) for name in ("string", "numeric", "boolean", "scalar", "any")}
_ATOMIC_LIST = Topology(Shape.ATOMIC, "list")


@functools.cache
def topology_of(type_name: str) -> Topology:
    """That of a type in the schema table, such as `core.v1.Service`. Raises KeyError."""
    get_type(type_name)
    return Topology(Shape.ATOMIC if type_name in _ATOMIC_TYPES else Shape.STRUCT, "map", type_name=type_name)


def _of_field(field: Field) -> Topology:
    value = _of_value(field)
    container = field.container
    if not container:
        if field.map_type == "granular":
            return Topology(Shape.STRUCT, "map", type_name=field.type)
        return value
    if container.startswith("{}"):
        if field.map_type == "atomic":
            return Topology(Shape.ATOMIC, "map", inner=value)
        return Topology(Shape.MAP, "map", inner=value if container == "{}" else _ATOMIC_LIST)
    if field.list_type == "map" or (not field.list_type and field.merge_key and field.patch_strategy in _MERGED):
        described = get_type(field.type).fields
        names = sorted(field.list_keys or (field.merge_key,))
        return Topology(Shape.KEYED, "list", inner=value, keys=[(name, described[name].default) for name in names])
    if field.list_type == "set" or (not field.list_type and field.patch_strategy in _MERGED):
        return Topology(Shape.SET, "list", inner=value)
    return Topology(Shape.ATOMIC, "list", inner=value)


def _of_value(field: Field) -> Topology:
    if field.is_object:
        return topology_of(field.type)
    if field.type in _SCALARS:
        return SCALAR[_SCALARS[field.type]]
    if field.type in _TEXT:
        return SCALAR["string"]
    return SCALAR["any" if field.type == "any" else "scalar"]
