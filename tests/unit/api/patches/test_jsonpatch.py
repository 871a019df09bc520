"""JSON patch: RFC 6902, and where the API server's library is more lenient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import jsontext
from twinstack.api.errors import StatusError
from twinstack.api.patches.jsonpatch import apply_json_patch

DOCUMENT: dict[str, Any] = {"a": {"b": [1, 2, 3], "c": "x"}, "d": None, "e/f": 1, "g~h": 2}


def op(name: str, path: str | None = None, *value: Any, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"op": name} | ({} if path is None else {"path": path})
    return fields | ({"value": value[0]} if value else {}) | more


@pytest.mark.parametrize(
    ("operations", "path", "expected"),
    [
        ([op("add", "/a/b/-", 4)], ("a", "b"), [1, 2, 3, 4]),
        ([op("add", "/a/b/0", 0)], ("a", "b"), [0, 1, 2, 3]),
        ([op("add", "/a/b/3", 4)], ("a", "b"), [1, 2, 3, 4]),
        ([op("add", "/a/b/01", 9)], ("a", "b"), [1, 9, 2, 3]),
        ([op("add", "/a/n", {"x": 1}), op("add", "/a/n/y", 2)], ("a", "n"), {"x": 1, "y": 2}),
        ([op("add", "/a/n")], ("a", "n"), None),
        ([op("remove", "/a/b/1")], ("a", "b"), [1, 3]),
        ([op("remove", "/a/b/-1")], ("a", "b"), [1, 2]),
        ([op("replace", "/a/b/2", "z")], ("a", "b"), [1, 2, "z"]),
        ([op("replace", "/a/new", 1)], ("a", "new"), 1),
        ([op("replace", "a/c", "y")], ("c",), "y"),
        ([op("replace", "/e~1f", 5)], ("e/f",), 5),
        ([op("replace", "/g~0h", 5)], ("g~h",), 5),
        ([op("move", "/a/b/0", **{"from": "/a/b/2"})], ("a", "b"), [3, 1, 2]),
        ([op("copy", "/z", **{"from": "/a/c"})], ("z",), "x"),
        ([op("copy", "/z", **{"from": "/a/nosuch"})], ("z",), None),
        ([op("test", "/a/c", "x"), op("replace", "/a/c", "y")], ("a", "c"), "y"),
        ([op("test", "/nosuch", None), op("test", "/d", None), op("add", "/k", 1)], ("k",), 1),
        ([op("test", "", DOCUMENT), op("add", "/k", 1)], ("k",), 1),
        ([op("replace", "", {"only": 1})], ("only",), 1),
    ],
)
def test_operations(operations: list[Any], path: tuple[Any, ...], expected: Any) -> None:
    before = copy.deepcopy(DOCUMENT)
    result = apply_json_patch(DOCUMENT, operations)
    for key in path:
        result = result[key]
    assert result == expected
    assert before == DOCUMENT


@pytest.mark.parametrize(
    "operations",
    [
        [op("add", "/a/x/y", 1)], [op("add", "/a/b/4", 1)], [op("add", "/a/b/x", 1)], [op("add", "", 1)],
        [op("add", "/a/c/d", 1)], [op("remove", "/nosuch")], [op("remove", "/a/b/3")], [op("replace", "/a/b/-", 1)],
        [op("replace", "/x/y", 1)], [op("replace", "", 1)], [op("test", "/a/c", "y")], [op("test", "/a/b/0", True)],
        [op("test", "/a/b/0", 1.0)], [op("test", "/a/b/9", 1)], [op("move", "/x", **{"from": "/nosuch"})],
        [op("move", "/x")], [op("copy", "/x/y", **{"from": "/a"})], [op("frobnicate", "/a")], [{"path": "/a"}],
        [op("add", None, 1)], [op("add", "/a/b/" + "9" * 5000, 1)],
        [op("add", "/z", ["x" * 1000])] + [op("copy", "/z/-", **{"from": "/z"})] * 20,
        [op("add", "/z", [])] + [op("copy", "/z/-", **{"from": "/z"})] * 200,
    ],
)  # fmt: skip
def test_what_does_not_apply_is_one_and_the_same_error(operations: list[Any]) -> None:
    with pytest.raises(StatusError) as caught:
        apply_json_patch(DOCUMENT, operations)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert caught.value.message == "the server rejected our request due to an error in our request"


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ({"op": "add"}, "cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (["x"], "cannot unmarshal string into Go value of type handlers.jsonPatchOp"),
        ([{"op": 5}], "cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
    ],
)
def test_what_is_no_patch(operations: Any, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        apply_json_patch(DOCUMENT, operations)
    assert (caught.value.code, caught.value.message) == (400, f"error decoding patch: json: {message}")


keys = st.sampled_from(["a", "b", "c/d", "~"])
values = st.recursive(
    st.integers(0, 3) | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=6,
)


def escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


@given(st.dictionaries(keys, values), keys, values)
def test_add_then_test_then_remove(document: dict[str, Any], key: str, value: Any) -> None:
    path = f"/{escaped(key)}"
    added = apply_json_patch(document, [op("add", path, value), op("test", path, value)])
    assert added == document | {key: value}
    removed = apply_json_patch(added, [op("remove", path)])
    assert removed == {name: item for name, item in document.items() if name != key}


@given(st.dictionaries(keys, values, min_size=1), st.data())
def test_moving_there_and_back(document: dict[str, Any], data: st.DataObject) -> None:
    path = f"/{escaped(data.draw(st.sampled_from(sorted(document))))}"
    there = {"op": "move", "from": path, "path": "/moved"}
    back = {"op": "move", "from": "/moved", "path": path}
    assert apply_json_patch(document, [there, back]) == document


def test_a_copy_is_a_value_of_its_own() -> None:
    operations = [op("copy", "/z", **{"from": "/a"}), op("add", "/z/b/-", 4), op("add", "/a/b/-", 5)]
    result = apply_json_patch(DOCUMENT, operations)
    assert (result["z"]["b"], result["a"]["b"], DOCUMENT["a"]["b"]) == ([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3])


def test_numbers_with_their_text_are_copied() -> None:
    document = jsontext.decode(b'{"a": 1.50}')
    assert apply_json_patch(document, [op("copy", "/b", **{"from": "/a"})]) == {"a": 1.5, "b": 1.5}
