#!/usr/bin/env python3
"""Build src/twinstack/api/schema.json, the one table of API types.

    scripts/build_schema.py OPENAPI.json

OPENAPI.json holds the fields of every type of the OpenAPI v3 documents of a kube-apiserver: `kinds` maps
`group/version.Kind` to a type name, `types` a type name to `fields` and `required`. Beside this program lie
further-types.json (what OPENAPI.json lacks, in its form), protobuf-fields.txt (numbers and pointers) and go-types.txt
(names in error messages). They are joined by type and field; the table's form is that of `Field` and `Type` in
src/twinstack/api/schema_table.py. Run it again for a new version of Kubernetes and commit the result.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "src/twinstack/api/schema.json"
FIELD = re.compile(r"(\d+)(\^|[A-Za-z0-9$-]*):(\[\]|\{\})?([A-Za-z.]+)(\?)?")

SCALARS = {
    ("string", ""): "string",
    ("string", "byte"): "bytes",
    ("boolean", ""): "bool",
    ("integer", "int32"): "int32",
    ("integer", "int64"): "int64",
    ("number", "double"): "float64",
    ("object", ""): "any",
    ("any", ""): "any",
}
WRAPPERS = {
    "api.resource.Quantity": "quantity",
    "meta.v1.Time": "time",
    "meta.v1.MicroTime": "microtime",
    "meta.v1.FieldsV1": "any",
    "runtime.RawExtension": "any",
    "util.intstr.IntOrString": "int-or-string",
    "apiextensions.v1.CustomResourceSubresourceStatus": "any",
    "apiextensions.v1.JSON": "any",
    "apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}
# Fields that JSON shows even when they are empty, though the OpenAPI documents do not call them required.
ALWAYS = {
    "apps.v1.StatefulSetOrdinals": ("start",),
    "apps.v1.StatefulSetStatus": ("availableReplicas",),
    "discovery.v1.EndpointSlice": ("endpoints", "ports"),
    "policy.v1.PodDisruptionBudgetStatus": (
        "currentHealthy",
        "desiredHealthy",
        "disruptionsAllowed",
        "expectedPods",
    ),
    "rbac.v1.ClusterRole": ("rules",),
    "rbac.v1.Role": ("rules",),
    "scheduling.v1.PriorityClass": ("value",),
}
# Kinds that OPENAPI.json does not hold. What is in these parts of them is kept as it comes.
KEPT_WHOLE = {
    "resource.k8s.io/v1.DeviceClass": ("spec",),
    "resource.k8s.io/v1.ResourceClaim": ("spec", "status"),
    "resource.k8s.io/v1.ResourceClaimTemplate": ("spec",),
    "resource.k8s.io/v1.ResourceSlice": ("spec",),
}


class WireField(NamedTuple):
    number: int
    name: str
    container: str
    type: str
    pointer: bool


def read_messages(path: Path) -> dict[str, list[WireField]]:
    """Messages by `group.version.Name`; types that are messages are spelled the same way."""
    messages = {}
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(" = ")
        group = name.rpartition(".")[0]
        fields = []
        for text in rest.split():
            match = FIELD.fullmatch(text)
            if not match:
                raise SystemExit(f"{path}: {name}: cannot read {text!r}")
            number, field, container, kind, pointer = match.groups()
            if len(kind) > 2:
                kind = full_name(kind if "." in kind else f"{group}.{kind}")
            fields.append(WireField(int(number), field, container or "", kind, pointer is not None))
        messages[full_name(name)] = fields
    return messages


def full_name(short: str) -> str:
    group, _, name = short.rpartition(".")
    return short if "." in group else f"{group}.v1.{name}"


def read_go_types(path: Path) -> dict[str, str]:
    """`Type.field` → Go name; a leading `=` says that it names the container."""
    lines = (line.split(" ") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: ("=" if sign == "==" else "") + go for name, sign, go in lines}


def value_type(spec: dict[str, Any]) -> str:
    kind = spec["type"]
    if kind in WRAPPERS:
        return WRAPPERS[kind]
    if "." in kind:
        return str(kind)
    return SCALARS[kind, spec.get("format", "")]


def field_entry(spec: dict[str, Any]) -> dict[str, Any]:
    """One field in the table's form, without what the wire table adds."""
    entry: dict[str, Any] = {}
    inner, container = spec, ""
    while inner["type"] == "array" or (inner["type"] == "object" and "values" in inner):
        container += "[]" if inner["type"] == "array" else "{}"
        inner = inner["items"] if inner["type"] == "array" else inner["values"]
    entry["type"] = value_type(inner)
    if container:
        entry["container"] = container
    for source, target in (
        ("list-type", "listType"),
        ("list-map-keys", "listKeys"),
        ("map-type", "mapType"),
        ("patch-strategy", "patchStrategy"),
        ("patch-merge-key", "mergeKey"),
        ("default", "default"),
    ):
        if source in spec:
            entry[target] = spec[source]
    if "enum" in inner:
        entry["enum"] = inner["enum"]
    return entry


