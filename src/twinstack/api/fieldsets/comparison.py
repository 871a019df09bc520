"""What differs between two versions of an object, and which fields one has, as sets of fields."""

from __future__ import annotations

from typing import Any, NamedTuple

from twinstack.api.fieldsets.sets import ITSELF, FieldSet, union
from twinstack.api.fieldsets.topology import Shape, Topology

JSON = dict[str, Any]

_LEAF: FieldSet = {}


class Comparison(NamedTuple):
    """Fields that only the new version has, that differ, and that only the old version had."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet

    def taken(self) -> FieldSet:
        """What the new version says anew."""
        return union(self.added, self.modified)


def compare(old: JSON, new: JSON, topology: Topology) -> Comparison:
    """Lists with keys and sets are compared item by item, whatever their order."""
    found = Comparison({}, {}, {})
    _compare_map(old, new, topology, found)
    return found


def _compare_map(old: JSON, new: JSON, topology: Topology, found: Comparison) -> None:
    field = topology.field
    for name, value in new.items():
        if name in old:
            if old[name] != value:
                _compare_value(f"f:{name}", old[name], value, field(name), found)
        else:
            found.added[f"f:{name}"] = _whole(value, field(name))
    for name in old:
        if name not in new:
            found.removed[f"f:{name}"] = _whole(old[name], field(name))


def _compare_value(element: str, old: Any, new: Any, topology: Topology | None, found: Comparison) -> None:
    """Two values that are not equal."""
    if topology is None or topology.leaf or not (old or new):
        found.modified[element] = _LEAF
        return
    below = Comparison({}, {}, {})
    if topology.shape < Shape.KEYED:
        _compare_map(old or {}, new or {}, topology, below)
    else:
        _compare_list(old or [], new or [], topology, below)
    for outer, inner in zip(found, below, strict=True):
        if inner:
            outer[element] = inner


def _compare_list(old: list[Any], new: list[Any], topology: Topology, found: Comparison) -> None:
    before, after = _by_element(old, topology), _by_element(new, topology)
    inner = topology.inner
    for element in before | after:
        had, has = before.get(element, []), after.get(element, [])
        if len(had) <= 1 and len(has) <= 1:
            if not had:
                found.added[element] = _whole(has[0], inner)
            elif not has:
                found.removed[element] = _whole(had[0], inner)
            elif had[0] != has[0]:
                _compare_value(element, had[0], has[0], inner, found)
        elif len(had) > 1 and len(has) > 1:
            if had != has:
                found.modified[element] = _LEAF
        elif len(had) > 1:  # an item that was ambiguous is one item now, or gone
            found.removed[element] = _LEAF
            if has:
                found.added[element] = _whole(has[0], inner)
        else:
            if had:
                found.removed[element] = _whole(had[0], inner)
            found.added[element] = _LEAF


def _by_element(items: list[Any], topology: Topology) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(topology.element(item), []).append(item)
    return found


def _whole(value: Any, topology: Topology | None) -> FieldSet:
    """The node of a value that one version has and the other lacks: itself, and all in it."""
    if topology is None or topology.leaf or not value:
        return _LEAF
    node: FieldSet = {ITSELF: _LEAF}
    inner = topology.inner
    if topology.shape is Shape.STRUCT:
        fields = topology.fields
        for name, item in value.items():
            below = fields.get(name)
            node["f:" + name] = _LEAF if not item or below is None or below.leaf else _whole(item, below)
    elif topology.shape is Shape.MAP:
        for name, item in value.items():
            node["f:" + name] = _whole(item, inner)
    else:
        for item in value:
            element = topology.element(item)
            node[element] = _LEAF if element in node else _whole(item, inner)
    return node


def fields_of(value: JSON, topology: Topology) -> FieldSet:
    """The fields that an applied configuration speaks of: all that it sets, but not what merely holds them."""
    return _fields(value, topology)


def _fields(value: Any, topology: Topology) -> FieldSet:
    """The children of a node."""
    if topology.shape is Shape.SET:
        return {topology.element(item): {} for item in value}
    if topology.shape is Shape.KEYED:
        return {topology.element(item): _node(item, topology.inner, itself=True) for item in value}
    entries = topology.shape is Shape.MAP
    found: FieldSet = {}
    for name, item in value.items():
        below = topology.field(name)
        if below is None or below.leaf or item is None or item == {}:
            found[f"f:{name}"] = {}
            continue
        node = _node(item, below, itself=entries)
        if node or entries:
            found[f"f:{name}"] = node
    return found


def _node(item: Any, topology: Topology | None, *, itself: bool) -> FieldSet:
    if topology is None or topology.leaf or not item:
        return {}
    below = _fields(item, topology)
    return {ITSELF: {}, **below} if itself and below else below


def with_holders(fields: FieldSet, topology: Topology | None) -> FieldSet:
    """The set, with every field of a structure that has something of the set below it."""
    out: FieldSet = {}
    for element, node in fields.items():
        if not node or topology is None:
            out[element] = node
            continue
        if element[:1] == "f":
            inner = topology.field(element[2:])
            below = with_holders(node, inner)
            named = topology.shape is Shape.STRUCT or topology.shape is Shape.ATOMIC
            out[element] = {ITSELF: {}, **below} if named and inner is not None else below
        else:
            listed = topology.shape in (Shape.KEYED, Shape.SET)
            out[element] = with_holders(node, topology.inner if listed else None)
    return out
