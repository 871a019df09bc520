"""How much structure is read."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api import jsontext, nesting
from twinstack.api.jsontext import JSONSyntaxError


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_depth_and_number_of_parts_have_an_edge() -> None:
    assert nesting.problem(nested(nesting.MAX_DEPTH)) == ""
    assert nesting.problem(nested(nesting.MAX_DEPTH + 1)) == "exceeded max depth"
    parts: tuple[Any, ...] = ([], "x")
    for part in parts:
        assert nesting.problem([part] * (nesting.MAX_PARTS - 1)) == ""
        assert nesting.problem([part] * nesting.MAX_PARTS).startswith("too many parts")
    shared: Any = []
    for _ in range(60):
        shared = [shared, shared]  # 2^60 when followed
    assert nesting.problem(shared).startswith("too many parts")


def test_json_with_many_members_is_not_read() -> None:
    assert len(jsontext.decode(b"[" + b"1," * (nesting.MAX_PARTS - 2) + b"1]")) == nesting.MAX_PARTS - 1
    with pytest.raises(JSONSyntaxError, match="too many parts"):
        jsontext.decode(b"[" + b"1," * nesting.MAX_PARTS + b"1]")


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500, b"[" * 300 + b"]" * 300])
def test_json_is_not_read_deeper(text: bytes) -> None:
    with pytest.raises(JSONSyntaxError, match="exceeded max depth"):
        jsontext.decode(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"\udc00\ud800"', "\ufffd\ufffd"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\ud800"', "\\ud800"),
        (rb'"\\\ud800"', "\\\ufffd"),
        (b'"\xff\\ud83d\\ude00\\ud83d"', "\ufffd\U0001f600\ufffd"),
    ],
)
def test_halves_of_surrogate_pairs_are_replaced(text: bytes, value: str) -> None:
    assert jsontext.decode(text) == value


def test_long_numbers_keep_their_text() -> None:
    number = jsontext.decode(b"[" + b"9" * 50_000 + b"]")[0]
    assert number.text == "9" * 50_000
    assert jsontext.decode(b"9" * 40) == int("9" * 40)
