"""Bodies as objects: types, repeated keys, YAML, and texts that are no JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api import jsontext, yamltext
from twinstack.api.decoding import decode_object
from twinstack.api.errors import StatusError
from twinstack.api.resources import resource

JSON = dict[str, Any]

SERVICES, DEPLOYMENTS, EVENTS = resource("", "services"), resource("apps", "deployments"), resource("", "events")
YAML = "application/yaml"


def refusal(body: bytes | str, content_type: str = "application/json", **options: Any) -> str:
    with pytest.raises(StatusError) as caught:
        decode_object(body.encode() if isinstance(body, str) else body, content_type, options.pop("of", SERVICES))
    assert caught.value.code in (400, 415)
    return caught.value.message


def test_type_comes_from_the_resource() -> None:
    for body in (b"{}", b"null", b'{"apiVersion":"","kind":""}', b'{"kind":"Service"}', b'{"apiVersion":null}'):
        obj, warnings = decode_object(body, "", SERVICES)
        assert (obj["apiVersion"], obj["kind"], warnings) == ("v1", "Service", [])
    assert decode_object(b"{}", "application/json; charset=utf-8", DEPLOYMENTS)[0]["apiVersion"] == "apps/v1"


UNREGISTERED = 'no kind "{}" is registered for version "{}" in scheme "pkg/api/legacyscheme/scheme.go:30"'


@pytest.mark.parametrize(
    ("body", "what", "problem"),
    [
        (
            '{"kind":"ConfigMap"}',
            ("ConfigMap", "v1"),
            "converting (v1.ConfigMap) to (core.Service): unknown conversion",
        ),
        ('{"kind":"Nosuch"}', ("Nosuch", "v1"), UNREGISTERED.format("Nosuch", "v1")),
        ('{"apiVersion":"v2"}', ("Service", "v2"), UNREGISTERED.format("Service", "v2")),
        ('{"apiVersion":"apps/v1"}', ("Service", "v1"), UNREGISTERED.format("Service", "apps/v1")),
    ],
)
def test_other_types_are_refused(body: str, what: tuple[str, str], problem: str) -> None:
    kind, version = what
    assert refusal(body) == f'{kind} in version "{version}" cannot be handled as a Service: {problem}'


def test_old_versions_are_told_apart() -> None:
    assert refusal('{"apiVersion":"apps/v1beta1","kind":"Deployment"}', of=DEPLOYMENTS) == (
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    )
    assert refusal('{"apiVersion":"events.k8s.io/v1","kind":"Event"}', of=EVENTS) == (
        "the API version in the data (events.k8s.io/v1) does not match the expected API version (v1)"
    )


def test_bodies_that_are_no_objects() -> None:
    start = "the object provided is unrecognized (must be of type Service): "
    assert refusal("") == f"{start}couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
    assert refusal('{"apiVersion": 5}').startswith(
        f"{start}couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field"
    )
    assert refusal('{"apiVersion": "a/b/c"}') == (
        f'{start}unexpected GroupVersion string: a/b/c ({{"apiVersion": "a/b/c"}})'
    )
    assert refusal("{}", "application/vnd.kubernetes.protobuf").startswith(
        f"{start}provided data does not appear to be a protobuf message"
    )
    assert refusal(b"[" * 100_000).startswith(f"{start}couldn't get version/kind; json parse error: exceeded max depth")
    assert "accepted media types include" in refusal("{}", "application/cbor")


def test_delete_options() -> None:
    assert decode_object(b'{"gracePeriodSeconds":0,"nosuch":1}', "", None)[0] == {"gracePeriodSeconds": 0}
    assert refusal("garbage", of=None) == (
        "couldn't get version/kind; json parse error: invalid character 'g' looking for beginning of value"
    )
    assert refusal('{"kind":"Service"}', of=None).startswith('no kind "Service" is registered for version "v1"')


REPEATED = '{"spec":{"ports":[{"port":80,"port":81}],"foo":{"a":1,"a":2},"type":"ClusterIP","type":"NodePort"}}'


def test_repeated_and_unknown_fields_in_the_order_of_the_text() -> None:
    findings = ['duplicate field "spec.ports[0].port"', 'unknown field "spec.foo"', 'duplicate field "spec.type"']
    obj, warnings = decode_object(REPEATED.encode(), "", SERVICES, "Warn")
    assert warnings == findings
    assert (obj["spec"]["type"], obj["spec"]["ports"][0]["port"]) == ("NodePort", 81)
    assert decode_object(REPEATED.encode(), "", SERVICES, "Ignore")[1] == []
    with pytest.raises(StatusError) as caught:
        decode_object(REPEATED.encode(), "", SERVICES, "Strict")
    assert caught.value.message.endswith(f"strict decoding error: {', '.join(findings)}")


def test_keys_and_colons_inside_strings_are_no_repeated_keys() -> None:
    inner = json.dumps({"a": "b", "c": json.dumps({"d": 'e":f'})})
    body = json.dumps({"metadata": {"annotations": {"last": inner, 'odd"': ":", "a\\": "x"}}}).encode()
    value = jsontext.decode(body)
    assert decode_object(body, "", SERVICES, "Strict")[0]["metadata"] == value["metadata"]


keys = st.sampled_from(["a", "b", 'q"', "\\"])
values = st.recursive(
    st.sampled_from(["", '":', "x", 1, True, None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(keys, values), st.sampled_from([None, 2]))
def test_distinct_keys_without_escapes_are_found_distinct(document: JSON, indent: int | None) -> None:
    text = json.dumps(document, indent=indent).encode()
    if "\\" not in text.decode():
        assert not jsontext.has_repeated_keys(text, jsontext.decode(text))


@given(st.dictionaries(st.sampled_from(["a", "b"]), values, min_size=1))
def test_repeated_keys_are_found(document: JSON) -> None:
    body = json.dumps(document)
    again = next(iter(document))
    text = f'{body[:-1]},"{again}":1}}'.encode()
    assert jsontext.has_repeated_keys(text, jsontext.decode(text))


@given(st.text('{}[]",:01-+.eEtrufalsn\\ \n', max_size=12))
def test_go_and_python_agree_on_what_json_is(text: str) -> None:
    try:
        json.loads(text)
        good = True
    except ValueError:
        good = False
    assert (jsontext.syntax_error(text.encode()) == "") is good


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'a'}", r"invalid character '\'' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("nul", "unexpected end of JSON input"),
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ('"\\x"', "invalid character 'x' in string escape code"),
        ('"\\u00g0"', r"invalid character 'g' in \u hexadecimal character escape"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1ex", "invalid character 'x' in exponent of numeric literal"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("\ufeff{}", "invalid character 'ï' looking for beginning of value"),
        ('"\n"', r"invalid character '\n' in string literal"),
    ],
)
def test_syntax_errors_in_the_words_of_go(text: str, message: str) -> None:
    assert jsontext.syntax_error(text.encode()) == message


def test_numbers_and_bytes_that_go_accepts() -> None:
    assert jsontext.decode(b"123456789012345678901234567890") == 123456789012345678901234567890
    assert jsontext.decode(b'"\xff"') == "\ufffd"
    number = jsontext.decode(b"1.50e1")
    assert (number, number.text) == (15.0, "1.50e1")


def test_yaml_is_yaml_1_1_without_surprises() -> None:
    text = b"a: yes\nb: 0x10\nc: 010\nd: 1:30\ne: 2024-01-01\nf: ~\ng: 1.5\nh: '5'\n1: x\ntrue: no\n"
    text += b"base: &b {k: v}\nm: {<<: *b}\n"
    value, repeated = yamltext.decode(text)
    assert value == {
        "a": True, "b": 16, "c": 8, "d": "1:30", "e": "2024-01-01", "f": None, "g": 1.5, "h": "5", "1": "x",
        "true": False, "base": {"k": "v"}, "m": {"k": "v"},
    }  # fmt: skip
    assert repeated == []
    assert list(value) == sorted(value)


def test_yaml_bodies() -> None:
    body = b"metadata:\n  name: a\n  name: b\nspec:\n  nosuch: 1\n---\nkind: Ignored\n"
    obj, warnings = decode_object(body, YAML, SERVICES)
    assert obj["metadata"] == {"name": "b"}
    assert warnings == ['line 3: key "name" already set in map', 'unknown field "spec.nosuch"']
    assert decode_object(b"# nothing\n", YAML, SERVICES)[0]["kind"] == "Service"
    assert "yaml: line 2: did not find expected ',' or '}' (" in refusal("a: b\nmetadata: {name: x\n", YAML)
    assert "json: cannot unmarshal array into Go value of type struct" in refusal("- a\n", YAML)
