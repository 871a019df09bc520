"""The one table of API types, read from schema.json, which scripts/build_schema.py builds.

It drives decoding, strict validation, strategic merge, protobuf and OpenAPI: whoever wants to know about a field
asks here. Types are decoded one by one when first asked for. `twinstack.api.schema` checks objects against it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec


class Field(msgspec.Struct, frozen=True, rename="camel"):
    """One field of a type.

    `type` is that of one value: `string`, `bool`, `int32`, `int64`, `float64`, `bytes` (base64), `time`,
    `microtime`, `quantity`, `int-or-string`, `any`, or the name of another type. `container` is `[]` for a list,
    `{}` for a map of strings, `{}[]` for a map of lists, or empty. `pointer` says that an absent value differs from
    a zero one. `always` marks fields that
    are shown even when empty, beside the required ones. `go` is the value's type name in Go, with
    `=` before it that of the whole container.
    """

    type: str
    container: str = ""
    number: int = 0
    pointer: bool = False
    always: bool = False
    enum: tuple[str, ...] = ()
    default: Any = None
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    patch_strategy: str = ""
    merge_key: str = ""
    go: str = ""

    @property
    def is_object(self) -> bool:
        """Whether one value is an object with fields of its own."""
        return "." in self.type


class Type(msgspec.Struct, frozen=True):
    """The fields of one type; `inline` are protobuf messages, by number, whose fields JSON shows in this one."""

    fields: dict[str, Field]
    required: tuple[str, ...] = ()
    inline: dict[int, str] = {}


class _Table(msgspec.Struct):
    kinds: dict[str, str]
    types: dict[str, msgspec.Raw]


@functools.cache
def _table() -> _Table:
    return msgspec.json.decode(Path(__file__).with_name("schema.json").read_bytes(), type=_Table)


@functools.cache
def get_type(name: str) -> Type:
    """The type called `name`, such as `core.v1.Service`. Raises KeyError."""
    return msgspec.json.decode(_table().types[name], type=Type)


def type_of_kind(api_version: str, kind: str) -> str | None:
    """The type name of an object's apiVersion and kind; None if the table has none."""
    return _table().kinds.get(f"{api_version}.{kind}")


def kinds_of_types() -> dict[str, list[str]]:
    """The kinds that every type is, as `v1.Service` or `apps/v1.Deployment`; made anew at each call."""
    kinds: dict[str, list[str]] = {}
    for kind, type_name in _table().kinds.items():
        kinds.setdefault(type_name, []).append(kind)
    return kinds


def field_at(type_name: str, path: tuple[str, ...]) -> Field | None:
    """The field that a path of names leads to, through lists and maps of objects."""
    found: Field | None = None
    for name in path:
        found = get_type(type_name).fields.get(name)
        if found is None:
            return None
        type_name = found.type if found.is_object else ""
        if not type_name and name is not path[-1]:
            return None
    return found


def reachable(roots: tuple[str, ...]) -> list[str]:
    """The names of all types that objects of the `roots` may contain, roots first."""
    names = list(roots)
    seen = set(names)
    for name in names:  # grows while it is read
        for field in get_type(name).fields.values():
            if field.is_object and field.type not in seen:
                seen.add(field.type)
                names.append(field.type)
    return names
