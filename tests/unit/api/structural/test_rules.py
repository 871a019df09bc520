"""What a schema must be, and how the rules in it are judged."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

from typing import Any

import pytest
from tests import definitions

from twinstack.api.structural.celrules import compile_rules
from twinstack.api.structural.rulechecks import check_rules
from twinstack.api.structural.rules import check_schema
from twinstack.api.structural.schema import Schema

JSON = dict[str, Any]


def with_spec(**spec: Any) -> JSON:
    return {"type": "object", "properties": {"spec": spec}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, ["s.type: Required value: must not be empty at the root"]),
        ({"type": "array"}, ["s.items: Required value: must be specified", 's.type: Invalid value: "array": must be object at the root']),
        (with_spec(), ["s.properties[spec].type: Required value: must not be empty for specified object fields"]),
        (with_spec(type="array", items={}), ["s.properties[spec].items.type: Required value: must not be empty for specified array items"]),
        (with_spec(type="text"), ['s.properties[spec].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string"']),
        (with_spec(type="object", **{"$ref": "#/x"}), ["s.properties[spec].$ref: Forbidden: $ref is not supported"]),
        (with_spec(type="array", items={"type": "string"}, uniqueItems=True), ["s.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"]),
        (with_spec(type="object", properties={"a": {"type": "string"}}, additionalProperties=False), ["s.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"]),
        (with_spec(type="integer", allOf=[{"type": "integer"}]), ["s.properties[spec].allOf[0].type: Forbidden: must be empty to be structural"]),
        (with_spec(type="object", oneOf=[{"properties": {"a": {"minimum": 1}}}]), ["s.properties[spec].properties[a]: Required value: because it is defined in s.properties[spec].oneOf[0].properties[a]"]),
        (with_spec(type="integer", **{"x-kubernetes-int-or-string": True}), ['s.properties[spec].type: Invalid value: "integer": must be empty if x-kubernetes-int-or-string is true']),
        (with_spec(type="object", **{"x-kubernetes-embedded-resource": True}), ["s.properties[spec].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"]),
        (with_spec(type="object", **{"x-kubernetes-preserve-unknown-fields": False}), ["s.properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"]),
        (with_spec(type="string", pattern="("), ["s.properties[spec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing ), unterminated subpattern at position 0: `(`"]),
        (with_spec(type="integer", default="a"), ['s.properties[spec].default: Invalid value: "string":  in body must be of type integer: "string"']),
        (with_spec(type="object", default={"a": 1}), ['s.properties[spec].default: Invalid value: {"a":1}: must not have unknown fields']),
        ({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}, ["s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"]),
        (with_spec(type="array", items={"type": "object", "properties": {"k": {"type": "string"}}}, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}), ["s.properties[spec].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"]),
        (with_spec(type="array", items={"type": "string"}, **{"x-kubernetes-list-type": "map"}), ["s.properties[spec].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map", "s.properties[spec].items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map"]),
    ],
)  # fmt: skip
def test_schemas_that_are_not_structural(schema: JSON, expected: list[str]) -> None:
    assert [str(error) for error in check_schema(schema, "s")] == expected


def test_an_integer_or_a_text_may_be_told_by_two_alternatives() -> None:
    two = [{"type": "integer"}, {"type": "string"}]
    assert check_schema(with_spec(anyOf=two, **{"x-kubernetes-int-or-string": True}), "s") == []
    nested = with_spec(allOf=[{"anyOf": two}, {"maxLength": 3}], **{"x-kubernetes-int-or-string": True})
    assert check_schema(nested, "s") == []


def test_schemas_of_charts_are_structural() -> None:
    for each in definitions.all_of_them():
        for version in each["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            assert check_schema(schema, "s") == []
            assert check_rules(Schema(schema), "s") == []


def ruled(*rules: JSON, **properties: JSON) -> Schema:
    spec = definitions.record(**properties) | {"x-kubernetes-validations": list(rules)}
    return Schema({"type": "object", "properties": {"spec": spec}})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"rule": ""}, "s.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified"),
        ({"rule": "self.b > 1"}, "undefined field 'b'\n | self.b > 1\n | ....^"),
        ({"rule": "self.a >"}, "Syntax error: mismatched input '<EOF>'"),
        ({"rule": "self.l.all(x, x.nope == 1)"}, "undefined field 'nope'"),
        ({"rule": "1"}, "must evaluate to a bool"),
        ({"rule": "true", "reason": "Odd"}, 'Unsupported value: "Odd"'),
        ({"rule": "true", "message": "a\nb"}, "message must not contain line breaks"),
        ({"rule": "true", "messageExpression": "nope"}, "undeclared reference to 'nope'"),
    ],
)
def test_rules_that_cannot_be(rule: JSON, expected: str) -> None:
    listed = definitions.items(definitions.record(n=definitions.TEXT))
    (error,) = check_rules(ruled(rule, a=definitions.WHOLE, l=listed), "s")
    assert expected in str(error)


def test_rules_of_items_without_keys_know_no_past() -> None:
    item = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    (error,) = check_rules(ruled(l=definitions.items(item)), "s")
    assert (
        "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[l]"
        in str(error)
    )


def broken(schema: Schema, new: JSON, old: JSON | None = None) -> tuple[list[str], list[str]]:
    rules = compile_rules(schema, root=True)
    assert rules is not None
    errors, warnings = rules.check({"spec": new}, None if old is None else {"spec": old})
    return [str(error) for error in errors], warnings


def test_messages_reasons_and_places() -> None:
    schema = ruled(
        {"rule": "self.a < 5"},
        {"rule": "self.a < 6", "message": " small! "},
        {"rule": "self.a < 7", "messageExpression": "'is ' + string(self.a)", "reason": "FieldValueForbidden", "fieldPath": ".a"},
        {"rule": "self.a < 8", "reason": "FieldValueRequired"},
        {"rule": "self.a < 9", "reason": "FieldValueDuplicate"},
        a=definitions.WHOLE | {"x-kubernetes-validations": [{"rule": "self < 5", "message": "no"}]},
    )  # fmt: skip
    assert broken(schema, {"a": 9})[0] == [
        "spec: Invalid value: failed rule: self.a < 5",
        "spec: Invalid value: small!",
        "spec.a: Forbidden: is 9",
        "spec: Required value: failed rule: self.a < 8",
        "spec: Duplicate value",
        "spec.a: Invalid value: 9: no",
    ]
    assert broken(schema, {"a": 1})[0] == []
    assert broken(schema, {})[0][0] == 'spec: Invalid value: "object": no such key: a evaluating rule: self.a < 5'


def test_transitions_are_judged_where_there_is_a_past() -> None:
    keyed = definitions.items(
        definitions.record("k", k=definitions.TEXT, v=definitions.WHOLE)
        | {"x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "grows"}]},
        "k",
    )
    schema = ruled(
        {"rule": "self.a == oldSelf.a", "message": "fixed"},
        {"rule": "oldSelf.hasValue() || self.a == 1", "message": "starts at 1", "optionalOldSelf": True},
        a=definitions.WHOLE,
        l=keyed,
    )
    assert broken(schema, {"a": 2})[0] == ["spec: Invalid value: starts at 1"]
    assert broken(schema, {"a": 2}, {"a": 1})[0] == ["spec: Invalid value: fixed"]
    old = {"a": 1, "l": [{"k": "x", "v": 5}]}
    assert broken(schema, {"a": 1, "l": [{"k": "y", "v": 1}, {"k": "x", "v": 4}]}, old)[0] == [
        "spec.l[1]: Invalid value: grows"
    ]


def test_what_was_wrong_before_is_a_warning() -> None:
    schema = ruled({"rule": "self.a < 5", "message": "small"}, a=definitions.WHOLE, b=definitions.WHOLE)
    assert broken(schema, {"a": 9}, {"a": 9}) == ([], ["spec: Invalid value: small"])
    assert broken(schema, {"a": 9, "b": 1}, {"a": 9})[0] == ["spec: Invalid value: small"]


def test_values_are_typed_by_their_schema() -> None:
    schema = ruled(
        {"rule": "self.t > timestamp('2024-01-01T00:00:00Z') && self.d < duration('2h') && self.n == 1.0 && self.n / 2.0 == 0.5"},
        {"rule": "self.s == oldSelf.s", "message": "same set"},
        t={"type": "string", "format": "date-time"},
        d={"type": "string", "format": "duration"},
        n={"type": "number"},
        s=definitions.items(definitions.TEXT) | {"x-kubernetes-list-type": "set"},
    )  # fmt: skip
    new = {"t": "2025-01-01T00:00:00Z", "d": "1h", "n": 1, "s": ["a", "b"]}
    assert broken(schema, new, new | {"s": ["b", "a"]})[0] == []


def test_the_budget_of_all_rules_ends() -> None:
    inner = {"type": "string", "x-kubernetes-validations": [{"rule": "self.matches('^a+$')"}]}
    schema = ruled({"rule": "self.l.all(x, self.l.all(y, x == y))"}, l=definitions.items(inner))
    errors = broken(schema, {"l": ["aaaa"] * 2000})[0]
    assert errors == [
        ("spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to"
        " call cost exceeds limit for rule: self.l.all(x, self.l.all(y, x == y))")
    ]  # fmt: skip
