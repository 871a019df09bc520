"""JSON merge patch: the laws of RFC 7386 and its examples."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.patches.merge import apply_merge_patch

keys = st.sampled_from(["a", "b", "c"])
scalars = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(keys, values, max_size=3)


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_examples(document: Any, patch: Any, result: Any) -> None:
    assert apply_merge_patch(document, patch) == result


@given(values, values)
def test_arguments_stay_as_they_are_and_a_second_time_changes_nothing(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    once = apply_merge_patch(document, patch)
    assert (document, patch) == before
    assert apply_merge_patch(once, patch) == once


@given(objects)
def test_the_empty_patch_is_neutral(document: dict[str, Any]) -> None:
    assert apply_merge_patch(document, {}) == document


@given(objects, objects)
def test_what_the_patch_names_is_as_it_says(document: dict[str, Any], patch: dict[str, Any]) -> None:
    result = apply_merge_patch(document, patch)
    for key, value in patch.items():
        if value is None:
            assert key not in result
        elif not isinstance(value, dict | list):
            assert result[key] == value
    assert all(result[key] == value for key, value in document.items() if key not in patch)


@given(objects, objects, objects)
def test_flat_patches_compose(document: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> None:
    def flat(patch: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in patch.items() if not isinstance(value, dict | list)}

    one, two = flat(first), flat(second)
    assert apply_merge_patch(apply_merge_patch(document, one), two) == apply_merge_patch(document, one | two)