def flatten(name: str, messages: dict[str, list[WireField]]) -> dict[str, WireField]:
    """The wire fields of a type by JSON name, with those of nested messages that JSON shows inline."""
    fields: dict[str, WireField] = {}
    for field in messages[name]:
        if field.name == "^":
            fields |= flatten(field.type, messages)
        else:
            fields[field.name] = field
    return fields


def build(openapi: dict[str, Any]) -> dict[str, Any]:
    messages = read_messages(HERE / "protobuf-fields.txt")
    go_types = read_go_types(HERE / "go-types.txt")
    types: dict[str, Any] = {}
    for name, spec in openapi["types"].items():
        if name in WRAPPERS or "fields" not in spec:
            continue
        fields = {field: field_entry(field_spec) for field, field_spec in spec["fields"].items()}
        entry: dict[str, Any] = {"fields": fields}
        if "required" in spec:
            entry["required"] = spec["required"]
        if name in messages:
            own = {field.name: field.number for field in messages[name]}
            for field, wire in flatten(name, messages).items():
                if own.get(field):
                    fields[field]["number"] = own[field]
                if wire.pointer:
                    fields[field]["pointer"] = True
            inline = {str(field.number): field.type for field in messages[name] if field.name == "^"}
            if inline:
                entry["inline"] = inline
        for field in fields:
            if go := go_types.pop(f"{name}.{field}", ""):
                fields[field]["go"] = go
        for field in ALWAYS.get(name, ()):
            fields[field]["always"] = True
        types[name] = entry
    add_inline_messages(types, messages)
    kinds = dict(openapi["kinds"])
    for kind, parts in KEPT_WHOLE.items():
        add_kept_whole(kinds, types, kind, parts)
    if go_types:
        raise SystemExit(f"go-types.txt: no such fields: {', '.join(go_types)}")
    return {"kinds": dict(sorted(kinds.items())), "types": types}


def add_kept_whole(kinds: dict[str, str], types: dict[str, Any], kind: str, parts: tuple[str, ...]) -> None:
    """The kind and its list."""
    group, _, name = kind.partition("/")
    single = f"{group.partition('.')[0]}.{name}"
    kinds |= {kind: single, f"{kind}List": f"{single}List"}
    said = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    fields = {**said, "metadata": {"type": "meta.v1.ObjectMeta"}, **{part: {"type": "any"} for part in parts}}
    types[single] = {"fields": fields, "required": ["spec"]}
    items = {"type": single, "container": "[]"}
    types[f"{single}List"] = {
        "fields": {**said, "items": items, "metadata": {"type": "meta.v1.ListMeta"}},
        "required": ["items"],
    }


def add_inline_messages(types: dict[str, Any], messages: dict[str, list[WireField]]) -> None:
    """Messages that JSON knows only inline: their fields, by number, as the parent describes them."""
    for entry in list(types.values()):
        for message in entry.get("inline", {}).values():
            if message in types:
                continue
            fields = {
                field.name: {**entry["fields"][field.name], "number": field.number} for field in messages[message]
            }
            types[message] = {"fields": fields}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    openapi = json.loads(Path(sys.argv[1]).read_text())
    further = json.loads((HERE / "further-types.json").read_text())
    table = build({part: openapi[part] | further[part] for part in ("kinds", "types")})
    lines = [f'"kinds":{json.dumps(table["kinds"], separators=(",", ":"))}', '"types":{']
    rows = [f"{json.dumps(n)}:{json.dumps(t, separators=(',', ':'))}" for n, t in sorted(table["types"].items())]
    TARGET.write_text("{" + ",\n".join([lines[0], lines[1] + "\n" + ",\n".join(rows) + "\n}"]) + "}\n")
    sys.stderr.write(f"{TARGET}: {len(table['types'])} types, {TARGET.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
