"""Types as definitions of an OpenAPI v2 document, in JSON and as gnostic's protobuf messages. Pure.

They are the component schemas of OpenAPI v3 in the words of v2: a reference stands beside what a field says of
itself, and what has more than one form is a string (`Quantity`, `IntOrString`). Older kubectl reads them for
`explain --output=plaintext-openapiv2`; bounds of values, which it does not read, stand in the JSON alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from twinstack.api.resources import Resource
from twinstack.server.customresources.openapi import component_schemas
from twinstack.server.openapi_v3.paths import roots
from twinstack.server.openapi_v3.schemas import components

JSON = dict[str, Any]

_FORMS = ("allOf", "anyOf", "oneOf", "not", "nullable", "$ref")  # unknown to v2, or said otherwise


def definitions(resources: Iterable[Resource]) -> dict[str, JSON]:
    """The definitions of all kinds and what they contain, by name."""
    rows = list(resources)
    schemas = components(name for row in rows for name in roots(row))
    for row in rows:
        if row.custom is not None:
            schemas |= component_schemas(row)
    return {name: _in_v2(schema) for name, schema in sorted(schemas.items())}


def _in_v2(schema: JSON) -> JSON:
    out = {key: value for key, value in schema.items() if key not in _FORMS}
    reference = schema.get("$ref") or next((one["$ref"] for one in schema.get("allOf", ()) if "$ref" in one), "")
    if reference:
        out["$ref"] = reference.replace("#/components/schemas/", "#/definitions/")
    elif "oneOf" in schema and "type" not in schema:
        out["type"] = "string"
    if "properties" in schema:
        out["properties"] = {name: _in_v2(each) for name, each in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            out[name] = _in_v2(schema[name])
    return out


def messages(named: dict[str, JSON]) -> bytes:
    """`openapi.v2.Definitions`, or the `Properties` of a schema, which have the same form."""
    return b"".join(field(1, text(1, name) + field(2, _schema(schema))) for name, schema in named.items())


def _schema(schema: JSON) -> bytes:
    """`openapi.v2.Schema`."""
    out = b""
    for key, number in (("$ref", 1), ("format", 2), ("title", 3), ("description", 4)):
        if schema.get(key):
            out += text(number, schema[key])
    if "default" in schema:
        out += field(5, any_value(schema["default"]))
    for name in schema.get("required", ()):
        out += text(19, name)
    for value in schema.get("enum", ()):
        out += field(20, any_value(value))
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        out += field(21, field(1, _schema(additional)))
    if "type" in schema:
        out += field(22, text(1, schema["type"]))
    if "items" in schema:
        out += field(23, field(1, _schema(schema["items"])))
    if "properties" in schema:
        out += field(25, messages(schema["properties"]))
    for key, value in schema.items():
        if key.startswith("x-"):
            out += field(31, text(1, key) + field(2, any_value(value)))
    return out


def any_value(value: Any) -> bytes:
    """`openapi.v2.Any`: YAML, of which JSON is a part."""
    return text(2, json.dumps(value))


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field (wire type 2)."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    return field(number, value.encode())


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
