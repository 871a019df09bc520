"""What a schema must be to be structural, with upstream's messages (apiextensions, schema validation). Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from twinstack.api.errors import FieldError, forbidden_field, invalid, not_supported, required
from twinstack.api.structural.defaulting import prune
from twinstack.api.structural.patterns import compiled
from twinstack.api.structural.schema import Schema
from twinstack.api.structural.validation import compile_schema

JSON = dict[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_META = ("metadata", "apiVersion", "kind")
_NESTED_FORBIDDEN = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
)
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_QUADRATIC = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
_METADATA = "must not specify anything other than name and generateName, but metadata is implicitly specified"
_IF_EMBEDDED = "must be object if x-kubernetes-embedded-resource is true"
_WITHOUT_PROPERTIES = (
    "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
)
_IF_INT_OR_STRING = "must be false if x-kubernetes-int-or-string is true"


def check_schema(raw: JSON, path: str) -> list[FieldError]:
    """Everything that is wrong with the schema of an object; `path` is the schema's own."""
    errors = list(_generic(raw, path, reason="", root=True))
    structural = sorted([*_invariants(raw, path, "root"), *_completeness(raw, raw, path)], key=str)
    return [*errors, *structural]


# --- keywords


def _generic(raw: JSON, path: str, *, reason: str, root: bool = False, meta: bool = False) -> Iterator[FieldError]:
    """Keywords that are not supported, and defaults. `reason`: why none may be set; `meta`: inside ObjectMeta."""
    if raw.get("type") and raw["type"] not in _TYPES and raw["type"] != "null":
        yield not_supported(f"{path}.type", raw["type"], _TYPES)
    if raw.get("default") is not None:
        yield from [forbidden_field(f"{path}.default", reason)] if reason else _default_errors(raw, path, meta=meta)
    if raw.get("id"):
        yield forbidden_field(f"{path}.id", "id is not supported")
    for name in _UNSUPPORTED:
        if raw.get(name) is not None:
            yield forbidden_field(f"{path}.{name}", f"{name} is not supported")
    if raw.get("type") == "null":
        yield forbidden_field(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(raw.get("items"), list):
        yield forbidden_field(f"{path}.items", "items must be a schema object and not an array")
    if meta and raw.get("x-kubernetes-embedded-resource"):
        yield forbidden_field(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")
    if raw.get("uniqueItems"):
        yield forbidden_field(f"{path}.uniqueItems", _QUADRATIC)
    if raw.get("additionalProperties") is not None and raw.get("properties"):
        yield forbidden_field(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    if raw.get("x-kubernetes-preserve-unknown-fields") is False:
        yield invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    yield from _list_errors(raw, path)
    yield from _generic_parts(raw, path, reason=reason, root=root, meta=meta)


def _generic_parts(raw: JSON, path: str, *, reason: str, root: bool, meta: bool) -> Iterator[FieldError]:
    for name, inner in (raw.get("properties") or {}).items():
        inside = meta or ((root or bool(raw.get("x-kubernetes-embedded-resource"))) and name in _META)
        why = f"must not be set in top-level {name}" if root and name in _META else reason
        yield from _generic(inner or {}, f"{path}.properties[{name}]", reason=why, meta=inside)
    additional = raw.get("additionalProperties")
    if isinstance(additional, dict):
        why = "must not be set inside additionalProperties applying to object metadata" if meta else reason
        yield from _generic(additional, f"{path}.additionalProperties", reason=why, meta=meta)
    if isinstance(raw.get("items"), dict):
        yield from _generic(raw["items"], f"{path}.items", reason=reason, meta=meta)
    for where, inner in _alternatives(raw):
        yield from _generic(inner, f"{path}.{where}", reason=reason, meta=meta)


def _alternatives(raw: JSON) -> Iterator[tuple[str, JSON]]:
    for name in ("allOf", "anyOf", "oneOf"):
        for i, inner in enumerate(raw.get(name) or ()):
            yield f"{name}[{i}]", inner
    if raw.get("not") is not None:
        yield "not", raw["not"]


def _default_errors(raw: JSON, path: str, *, meta: bool) -> list[FieldError]:
    schema, value = Schema(raw), copy.deepcopy(raw["default"])
    if not meta and prune(value, schema, resource=schema.embedded):
        return [invalid(f"{path}.default", raw["default"], "must not have unknown fields")]
    found: list[tuple[str, FieldError]] = []
    try:
        compile_schema(raw)(raw["default"], "", found)
    except ValueError:
        return []  # of a pattern, told by itself
    where = f"{path}.default"
    return [
        FieldError(error.type, where if error.field == "<nil>" else f"{where}.{error.field}", error.body)
        for _, error in found
    ]


def _list_errors(raw: JSON, path: str) -> Iterator[FieldError]:
    kind, keys = raw.get("x-kubernetes-list-type"), raw.get("x-kubernetes-list-map-keys") or []
    if kind is not None:
        if raw.get("type") != "array":
            wanted = "must be array if x-kubernetes-list-type is specified"
            yield invalid(f"{path}.type", raw["type"], wanted) if raw.get("type") else required(f"{path}.type", wanted)
        if kind not in ("atomic", "set", "map"):
            yield not_supported(f"{path}.x-kubernetes-list-type", kind, ("atomic", "map", "set"))
    if keys and kind != "map":
        wanted = "must be map if x-kubernetes-list-map-keys is non-empty"
        where = f"{path}.x-kubernetes-list-type"
        yield required(where, wanted) if kind is None else invalid(where, kind, wanted)
    if kind == "map":
        yield from _map_list_errors(raw, keys, path)
    elif kind == "set" and isinstance(raw.get("items"), dict):
        yield from _set_errors(raw["items"], f"{path}.items")
    map_type = raw.get("x-kubernetes-map-type")
    if map_type is not None:
        if raw.get("type") != "object":
            wanted = "must be object if x-kubernetes-map-type is specified"
            yield invalid(f"{path}.type", raw["type"], wanted) if raw.get("type") else required(f"{path}.type", wanted)
        if map_type not in ("atomic", "granular"):
            yield not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))


def _map_list_errors(raw: JSON, keys: list[str], path: str) -> Iterator[FieldError]:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield required(where, "must not be empty if x-kubernetes-list-type is map")
    items = raw.get("items")
    if not isinstance(items, dict):
        yield required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
        return
    if items.get("type") != "object":
        yield invalid(
            f"{path}.items.type",
            items.get("type") or "",
            "must be object if parent array's x-kubernetes-list-type is map",
        )
    properties = items.get("properties") or {}
    for i, key in enumerate(keys):
        if key not in properties:
            yield invalid(f"{where}[{i}]", key, "entries must all be names of item properties")
        elif properties[key].get("type") in ("array", "object"):
            yield invalid(
                f"{path}.items.properties[{key}].type",
                properties[key]["type"],
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            )
        elif properties[key].get("default") is None and key not in (items.get("required") or ()):
            yield required(
                f"{path}.items.properties[{key}].default",
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            )
    if len(set(keys)) < len(keys):
        yield invalid(where, keys, "must not contain duplicate entries")
    if items.get("nullable"):
        yield forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is map")


def _set_errors(items: JSON, path: str) -> Iterator[FieldError]:
    if items.get("nullable"):
        yield forbidden_field(f"{path}.nullable", "cannot be nullable when x-kubernetes-list-type is set")
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield invalid(
            f"{path}.x-kubernetes-map-type",
            items.get("x-kubernetes-map-type"),
            "must be atomic as item of a list with x-kubernetes-list-type=set",
        )
    if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        yield invalid(
            f"{path}.x-kubernetes-list-type",
            items["x-kubernetes-list-type"],
            "must be atomic as item of a list with x-kubernetes-list-type=set",
        )


# --- structure

_EMPTY_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def _invariants(raw: JSON, path: str, level: str) -> Iterator[FieldError]:
    kind, embedded = raw.get("type") or "", bool(raw.get("x-kubernetes-embedded-resource"))
    items, properties = raw.get("items"), raw.get("properties") or {}
    loose = raw.get("x-kubernetes-int-or-string"), raw.get("x-kubernetes-preserve-unknown-fields")
    if kind == "array" and items is None:
        yield required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _invariants(items, f"{path}.items", "item")
    for name, inner in properties.items():
        yield from _invariants(inner or {}, f"{path}.properties[{name}]", "field")
    yield from _additional_invariants(raw, path, level, embedded=embedded)
    if loose[0]:
        yield from _int_or_string_errors(raw, path)
    yield from _value_errors(raw, path, pattern_of_two=bool(loose[0]))
    if embedded and kind != "object":
        yield invalid(f"{path}.type", kind, _IF_EMBEDDED) if kind else required(f"{path}.type", _IF_EMBEDDED)
    elif not kind and not any(loose):
        yield required(f"{path}.type", _EMPTY_TYPE[level])
    if level == "root" and kind and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object at the root")
    if level == "root" or embedded:
        yield from _meta_errors(properties, path, root=level == "root")
    if embedded and not loose[1] and not properties:
        yield required(f"{path}.properties", _WITHOUT_PROPERTIES)
    if level == "root" and raw.get("nullable"):
        yield forbidden_field(f"{path}.nullable", "nullable cannot be true at the root")


def _additional_invariants(raw: JSON, path: str, level: str, *, embedded: bool) -> Iterator[FieldError]:
    additional = raw.get("additionalProperties")
    if additional is None:
        return
    if level == "root":
        yield forbidden_field(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(additional, dict):
        yield from _invariants(additional, f"{path}.additionalProperties", "field")
    if embedded:
        yield forbidden_field(
            f"{path}.additionalProperties", "must not be used if x-kubernetes-embedded-resource is set"
        )


def _int_or_string_errors(raw: JSON, path: str) -> Iterator[FieldError]:
    for name in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
        if raw.get(name):
            yield invalid(f"{path}.{name}", True, _IF_INT_OR_STRING)
    if raw.get("type"):
        yield invalid(f"{path}.type", raw["type"], "must be empty if x-kubernetes-int-or-string is true")


def _meta_errors(properties: JSON, path: str, *, root: bool) -> Iterator[FieldError]:
    for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        if name in properties and (properties[name] or {}).get("type") != wanted:
            have = (properties[name] or {}).get("type") or ""
            yield invalid(f"{path}.properties[{name}].type", have, f"must be {wanted}")
    if root and "metadata" in properties:
        said = dict(properties["metadata"] or {})
        if set(said.get("properties") or ()) - {"name", "generateName"} or set(said) - {
            "type",
            "properties",
            "default",
        }:
            yield forbidden_field(f"{path}.properties[metadata]", _METADATA)


def _value_errors(raw: JSON, path: str, *, pattern_of_two: bool) -> Iterator[FieldError]:
    """`pattern_of_two`: an integer or a text may be told by two alternatives, here or in the first of allOf."""
    for where, inner in _alternatives(raw):
        if pattern_of_two and where.startswith("anyOf") and raw.get("anyOf") == _INT_OR_STRING:
            continue
        first = pattern_of_two and where == "allOf[0]" and inner.get("anyOf") == _INT_OR_STRING
        yield from _nested_errors(inner, f"{path}.{where}", skips_any_of=first)
    if raw.get("pattern"):
        try:
            compiled(raw["pattern"])
        except ValueError as error:
            detail = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
            yield invalid(f"{path}.pattern", raw["pattern"], detail)


def _nested_errors(raw: JSON, path: str, *, skips_any_of: bool = False) -> Iterator[FieldError]:
    """Inside alternatives values are judged, never described."""
    own = {name: value for name, value in raw.items() if name != "anyOf"} if skips_any_of else raw
    yield from _value_errors(own, path, pattern_of_two=False)
    if isinstance(raw.get("items"), dict):
        yield from _nested_errors(raw["items"], f"{path}.items")
    for name, inner in (raw.get("properties") or {}).items():
        yield from _nested_errors(inner or {}, f"{path}.properties[{name}]")
    for name, text in _NESTED_FORBIDDEN:
        if raw.get(name):
            yield forbidden_field(f"{path}.{name}", text)
    if "metadata" in (raw.get("properties") or {}):
        yield forbidden_field(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _completeness(nested: JSON, outer: JSON, path: str) -> Iterator[FieldError]:
    """What alternatives judge is described outside of them, too."""
    for where, inner in _alternatives(nested):
        yield from _described(inner, outer, f"{path}.{where}", path)
    if nested is outer:
        for name, child in (outer.get("properties") or {}).items():
            yield from _completeness(child or {}, child or {}, f"{path}.properties[{name}]")
        for name in ("items", "additionalProperties"):
            if isinstance(outer.get(name), dict):
                yield from _completeness(outer[name], outer[name], f"{path}.{name}")


def _described(nested: JSON, outer: JSON, _path: str, described: str) -> Iterator[FieldError]:
    for name, inner in (nested.get("properties") or {}).items():
        found = (outer.get("properties") or {}).get(name)
        if found is None and isinstance(outer.get("additionalProperties"), dict):
            found = outer["additionalProperties"]
        where = f"{described}.properties[{name}]"
        if found is None:
            yield required(where, f"because it is defined in {_path}.properties[{name}]")
        else:
            yield from _described(inner or {}, found, f"{_path}.properties[{name}]", where)
    if isinstance(nested.get("items"), dict):
        if isinstance(outer.get("items"), dict):
            yield from _described(nested["items"], outer["items"], f"{_path}.items", f"{described}.items")
        else:
            yield required(f"{described}.items", f"because it is defined in {_path}.items")
    for where, inner in _alternatives(nested):
        yield from _described(inner, outer, f"{_path}.{where}", described)
