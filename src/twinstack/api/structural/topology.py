"""How objects of a structural schema are divided among field managers."""

from __future__ import annotations

from twinstack.api.fieldsets.topology import SCALAR, Shape, Topology, topology_of
from twinstack.api.structural.schema import ABSENT, Schema

_ANY = SCALAR["any"]
_SCALARS = {"string": "string", "boolean": "boolean", "integer": "numeric", "number": "numeric"}
_TYPE_META = {"apiVersion": SCALAR["string"], "kind": SCALAR["string"]}


class _Open(Topology):
    """An object of which more is kept than its schema describes."""

    def field(self, name: str) -> Topology | None:
        return self.fields.get(name, _ANY)


def topology(schema: Schema, *, resource: bool = False) -> Topology:
    """`resource`: the value has apiVersion, kind and metadata, whatever its schema says of them."""
    if schema.int_or_string:
        return SCALAR["scalar"]
    if schema.type in _SCALARS:
        return SCALAR[_SCALARS[schema.type]]
    if schema.type == "array":
        return _of_list(schema)
    if schema.type != "object":
        return _ANY
    if schema.map_type == "atomic":
        return Topology(Shape.ATOMIC, "map", fields=_fields(schema, resource=resource))
    if schema.additional is not None and not schema.properties:
        return Topology(Shape.MAP, "map", inner=topology(schema.additional, resource=schema.additional.embedded))
    kind = _Open if schema.preserve else Topology
    return kind(Shape.STRUCT, "map", fields=_fields(schema, resource=resource or schema.embedded))


def _fields(schema: Schema, *, resource: bool) -> dict[str, Topology]:
    fields = {name: topology(inner) for name, inner in schema.properties.items()}
    if resource:
        fields |= _TYPE_META
        fields["metadata"] = topology_of("meta.v1.ObjectMeta")
    return fields


def _of_list(schema: Schema) -> Topology:
    inner = topology(schema.items) if schema.items is not None else _ANY
    if schema.list_type == "set":
        return Topology(Shape.SET, "list", inner=inner)
    if schema.list_type == "map" and schema.items is not None:
        fields = schema.items.properties
        keys = [
            (name, fields[name].default if name in fields and fields[name].default is not ABSENT else None)
            for name in sorted(schema.list_keys)
        ]
        return Topology(Shape.KEYED, "list", inner=inner, keys=keys)
    return Topology(Shape.ATOMIC, "list", inner=inner)
