"""YAML as Go reads it, and what of YAML is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import nesting, yamltext
from twinstack.api.yamltext import YAMLSyntaxError
from twinstack.server import yamlanswers


def read(text: str) -> Any:
    return yamltext.decode(text.encode())[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("y", True),
        ("yEs", "yEs"),
        ("~", None),
        ("", None),
        ("null", None),
        ("017", 15),
        ("0o17", 15),
        ("08", 8.0),
        ("0x1f", 31),
        ("0b11", 3),
        ("0b_", "0b_"),
        ("1_000", 1000),
        ("-5", -5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.Inf", -math.inf),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ('"yes"', "yes"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("! 1", "1"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("a: 1\n---\nb: [", {"a": 1}),
        ("{1: a, true: b, null: c}", {"1": "a", "true": "b", "null": "c"}),
        ("{a: &x {b: c}, d: *x}", {"a": {"b": "c"}, "d": {"b": "c"}}),
        ("{a: &x 1, b: &x 2, c: *x}", {"a": 1, "b": 2, "c": 2}),
        ("- &x {a: 1, b: 2}\n- {<<: *x, b: 3}\n- {b: 3, <<: *x}", [{"a": 1, "b": 2}] + [{"a": 1, "b": 3}] * 2),
        ("- &x {a: 1}\n- &y {a: 2, b: 2}\n- <<: [*x, *y]", [{"a": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 2}]),
        ('{"<<": {a: 1}}', {"<<": {"a": 1}}),
        ("!!python/object/apply:os.getcwd []", []),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read(text) == value


def test_keys_come_sorted_and_repeated_ones_are_told() -> None:
    value, repeated = yamltext.decode(b"b: 1\na:\n  c: 1\n  c: 2\nb: 3\n1: x\n1: z\n")
    assert list(value.items()) == [("1", "z"), ("a", {"c": 2}), ("b", 3)]
    assert repeated == [
        'line 4: key "c" already set in map',
        'line 5: key "b" already set in map',
        "line 7: key 1 already set in map",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b\nc: {d", "did not find expected ',' or '}'"),
        ("a: b: c", "line 1: mapping values are not allowed in this context"),
        ("a: \0", "control characters are not allowed"),
        ("a: *b", "unknown anchor 'b' referenced"),
        ("&a {b: *a}", "anchor 'a' value contains itself"),
        ("<<: 1", "map merge requires map or sequence of maps as the value"),
        ("? [a]\n: b", "invalid map key"),
        ("!!int x", "cannot decode 'x' as a tag:yaml.org,2002:int"),
        ("!!binary aa", "cannot decode 'aa'"),
        ("9" * 5000, "a number is too long"),
        ("0x" + "f" * 5000, "a number is too long"),
        ("[" * 50_000, "exceeded max depth"),
        ("- " * 50_000, "exceeded max depth"),
        ("? " * 50_000, "exceeded max depth"),
        ("- []\n" * (nesting.MAX_PARTS + 1), "objects and lists are read"),
        ("- &a0 []\n" + "".join(f"- &a{n} [*a{n - 1}]\n" for n in range(1, 140)), "exceeded max depth"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(YAMLSyntaxError, match=r"^yaml: ") as caught:
        read(text)
    assert problem in str(caught.value)


@given(st.integers(2, 12), st.integers(2, 12))
def test_aliases_do_not_multiply(levels: int, width: int) -> None:
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    text = "\n".join(lines)
    if width**levels > 200_000:
        with pytest.raises(YAMLSyntaxError, match="excessive aliasing"):
            read(text)
    elif width**levels < 250:
        assert read(text)["a1"] == [["x"] * width] * width


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text", ["0E0", "1e3", "0.", ".5", "0o7", "0b1", "1_000", "0x_1", "yes", "~", "", "null", ".inf", "9" * 9000]
)
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert read(yamlanswers.encode({text: text}).decode()) == {text: text}


@given(json_values)
def test_what_a_printer_writes_is_read_back(value: Any) -> None:
    assert read(yamlanswers.encode(value).decode()) == value
