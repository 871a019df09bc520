"""Sets of fields of an object, in the form of FieldsV1 (meta/v1 ManagedFieldsEntry.fieldsV1).

A set is a trie of path elements: `f:NAME` a field or a key of a map, `k:{"port":80,"protocol":"TCP"}` an item of a
list with keys, `v:VALUE` an item of a list that is a set, `i:N` an index. An empty node is a field of the set without
more below it; in a node with children `.` says that the node itself belongs to the set, too. So the JSON of
`fieldsV1`, decoded, is a set already. Sets are never changed once made, and share their parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeAlias

FieldSet: TypeAlias = dict[str, "FieldSet"]
Path = tuple[str, ...]

ITSELF = "."
_LEAF: FieldSet = {ITSELF: {}}
_KINDS = {"f": 0, "k": 1, "v": 2, "i": 3}


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in either set."""
    if not other or one == other:
        return one
    out = dict(one)
    for element, node in other.items():
        mine = out.get(element)
        out[element] = node if mine is None else _joined(mine, node)
    return out


def _joined(one: FieldSet, other: FieldSet) -> FieldSet:
    if one == other:
        return one
    return union(one or _LEAF, other or _LEAF)


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in `one` alone. A field in `other` takes away itself, not what is below it."""
    return _less(one, other, whole=False) if other else one


def without(one: FieldSet, other: FieldSet) -> FieldSet:
    """`one` less the fields of `other` and all that is below them."""
    return _less(one, other, whole=True) if other else one


def _less(one: FieldSet, other: FieldSet, *, whole: bool) -> FieldSet:
    out: FieldSet = {}
    for element, node in one.items():
        taken = other.get(element)
        if taken is None:
            out[element] = node
        elif element == ITSELF or (whole and (not taken or ITSELF in taken)):
            continue
        else:
            left = _less(node or _LEAF, taken or _LEAF, whole=whole)
            if left:
                out[element] = _closed(left)
    return out


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in both sets."""
    out: FieldSet = {}
    for element, node in one.items():
        theirs = other.get(element)
        if theirs is None:
            continue
        if element == ITSELF:
            out[element] = {}
            continue
        both = intersection(node or _LEAF, theirs or _LEAF)
        if both:
            out[element] = _closed(both)
    return out


def _closed(node: FieldSet) -> FieldSet:
    """A node as a set has it: one that is only itself is empty."""
    return {} if len(node) == 1 and ITSELF in node else node


def has(fields: FieldSet, path: Path) -> bool:
    """Whether the field at a path belongs to the set."""
    for element in path:
        found = fields.get(element)
        if found is None:
            return False
        fields = found
    return bool(path) and (not fields or ITSELF in fields)


def set_of(path: Path) -> FieldSet:
    """The set of the one field at a path."""
    fields: FieldSet = {}
    for element in reversed(path):
        fields = {element: fields}
    return fields


def paths(fields: FieldSet, above: Path = ()) -> Iterator[Path]:
    """Every field of the set: those of one level before those below, names before keys, keys by value."""
    elements = sorted((element for element in fields if element != ITSELF), key=_rank)
    for element in elements:
        node = fields[element]
        if not node or ITSELF in node:
            yield (*above, element)
    for element in elements:
        if fields[element]:
            yield from paths(fields[element], (*above, element))


def is_field_set(value: object) -> bool:
    """Whether decoded JSON is a set of fields, every element well formed."""
    if not isinstance(value, dict):
        return False
    return all(_is_element(element) and is_field_set(node) for element, node in value.items())


def _is_element(element: str) -> bool:
    kind, colon, text = element[:1], element[1:2], element[2:]
    if element == ITSELF or (kind == "f" and colon == ":"):
        return True
    if kind not in _KINDS or colon != ":":
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if kind == "i":
        return type(value) is int
    return kind == "v" or (isinstance(value, dict) and bool(value))


def _rank(element: str) -> tuple[object, ...]:
    kind, text = element[:1], element[2:]
    if kind == "f":
        return 0, text
    value = json.loads(text)
    if kind == "k":
        return 1, [(name, isinstance(item, str), item) for name, item in value.items()]
    return _KINDS[kind], isinstance(value, str), value


def path_text(path: Path) -> str:
    """A path as messages show it: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(_element_text, path))


def _element_text(element: str) -> str:
    kind, text = element[:1], element[2:]
    if kind == "f":
        return f".{text}"
    if kind == "v":
        return f"[={text}]"
    if kind == "i":
        return f"[{text}]"
    keys = json.loads(text)
    return f"[{','.join(f'{name}={json.dumps(value, ensure_ascii=False)}' for name, value in keys.items())}]"
