"""Custom resources as OpenAPI v3 component schemas: what definitions say, with the parts that all objects have."""

from __future__ import annotations

from typing import Any

from twinstack.api.resources import Resource

JSON = dict[str, Any]

_REFERENCE = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1"
_TEXTS: dict[str, JSON] = {
    "apiVersion": {"type": "string", "description": "Group and version of the schema that the object follows."},
    "kind": {"type": "string", "description": "The resource that the object is, in CamelCase."},
}


def component_schemas(row: Resource) -> dict[str, JSON]:
    """The schemas of an object and of a list of them, by component name."""
    assert row.custom is not None
    name = row.schema.removeprefix("/")
    schema = row.custom.written_schema()
    meta = {"allOf": [{"$ref": f"{_REFERENCE}.ObjectMeta"}], "description": "Standard object's metadata."}
    schema["type"] = "object"
    schema["properties"] = (schema.get("properties") or {}) | _TEXTS | {"metadata": meta}
    schema["x-kubernetes-group-version-kind"] = _kind(row, row.kind)
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}, "description": "The objects."}
    listing: JSON = {
        "type": "object",
        "description": f"A list of {row.kind}",
        "required": ["items"],
        "properties": _TEXTS | {"items": items, "metadata": {"allOf": [{"$ref": f"{_REFERENCE}.ListMeta"}]}},
        "x-kubernetes-group-version-kind": _kind(row, row.custom.list_kind),
    }
    return {name: schema, f"{name}List": listing}


def _kind(row: Resource, kind: str) -> list[JSON]:
    return [{"group": row.group, "kind": kind, "version": row.version}]
