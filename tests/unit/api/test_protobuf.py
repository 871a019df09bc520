"""Protobuf bodies: what an encoder that follows the table writes is read back as the same object."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api import protobuf, schema
from twinstack.api.protobuf import MAGIC, DecodeError, decode
from twinstack.api.schema import Field, check, get_type

JSON = dict[str, Any]


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tagged(number: int, wire: int, payload: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(payload)) + payload if wire == 2 else payload)


def encode_value(field: Field, value: Any) -> tuple[int, bytes]:
    """(wire type, payload) of one value."""
    kind = field.type
    if field.is_object:
        return 2, encode(value, kind)
    if kind == "string":
        return 2, value.encode()
    if kind in ("int32", "int64", "bool"):
        return 0, varint(int(value))
    if kind == "bytes":
        return 2, base64.b64decode(value)
    if kind == "quantity":
        return 2, tagged(1, 2, value.encode())
    if kind == "int-or-string":
        text = isinstance(value, str)
        number, string = (0, value) if text else (value, "")
        return 2, tagged(1, 0, varint(text)) + tagged(2, 0, varint(number)) + tagged(3, 2, string.encode())
    if kind in ("time", "microtime"):
        instant = datetime.datetime.fromisoformat(value)
        nanos = instant.microsecond * 1000
        return 2, tagged(1, 0, varint(int(instant.timestamp()))) + tagged(2, 0, varint(nanos))
    return 2, tagged(1, 2, json.dumps(value).encode())


def encode(obj: JSON, type_name: str) -> bytes:
    """An object's message: fields that JSON shows inline go into their own."""
    described = get_type(type_name)
    out = b""
    for name, value in obj.items():
        field = described.fields[name]
        if not field.number or value is None:
            continue
        values = value if field.container == "[]" else [value]
        if field.container == "{}":
            for key, item in value.items():
                entry = tagged(1, 2, key.encode()) + tagged(2, *encode_value(field, item))
                out += tagged(field.number, 2, entry)
            continue
        for item in values:
            out += tagged(field.number, *encode_value(field, item))
    for number, message in described.inline.items():
        inner = {name: obj[name] for name in get_type(message).fields if name in obj}
        if inner:
            out += tagged(number, 2, encode(inner, message))
    return out


def body(obj: JSON, api_version: str, kind: str, type_name: str) -> bytes:
    type_meta = tagged(1, 2, api_version.encode()) + tagged(2, 2, kind.encode())
    return MAGIC + tagged(1, 2, type_meta) + tagged(2, 2, encode(obj, type_name)) + tagged(4, 2, b"")


def test_a_pod_with_inline_messages_and_every_kind_of_value() -> None:
    pod = {
        "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "w", "configMap": {"name": "c"}}],
            "containers": [
                {
                    "name": "a",
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                    "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "resources": {"limits": {"cpu": "500m"}},
                }
            ],
            "securityContext": {"runAsUser": 0, "supplementalGroups": [1, 2]},
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"tolerationSeconds": -1}],
        },
    }
    stored, _ = check(pod, "core.v1.Pod")
    read = decode(body(stored, "v1", "Pod", "core.v1.Pod"))
    assert (read.pop("apiVersion"), read.pop("kind")) == ("v1", "Pod")
    assert check(read, "core.v1.Pod") == (stored, [])


def test_delete_options_of_any_group() -> None:
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "dryRun": ["All"]}
    read = decode(body(options, "apps/v1", "DeleteOptions", "meta.v1.DeleteOptions"))
    assert read == {"apiVersion": "apps/v1", "kind": "DeleteOptions"} | options
    empty = MAGIC + tagged(1, 2, tagged(1, 2, b"v1") + tagged(2, 2, b"DeleteOptions"))
    assert decode(empty) == {"apiVersion": "v1", "kind": "DeleteOptions"}


