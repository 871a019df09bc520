"""Sets of fields obey the laws of sets, path by path."""

from __future__ import annotations

import json
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.fieldsets.sets import (
    FieldSet,
    Path,
    difference,
    has,
    intersection,
    is_field_set,
    path_text,
    paths,
    set_of,
    union,
    without,
)

ELEMENTS = ["f:a", "f:b", 'k:{"port":80}', 'k:{"port":443}', 'v:"x"', "i:0"]
PATHS = st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=4).map(tuple)
SETS = st.frozensets(PATHS, max_size=8)


def made(members: frozenset[Path]) -> FieldSet:
    return reduce(union, map(set_of, sorted(members)), {})


@given(SETS, SETS)
def test_the_operations_are_those_of_sets_of_paths(one: frozenset[Path], other: frozenset[Path]) -> None:
    a, b = made(one), made(other)
    before = json.dumps([a, b])
    assert set(paths(a)) == one
    assert set(paths(union(a, b))) == one | other
    assert set(paths(difference(a, b))) == one - other
    assert set(paths(intersection(a, b))) == one & other
    below = {path for path in one if any(path[: len(taken)] == taken for taken in other)}
    assert set(paths(without(a, b))) == one - below
    assert json.dumps([a, b]) == before


@given(SETS, SETS)
def test_equal_sets_have_one_form(one: frozenset[Path], other: frozenset[Path]) -> None:
    a, b = made(one), made(other)
    assert union(a, b) == union(b, a) == made(one | other)
    assert difference(a, b) == made(one - other)
    assert intersection(a, b) == made(one & other)
    assert is_field_set(a)


@given(SETS, PATHS)
def test_membership(members: frozenset[Path], path: Path) -> None:
    assert has(made(members), path) == (path in members)


def test_paths_in_the_order_of_messages() -> None:
    fields: FieldSet = {
        "f:spec": {
            "f:type": {},
            "f:ports": {
                'k:{"port":443,"protocol":"TCP"}': {".": {}, "f:name": {}},
                'k:{"port":80,"protocol":"TCP"}': {"f:name": {}},
            },
        },
        "f:metadata": {"f:finalizers": {'v:"example.com/f"': {}}},
    }
    assert [path_text(path) for path in paths(fields)] == [
        '.metadata.finalizers[="example.com/f"]',
        ".spec.type",
        '.spec.ports[port=443,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].name',
        '.spec.ports[port=443,protocol="TCP"].name',
    ]


def test_what_is_no_field_set() -> None:
    value: object
    for value in ([], 5, {"f:a": 5}, {"x:a": {}}, {"k:{": {}}, {"k:5": {}}, {"i:x": {}}, {"a": {}}):
        assert not is_field_set(value)
