"""Types as OpenAPI v3 component schemas, with Kubernetes' extensions for lists and patches. Pure.

A field that refers to a type and says more about itself carries the reference in `allOf`, since siblings of `$ref`
do not count (OpenAPI 3.0.3, Reference Object). Clients read `x-kubernetes-patch-strategy` and
`x-kubernetes-patch-merge-key` beside it to make strategic merge patches.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

from twinstack.api.schema_table import Field, get_type, kinds_of_types, reachable
from twinstack.server.openapi_v3.descriptions import description

JSON = dict[str, Any]

KIND_EXTENSION = "x-kubernetes-group-version-kind"
PATCH_BODY = "meta.v1.Patch"

_META = "io.k8s.apimachinery.pkg.apis.meta"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_SCHEMAS = "apiextensions.v1.JSONSchemaProps"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_VALUES: dict[str, JSON] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "float64": {"type": "number", "format": "double"},
    "bytes": {"type": "string", "format": "byte"},
    "any": {"type": "object"},
}
# Types that are single values in JSON and have a name of their own: in the schema table's words.
_NAMED: dict[str, str] = {
    "time": f"{_META}.v1.Time",
    "microtime": f"{_META}.v1.MicroTime",
    "quantity": _QUANTITY,
    "int-or-string": _INT_OR_STRING,
}
_NAMED_SCHEMAS: dict[str, JSON] = {
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "int-or-string": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}


def component_name(type_name: str) -> str:
    """`core.v1.Service` → `io.k8s.api.core.v1.Service`; after a slash, the name itself."""
    if type_name in _NAMED:
        return _NAMED[type_name]
    if type_name[0] == "/":
        return type_name[1:]
    package, _, rest = type_name.partition(".")
    return f"{_META if package == 'meta' else f'io.k8s.api.{package}'}.{rest}"


def reference(type_name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{component_name(type_name)}"}


def components(roots: Iterable[str]) -> dict[str, JSON]:
    """The schemas of `roots` and of all they contain, by component name; those of custom resources come later."""
    names = reachable(tuple(dict.fromkeys(root for root in roots if root[0] != "/")))
    schemas = {component_name(name): object_schema(name) for name in names}
    schemas |= {component_name(name): schema for name, schema in _NAMED_SCHEMAS.items()}
    schemas[component_name(PATCH_BODY)] = {"type": "object"}
    return dict(sorted(schemas.items()))


def object_schema(type_name: str) -> JSON:
    """The schema of one type."""
    described = get_type(type_name)
    schema: JSON = {"type": "object"}
    text = description(type_name)
    if text:
        schema["description"] = text
    if described.fields:
        schema["properties"] = {
            name: _property(field, description(type_name, name)) for name, field in sorted(described.fields.items())
        }
    if type_name == _SCHEMAS:
        _loosen(schema["properties"], described.fields)
    if described.required:
        schema["required"] = list(described.required)
    kinds = _group_version_kinds(type_name)
    if kinds:
        schema[KIND_EXTENSION] = kinds
    return schema


def _loosen(properties: JSON, fields: dict[str, Field]) -> None:
    """Parts of a schema that may be any JSON have no type: defaults, values of an enum, schemas that may be bools."""
    for name, field in fields.items():
        if field.type == "any":
            inner = properties[name]
            for part in {"[]": ("items",), "{}": ("additionalProperties",)}.get(field.container, ()):
                inner = inner[part]
            inner.pop("type", None)


@functools.cache
def _kinds() -> dict[str, list[str]]:
    return kinds_of_types()


def _group_version_kinds(type_name: str) -> list[JSON]:
    found: list[JSON] = []
    for qualified in _kinds().get(type_name, ()):
        api_version, _, kind = qualified.rpartition(".")
        group, _, version = api_version.rpartition("/")
        found.append({"group": group, "kind": kind, "version": version})
    return found


def _property(field: Field, text: str) -> JSON:
    about: JSON = {}
    if text:
        about["description"] = text
    if field.default is not None:
        about["default"] = field.default
    for name, value in (
        ("list-type", field.list_type),
        ("list-map-keys", list(field.list_keys)),
        ("map-type", field.map_type),
        ("patch-strategy", field.patch_strategy),
        ("patch-merge-key", field.merge_key),
    ):
        if value:
            about[f"x-kubernetes-{name}"] = value
    schema = _value(field)
    for container in reversed(re.findall(r"\[\]|\{\}", field.container)):
        if container == "[]":
            schema = {"type": "array", "items": schema}
        else:
            schema = {"type": "object", "additionalProperties": schema}
    if about and "$ref" in schema:
        return about | {"allOf": [schema]}
    return schema | about


def _value(field: Field) -> JSON:
    """The schema of one value, without its containers."""
    if field.is_object or field.type in _NAMED:
        return reference(field.type)
    schema = dict(_VALUES[field.type])
    if field.enum:
        schema["enum"] = list(field.enum)
    return schema