def test_micro_times_bytes_and_raw_json() -> None:
    lease = {"spec": {"renewTime": "2024-01-01T00:00:00.000123Z", "holderIdentity": ""}}
    assert decode(body(lease, "coordination.k8s.io/v1", "Lease", "coordination.v1.Lease"))["spec"] == lease["spec"]
    secret = {"data": {"a": "AAEC"}}
    assert decode(body(secret, "v1", "Secret", "core.v1.Secret"))["data"] == secret["data"]
    managed: JSON = {"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {}}}]}}
    assert decode(body(managed, "v1", "Secret", "core.v1.Secret"))["metadata"] == managed["metadata"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty data"),
        (b"{}", "does not appear to be a protobuf message"),
        (MAGIC, 'no kind "" is registered'),
        (MAGIC + b"\x0a\xff", "cut short|out of"),
        (MAGIC + b"\x0b", "wire type 3"),
        (MAGIC + b"\xff" * 12, "too long"),
        (MAGIC + tagged(1, 2, tagged(1, 2, b"v1") + tagged(2, 2, b"Nosuch")), 'no kind "Nosuch"'),
        (MAGIC + tagged(1, 2, tagged(1, 2, b"resource.k8s.io/v1") + tagged(2, 2, b"DeviceClass")), "not read"),
    ],
)
def test_malformed_bodies(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(data)


@pytest.mark.parametrize("seconds", [1 << 62, -(1 << 62), 253_402_300_800, -62_135_596_801])
def test_times_of_no_calendar_are_refused(seconds: int) -> None:
    created = tagged(1, 2, tagged(8, 2, tagged(1, 0, varint(seconds))))
    with pytest.raises(DecodeError, match="a time is out of range"):
        decode(MAGIC + tagged(1, 2, tagged(1, 2, b"v1") + tagged(2, 2, b"ConfigMap")) + tagged(2, 2, created))


@given(st.binary(max_size=60), st.sampled_from(["Pod", "Service", "Secret"]))
def test_anything_is_read_or_refused(noise: bytes, kind: str) -> None:
    data = MAGIC + tagged(1, 2, tagged(1, 2, b"v1") + tagged(2, 2, kind.encode())) + tagged(2, 2, noise)
    try:
        read = decode(data)
    except DecodeError:
        return
    assert read["kind"] == kind


words = st.sampled_from(["", "a", "ü"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": words,
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bytes": st.binary(max_size=4).map(lambda data: base64.b64encode(data).decode()),
    "quantity": st.sampled_from(["0", "100m", "1Gi"]),
    "time": st.just("2024-02-02T00:00:00Z"),
    "microtime": st.just("2024-02-02T00:00:00.000001Z"),
    "int-or-string": st.integers(-5, 5) | words,
}


def objects(type_name: str, depth: int = 4) -> st.SearchStrategy[JSON]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in get_type(type_name).fields.items():
        if name in ("apiVersion", "kind") or field.type == "any" or (field.is_object and not depth):
            continue
        value = objects(field.type, depth - 1) if field.is_object else VALUES[field.type]
        if field.container == "[]":
            value = st.lists(value, min_size=1, max_size=2)
        elif field.container == "{}":
            value = st.dictionaries(st.sampled_from(["a", "b"]), value, min_size=1, max_size=2)
        fields[name] = value
    return st.fixed_dictionaries({}, optional=fields)


KINDS = {
    "core.v1.Service": ("v1", "Service"),
    "core.v1.Node": ("v1", "Node"),
    "core.v1.Event": ("v1", "Event"),
    "discovery.v1.EndpointSlice": ("discovery.k8s.io/v1", "EndpointSlice"),
    "coordination.v1.Lease": ("coordination.k8s.io/v1", "Lease"),
}


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(KINDS)).flatmap(lambda name: st.tuples(st.just(name), objects(name))))
def test_what_is_encoded_is_read_back(case: tuple[str, JSON]) -> None:
    type_name, obj = case
    stored, _ = check(obj, type_name)
    read = decode(body(stored, *KINDS[type_name], type_name))
    again, findings = check(read, type_name)
    again.pop("apiVersion")
    again.pop("kind")
    assert findings == []
    assert again == stored


def test_every_message_of_served_kinds_can_be_read() -> None:
    for name in schema.reachable(tuple(KINDS)):
        described = get_type(name)
        assert set(protobuf._slots(name)) == {
            *(field.number for field in described.fields.values() if field.number),
            *described.inline,
        }
