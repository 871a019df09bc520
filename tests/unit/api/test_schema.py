"""The check of objects against the table of types."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api import schema
from twinstack.api.resources import RESOURCES
from twinstack.api.schema import Number, TypeMismatch, check

SERVICE = "core.v1.Service"
JSON = dict[str, Any]
words = st.sampled_from(["", "a", "b"])


def stored(obj: JSON, type_name: str = SERVICE) -> JSON:
    result, findings = check(obj, type_name)
    assert findings == []
    return result


def refusal(obj: JSON, type_name: str = SERVICE) -> str:
    with pytest.raises(TypeMismatch) as caught:
        check(obj, type_name)
    return str(caught.value)


JSON_ONLY = ("admissionregistration.", "apiextensions.", "resource.")  # bodies of these are not read from protobuf


def test_every_served_kind_has_a_type() -> None:
    for resource in RESOURCES:
        assert schema.type_of_kind(resource.group_version, resource.kind) == resource.schema
        assert schema.get_type(resource.schema).fields["metadata"].type == "meta.v1.ObjectMeta"


def test_every_type_a_served_kind_reaches_is_known_and_has_wire_numbers_if_any_has() -> None:
    for name in schema.reachable(tuple(resource.schema for resource in RESOURCES)):
        described = schema.get_type(name)
        if name.startswith(JSON_ONLY):
            assert not any(field.number for field in described.fields.values()), name
            continue
        inline = {field for message in described.inline.values() for field in schema.get_type(message).fields}
        without = {field for field, entry in described.fields.items() if not entry.number}
        assert without <= inline | {"apiVersion", "kind"}, name


def test_zero_values_disappear_and_structures_appear() -> None:
    obj = {
        "spec": {
            "clusterIP": "", "selector": {}, "externalIPs": [], "publishNotReadyAddresses": False,
            "healthCheckNodePort": 0, "type": None, "allocateLoadBalancerNodePorts": False, "loadBalancerClass": "",
            "ports": [{"name": "", "nodePort": 0}],
        },
    }  # fmt: skip
    assert stored(obj) == {
        "metadata": {},
        "spec": {
            "allocateLoadBalancerNodePorts": False, "loadBalancerClass": "", "ports": [{"port": 0, "targetPort": 0}],
        },
        "status": {"loadBalancer": {}},
    }  # fmt: skip


def test_pointers_to_structures_stay_as_given() -> None:
    pod = {"spec": {"securityContext": {}, "containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]}}
    spec = stored(pod, "core.v1.Pod")["spec"]
    assert spec == {
        "securityContext": {},
        "containers": [{"name": "a", "resources": {}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }


@pytest.mark.parametrize("endpoints", [None, [], "absent"])
def test_empty_endpoints_show_as_null(endpoints: object) -> None:
    obj = {"addressType": "IPv4"} | ({} if endpoints == "absent" else {"endpoints": endpoints})
    assert stored(obj, "discovery.v1.EndpointSlice") == {
        "metadata": {}, "addressType": "IPv4", "endpoints": None, "ports": None,
    }  # fmt: skip


def test_null_inside_containers_is_the_zero_value() -> None:
    obj = {"metadata": {"labels": {"a": None}}, "spec": {"externalIPs": [None], "ports": [None]}}
    result = stored(obj)
    assert result["metadata"] == {"labels": {"a": ""}}
    assert result["spec"] == {"externalIPs": [""], "ports": [{"port": 0, "targetPort": 0}]}


def test_times_quantities_and_base64_become_canonical() -> None:
    assert stored({"metadata": {"creationTimestamp": "2024-02-02T02:00:00.5+02:00"}})["metadata"] == {
        "creationTimestamp": "2024-02-02T00:00:00Z"
    }
    limits: JSON = {"cpu": Number("0.5"), "memory": "1024Mi", "pods": 10}
    pod = {"spec": {"containers": [{"name": "a", "resources": {"limits": limits}}]}}
    assert stored(pod, "core.v1.Pod")["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi", "pods": "10"}
    }
    assert stored({"data": {"a": "YQ\n=="}}, "core.v1.Secret")["data"] == {"a": "YQ=="}
    assert stored({"spec": {"renewTime": "2024-02-02T00:00:00.123456Z"}}, "coordination.v1.Lease")["spec"] == {
        "renewTime": "2024-02-02T00:00:00.123456Z"
    }


def test_unknown_fields_are_listed_in_the_order_of_the_document() -> None:
    obj = {
        "nosuch": 1,
        "spec": {"ports": [{"port": 1}, {"Port": 2, "tragetPort": {"a": 1}}], "clusterIp": ""},
        "Spec": {},
    }
    result, findings = check(obj, SERVICE)
    assert findings == [
        'unknown field "nosuch"',
        'unknown field "spec.ports[1].Port"',
        'unknown field "spec.ports[1].tragetPort"',
        'unknown field "spec.clusterIp"',
        'unknown field "Spec"',
    ]
    assert result["spec"] == {"ports": [{"port": 1, "targetPort": 0}, {"port": 0, "targetPort": 0}]}


@pytest.mark.parametrize(
    ("obj", "found", "field", "go_type"),
    [
        ({"spec": []}, "array", "Service.spec", "v1.ServiceSpec"),
        ({"metadata": "x"}, "string", "Service.metadata", "v1.ObjectMeta"),
        ({"metadata": {"labels": {"a": 1}}}, "number", "ObjectMeta.metadata.labels", "string"),
        ({"metadata": {"labels": []}}, "array", "ObjectMeta.metadata.labels", "map[string]string"),
        ({"metadata": {"finalizers": "a"}}, "string", "ObjectMeta.metadata.finalizers", "[]string"),
        ({"spec": {"ports": [1]}}, "number", "ServiceSpec.spec.ports", "v1.ServicePort"),
        ({"spec": {"ports": {}}}, "object", "ServiceSpec.spec.ports", "[]v1.ServicePort"),
        ({"spec": {"ports": [{"port": Number("8.0")}]}}, "number 8.0", "ServicePort.spec.ports.port", "int32"),
        ({"spec": {"ports": [{"port": 2**31}]}}, "number 2147483648", "ServicePort.spec.ports.port", "int32"),
        ({"spec": {"ports": [{"targetPort": True}]}}, "bool", "ServicePort.spec.ports.targetPort", "int32"),
        ({"spec": {"ipFamilies": "IPv4"}}, "string", "ServiceSpec.spec.ipFamilies", "[]v1.IPFamily"),
        ({"spec": {"ipFamilies": [4]}}, "number", "ServiceSpec.spec.ipFamilies", "v1.IPFamily"),
        ({"spec": {"type": 1}}, "number", "ServiceSpec.spec.type", "v1.ServiceType"),
        (
            {"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": "1"}}}},
            "string",
            "ClientIPConfig.spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "int32",
        ),
    ],
)
def test_wrong_types_are_refused_in_the_words_of_go(obj: JSON, found: str, field: str, go_type: str) -> None:
    assert refusal(obj) == f"json: cannot unmarshal {found} into Go struct field {field} of type {go_type}"


@pytest.mark.parametrize(
    ("type_name", "obj", "text"),
    [
        (
            "networking.v1.Ingress",
            {"spec": {"rules": [{"http": {"paths": {}}}]}},
            (
                "object into Go struct field HTTPIngressRuleValue.spec.rules.IngressRuleValue.http.paths"
                " of type []v1.HTTPIngressPath"
            ),
        ),
        ("core.v1.Secret", {"data": {"a": 1}}, "number into Go struct field Secret.data of type []uint8"),
        ("core.v1.Pod", {"status": {"startTime": 5}}, "number into Go value of type string"),
        (
            "core.v1.Node",
            {"status": {"capacity": "x"}},
            "string into Go struct field NodeStatus.status.capacity of type v1.ResourceList",
        ),
    ],
)
def test_names_of_embedded_and_named_types(type_name: str, obj: JSON, text: str) -> None:
    assert refusal(obj, type_name) == f"json: cannot unmarshal {text}"


def test_wrong_texts_are_refused_in_the_words_of_go() -> None:
    assert refusal({"metadata": {"creationTimestamp": "yesterday"}}) == (
        'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"'
    )
    assert refusal({"data": {"a": "not base64!"}}, "core.v1.Secret") == "illegal base64 data at input byte 3"
    assert refusal({"status": {"capacity": {"cpu": "many"}}}, "core.v1.Node").startswith("quantities must match")


scalars = st.none() | st.booleans() | st.integers(-5, 5) | words
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": words,
    "bool": st.booleans(),
    "int32": st.integers(-9, 9),
    "int64": st.integers(-9, 9),
    "int-or-string": st.integers(0, 9) | words,
    "quantity": st.sampled_from(["1", "1000m", "0.5Gi"]),
    "time": st.just("2024-02-02T00:00:00+01:00"),
}


def values_of(type_name: str, depth: int) -> st.SearchStrategy[JSON]:
    """Objects of a type, now and then with a value or a field that does not belong there."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in schema.get_type(type_name).fields.items():
        if field.is_object and depth == 0:
            continue
        value = values_of(field.type, depth - 1) if field.is_object else SCALARS.get(field.type, st.none())
        if field.container == "[]":
            value = st.lists(value | st.none(), max_size=2)
        elif field.container == "{}":
            value = st.dictionaries(words, value | st.none(), max_size=2)
        fields[name] = value | st.none()
    return st.fixed_dictionaries({}, optional=fields)


@settings(deadline=None)
@given(st.sampled_from([SERVICE, "core.v1.Node", "discovery.v1.EndpointSlice"]).flatmap(
    lambda name: st.tuples(st.just(name), values_of(name, 3))
))  # fmt: skip
def test_the_stored_form_is_a_fixed_point_and_a_copy(case: tuple[str, JSON]) -> None:
    type_name, obj = case
    before = msgspec.json.encode(obj)
    once, _ = check(obj, type_name)
    assert msgspec.json.encode(obj) == before
    again, findings = check(once, type_name)
    assert (again, findings) == (once, [])
    once.setdefault("metadata", {})["name"] = "changed"
    assert again["metadata"].get("name") != "changed"


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["spec", "status", "metadata", "x"]), documents))
def test_anything_is_either_stored_or_refused(obj: JSON) -> None:
    try:
        result, _ = check(obj, SERVICE)
    except TypeMismatch:
        return
    assert set(result) <= {"metadata", "spec", "status"}
