"""Values under a structural schema: validation, defaults, unknown fields, list types, patterns, formats."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.structural.defaulting import drop_nulls, fill_defaults, prune
from twinstack.api.structural.formats import FORMATS
from twinstack.api.structural.listtypes import check_lists
from twinstack.api.structural.patterns import compiled
from twinstack.api.structural.ratcheting import unchanged
from twinstack.api.structural.schema import Schema
from twinstack.api.structural.validation import compile_schema

JSON = dict[str, Any]


def problems(schema: JSON, value: Any) -> list[str]:
    found: list[Any] = []
    compile_schema({"type": "object", "properties": {"x": schema}})({"x": value}, "", found)
    return [str(error) for _, error in found]


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "a", 'x: Invalid value: "string": x in body must be of type integer: "string"'),
        ({"type": "integer"}, 1.5, 'x: Invalid value: "number": x in body must be of type integer: "number"'),
        ({"type": "string"}, None, 'x: Invalid value: "null": x in body must be of type string: "null"'),
        ({"type": "string", "nullable": True}, 1, 'x: Invalid value: "integer": x in body must be of type string,null: "integer"'),
        ({"x-kubernetes-int-or-string": True}, True, 'x: Invalid value: "boolean": x in body must be of type integer,string: "boolean"'),
        ({"type": "string", "enum": ["a", "b"]}, "c", 'x: Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "integer", "enum": [1]}, 2, 'x: Unsupported value: 2: supported values: "1"'),
        ({"type": "string", "maxLength": 2}, "abc", "x: Too long: may not be more than 2 bytes"),
        ({"type": "string", "minLength": 2}, "a", 'x: Invalid value: "a": x in body should be at least 2 chars long'),
        ({"type": "string", "pattern": "^a$"}, "b", "x: Invalid value: \"b\": x in body should match '^a$'"),
        ({"type": "string", "format": "date-time"}, "b", 'x: Invalid value: "b": x in body must be of type date-time: "b"'),
        ({"type": "integer", "minimum": 1}, 0, "x: Invalid value: 0: x in body should be greater than or equal to 1"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 1, "x: Invalid value: 1: x in body should be greater than 1"),
        ({"type": "number", "maximum": 1.5}, 2, "x: Invalid value: 2: x in body should be less than or equal to 1.5"),
        ({"type": "integer", "maximum": 1, "exclusiveMaximum": True}, 1, "x: Invalid value: 1: x in body should be less than 1"),
        ({"type": "number", "multipleOf": 0.1}, 0.25, "x: Invalid value: 0.25: x in body should be a multiple of 0.1"),
        ({"type": "integer", "format": "int32"}, 1 << 31, '<nil>: Invalid value: "": Checked value must be of type integer with format int32 in x'),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["a"], "x: Invalid value: 1: x in body should have at least 2 items"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["a", "b"], "x: Too many: 2: must have at most 1 items"),
        ({"type": "array", "items": {"type": "string"}}, [1], 'x[0]: Invalid value: "integer": x[0] in body must be of type string: "integer"'),
        ({"type": "object", "required": ["y"]}, {}, "x.y: Required value"),
        ({"type": "object", "minProperties": 1}, {}, "x: Invalid value: 0: x in body should have at least 1 properties"),
        ({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}}, {"a": "", "b": ""}, "x: Too many: 2: must have at most 1 items"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": 1}, 'x.a: Invalid value: "integer": x.a in body must be of type string: "integer"'),
        ({"type": "object", "not": {"required": ["a"]}}, {"a": 1}, '<nil>: Invalid value: "": "x" must not validate the schema (not)'),
    ],
)  # fmt: skip
def test_one_rule_broken(schema: JSON, value: Any, expected: str) -> None:
    assert problems(schema, value) == [expected]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 3),
        ({"type": "integer"}, 3.0),
        ({"type": "number"}, 3),
        ({"type": "string", "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "80%"),
        ({"type": "number", "multipleOf": 0.1}, 0.3),
        ({"type": "string", "format": "no-such-format"}, "b"),
        ({"type": "string", "enum": ["a"], "nullable": True}, None),
        ({"x-kubernetes-preserve-unknown-fields": True}, {"a": [1]}),
    ],
)
def test_values_that_fit(schema: JSON, value: Any) -> None:
    assert problems(schema, value) == []


def test_alternatives_tell_of_the_one_that_went_furthest() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "object", "properties": {"c": {"type": "integer"}}}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"required": ["c"]}}}],
    }
    assert problems(schema, {"b": {}}) == [
        '<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found none valid',
        "x.b.c: Required value",
    ]
    assert problems(schema, {"a": "", "b": {"c": 1}}) == [
        '<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives'
    ]
    assert problems(schema, {"a": ""}) == []
    any_of = {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}
    assert problems(any_of, 3)[0] == '<nil>: Invalid value: "": "x" must validate at least one schema (anyOf)'
    all_of = {"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 1}]}
    assert (
        problems(all_of, 3)[-1] == '<nil>: Invalid value: "": "x" must validate all the schemas (allOf). None validated'
    )
    assert problems(all_of, 0)[-1] == '<nil>: Invalid value: "": "x" must validate all the schemas (allOf)'


SHOP = Schema(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "default": {},
                "properties": {
                    "size": {"type": "integer", "default": 3},
                    "note": {"type": "string", "nullable": True, "default": "n"},
                    "gone": {"type": "string"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True,
                             "properties": {"strict": {"type": "object", "properties": {"a": {"type": "string"}}}}},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
                    "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                              "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer", "default": 80}}}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "by": {"type": "object", "additionalProperties": {"type": "object", "properties": {"v": {"type": "integer", "default": 1}}}},
                },
            }
        },
    }
)  # fmt: skip


def test_defaults_come_from_the_outside_in() -> None:
    obj: JSON = {}
    fill_defaults(obj, SHOP)
    assert obj == {"spec": {"size": 3, "note": "n"}}
    obj = {"spec": {"size": None, "note": None, "ports": [{"name": "a"}], "by": {"k": {}}}}
    fill_defaults(obj, SHOP)
    assert obj == {"spec": {"size": 3, "note": None, "ports": [{"name": "a", "port": 80}], "by": {"k": {"v": 1}}}}


def test_nulls_that_mean_absence_go() -> None:
    obj: JSON = {"spec": {"gone": None, "note": None, "size": None}}
    drop_nulls(obj, SHOP)
    assert obj == {"spec": {"note": None, "size": None}}


def test_unknown_fields_go_but_where_they_are_kept() -> None:
    obj: JSON = {
        "apiVersion": "v", "kind": "k", "metadata": {"anything": 1}, "zzz": 1,
        "spec": {
            "size": 1, "odd": {"x": 1}, "free": {"more": {"deep": 1}, "strict": {"a": "", "b": 1}},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "status": {}},
            "ports": [{"name": "a", "bad": 1}], "by": {"k": {"v": 1, "w": 2}},
        },
    }  # fmt: skip
    found = prune(obj, SHOP, resource=True)
    assert found == ["spec.by.k.w", "spec.free.strict.b", "spec.odd", "spec.pod.status", "spec.ports[0].bad", "zzz"]
    assert obj["spec"]["free"] == {"more": {"deep": 1}, "strict": {"a": ""}}
    assert obj["metadata"] == {"anything": 1}
    assert prune(obj, SHOP, resource=True) == []


def test_lists_hold_nothing_twice() -> None:
    obj = {"spec": {"ports": [{"name": "a"}, {"name": "b"}, {"name": "a", "port": 1}], "tags": ["x", "y", "x", "x"]}}
    assert [str(error) for error in check_lists(obj, SHOP)] == [
        'spec.ports[2]: Duplicate value: {"name":"a"}',
        'spec.tags[2]: Duplicate value: "x"',
    ]


def test_what_has_not_changed_is_told_from_what_has() -> None:
    old = {"spec": {"size": 1, "ports": [{"name": "a", "port": 0}, {"name": "b", "port": 1}], "tags": ["x"]}}
    new = copy.deepcopy(old)
    new["spec"]["ports"] = [{"name": "b", "port": 5}, {"name": "a", "port": 0}]
    assert unchanged("spec.size", new, old, SHOP)
    assert unchanged("spec.tags[0]", new, old, SHOP)
    assert unchanged("spec.ports[1].port", new, old, SHOP)
    assert not unchanged("spec.ports[0].port", new, old, SHOP)
    assert not unchanged("spec.missing", new, old, SHOP)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("^[a-z]+$", "abc", "abc\n"),
        (r"^\d+\z", "12", "1２"),
        ("^[[:alpha:]_]+$", "aB_", "a1"),
        ("(?i)^abc$", "ABC", "abcd"),
        (r"^[^/\[\]]$", "a", "["),
        (r"^a\$$", "a$", "a"),
        ("^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$", "1Gi", "x"),
    ],
)
def test_patterns_of_go(pattern: str, yes: str, no: str) -> None:
    assert compiled(pattern).search(yes) is not None
    assert compiled(pattern).search(no) is None


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("ipv4", "10.0.0.1", "::1"),
        ("ipv6", "fd00::1", "10.0.0.1"),
        ("cidr", "fd00::/8", "fd00::1"),
        ("uri", "https://a/b?c=d", "no scheme"),
        ("email", "a@b.example", "a.b"),
        ("hostname", "a.example", "-a"),
        ("mac", "00:11:22:aa:bb:cc", "00:11"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("byte", "YWI=", "YWI"),
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-02-29T10:00:00.5Z", "2024-02-30T10:00:00Z"),
        ("duration", "1h30m", "1x"),
        ("isbn10", "0-306-40615-2", "0-306-40615-3"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("hexcolor", "#aabbcc", "#aabbc"),
        ("k8s-short-name", "a-b", "A"),
    ],
)
def test_formats(name: str, yes: str, no: str) -> None:
    assert FORMATS[name](yes)
    assert not FORMATS[name](no)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["spec", "size", "ports", "name", "by", "x"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_completing_twice_changes_nothing_and_fails_on_no_shape(value: Any) -> None:
    if not isinstance(value, dict):
        value = {"spec": value}
    prune(value, SHOP, resource=True)
    drop_nulls(value, SHOP)
    fill_defaults(value, SHOP)
    once = copy.deepcopy(value)
    assert prune(value, SHOP, resource=True) == []
    drop_nulls(value, SHOP)
    fill_defaults(value, SHOP)
    assert value == once
    compile_schema(SHOP.raw)(value, "", [])
    check_lists(value, SHOP)
