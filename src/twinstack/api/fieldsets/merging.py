"""Applied configurations merged into objects, and fields taken out of them, by schema. Arguments are not changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from twinstack.api.fieldsets.sets import FieldSet, has
from twinstack.api.fieldsets.topology import Shape, Topology

JSON = dict[str, Any]

_ABSENT: Any = object()


def merge(live: JSON, config: JSON, topology: Topology) -> JSON:
    """`live` with all that `config` says. Items of lists with keys take the order of `config` where both have them."""
    merged = _merge(live, config, topology)
    return {} if merged is _ABSENT else merged


def _merge(old: Any, new: Any, topology: Topology | None) -> Any:
    if topology is None or topology.leaf or not (old or new):
        return new
    if topology.shape < Shape.KEYED:
        return _merge_maps(old or {}, new or {}, topology) or _ABSENT
    return _merge_lists(old or [], new or [], topology) or _ABSENT


def _merge_maps(old: JSON, new: JSON, topology: Topology) -> JSON:
    out = dict(old)
    for name, value in new.items():
        merged = _merge(old[name], value, topology.field(name)) if name in old else value
        if merged is _ABSENT:
            out.pop(name, None)
        else:
            out[name] = merged
    return out


def _merge_lists(old: Sequence[Any], new: Sequence[Any], topology: Topology) -> list[Any]:
    """Both orders are kept as far as they agree; where they do not, that of `new` holds."""
    have = [topology.element(item) for item in old]
    want = [topology.element(item) for item in new]
    mine = dict(zip(have, old, strict=True))
    wanted = dict(zip(want, new, strict=True))
    if len(mine) < len(have):
        for element, count in Counter(have).items():
            if count > 1:
                mine[element] = _ABSENT  # nobody can say which one is meant
    shared = iter([element for element in want if element in mine])
    next_shared = next(shared, None)
    out: list[Any] = []
    merged: set[str] = set()

    def take(element: str) -> None:
        merged.add(element)
        before = mine.get(element, _ABSENT)
        value = wanted[element] if before is _ABSENT else _merge(before, wanted[element], topology.inner)
        if value is not _ABSENT:
            out.append(value)

    left = right = 0
    while left < len(have) or right < len(want):
        if left < len(have) and right < len(want):
            if have[left] == want[right]:
                take(have[left])
                left, right = left + 1, right + 1
                next_shared = next(shared, None)
                continue
            if have[left] in wanted and next_shared is not None and next_shared != have[left]:
                left += 1  # shared, but its turn in the new order comes later
                continue
        if left < len(have):
            if have[left] not in wanted:
                out.append(old[left])
                left += 1
                continue
            if have[left] in merged:
                left += 1
        if right < len(want):
            take(want[right])
            if next_shared == want[right]:
                next_shared = next(shared, None)
            right += 1
    return out


def remove(value: JSON, fields: FieldSet, topology: Topology) -> JSON:
    """The object without the fields of a set. What is emptied by that becomes null."""
    removed = _remove(value, fields, topology)
    return {} if removed is None else removed


def _remove(value: Any, fields: FieldSet, topology: Topology | None) -> Any:
    if topology is None or topology.shape is Shape.SCALAR:
        return value
    if topology.shape is Shape.ATOMIC or not value:
        return None
    if topology.shape < Shape.KEYED:
        kept: JSON = {}
        for name, item in value.items():
            element = f"f:{name}"
            if not has(fields, (element,)):
                below = fields.get(element)
                kept[name] = _remove(item, below, topology.field(name)) if below else item
        return kept or None
    items: list[Any] = []
    for item in value:
        element = topology.element(item)
        if not has(fields, (element,)):
            below = fields.get(element)
            items.append(_remove(item, below, topology.inner) if below else item)
    return items or None
