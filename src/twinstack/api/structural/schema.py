"""One node of a structural schema: what it says of the structure of a value (apiextensions/v1 JSONSchemaProps).

What it says of the value itself (`minimum`, `oneOf` …) stays in `raw` and is compiled by `validation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

ABSENT: Any = object()


class Schema:
    """Of one value. `additional` is the schema of the entries of a map; `preserve` keeps what is unknown."""

    __slots__ = (
        "additional",
        "default",
        "embedded",
        "int_or_string",
        "items",
        "list_keys",
        "list_type",
        "map_type",
        "nullable",
        "preserve",
        "properties",
        "raw",
        "rules",
        "type",
    )

    def __init__(self, raw: JSON) -> None:
        self.raw = raw
        self.type: str = raw.get("type") or ""
        self.nullable = bool(raw.get("nullable"))
        self.preserve = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(raw.get("x-kubernetes-int-or-string"))
        self.list_type: str = raw.get("x-kubernetes-list-type") or ""
        self.list_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = raw.get("x-kubernetes-map-type") or ""
        self.rules: list[JSON] = raw.get("x-kubernetes-validations") or []
        self.default = raw["default"] if raw.get("default") is not None else ABSENT
        self.properties = {name: Schema(inner or {}) for name, inner in (raw.get("properties") or {}).items()}
        self.items = _of(raw.get("items"))
        additional = raw.get("additionalProperties")
        self.additional = _of(additional)
        if additional is True:
            self.additional = Schema({"x-kubernetes-preserve-unknown-fields": True})

    def children(self) -> Iterator[tuple[str, Schema]]:
        """The schemas of parts, with what their paths are called within this one's."""
        for name, inner in self.properties.items():
            yield f".properties[{name}]", inner
        if self.items is not None:
            yield ".items", self.items
        if self.additional is not None and isinstance(self.raw.get("additionalProperties"), dict):
            yield ".additionalProperties", self.additional

    def of_field(self, name: str) -> Schema | None:
        """The schema of a field of an object."""
        return self.properties.get(name) or self.additional


def _of(raw: Any) -> Schema | None:
    return Schema(raw) if isinstance(raw, dict) else None
