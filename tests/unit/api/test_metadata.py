"""Rules of ObjectMeta on create and update."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import ErrorType
from twinstack.api.metadata import validate_create, validate_update
from twinstack.api.validation import dns_label

JSON = dict[str, Any]

META: JSON = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1"}
OWNER: JSON = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1"}


def created(**meta: Any) -> list[str]:
    return [str(error) for error in validate_create(META | meta, namespaced=True)]


def updated(old: JSON, **changes: Any) -> list[str]:
    return [str(error) for error in validate_update(META | old | changes, META | old)]


def test_good_metadata() -> None:
    good = {
        "labels": {"a": "b"}, "annotations": {"UPPER.example.com/x": "any text"}, "generateName": "a-",
        "finalizers": ["example.com/x", "orphan"], "ownerReferences": [OWNER], "generation": 1,
    }  # fmt: skip
    assert created(**good) == []
    assert updated({}, **good) == []


def test_names() -> None:
    assert created(name="") == ["metadata.name: Required value: name or generateName is required"]
    assert created(name="A")[0].startswith('metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain')
    assert created(generateName="a.")[0].startswith('metadata.generateName: Invalid value: "a.": ')
    errors = validate_create(META | {"name": "a.b"}, namespaced=True, name_rule=dns_label)
    assert [str(error) for error in errors] == ['metadata.name: Invalid value: "a.b": must not contain dots']


def test_namespaces() -> None:
    assert created(namespace="") == ["metadata.namespace: Required value"]
    assert created(namespace="a.b") == ['metadata.namespace: Invalid value: "a.b": must not contain dots']
    errors = validate_create(META, namespaced=False)
    assert [str(error) for error in errors] == ["metadata.namespace: Forbidden: not allowed on this type"]


def test_finalizers() -> None:
    at = "metadata.finalizers"
    (message,) = created(finalizers=["plain"])
    detail = "name is neither a standard finalizer name nor is it fully qualified"
    assert message == f'{at}[0]: Invalid value: "plain": {detail}'
    (message,) = created(finalizers=["orphan", "foregroundDeletion"])
    detail = "finalizer orphan and foregroundDeletion cannot be both set"
    assert message == f'{at}: Invalid value: ["orphan","foregroundDeletion"]: {detail}'
    assert created(finalizers=["a/"])[0] == f'{at}: Invalid value: "a/": name part must be non-empty'


def test_owner_references() -> None:
    bad = {"apiVersion": "a/b/c", "uid": ""}
    assert created(ownerReferences=[OWNER | bad]) == [
        'metadata.ownerReferences.apiVersion: Invalid value: "a/b/c": version must not be empty',
        'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
    ]
    nameless, banned = created(ownerReferences=[{"controller": True, "kind": "Event", "apiVersion": "v1", "uid": "1"}])
    assert nameless == 'metadata.ownerReferences.name: Invalid value: "": must not be empty'
    shown = '{"apiVersion":"v1","kind":"Event","name":"","uid":"1","controller":true}'
    detail = "/v1, Kind=Event is disallowed from being an owner"
    assert banned == f"metadata.ownerReferences: Invalid value: {shown}: {detail}"
    two = [OWNER | {"controller": True}, OWNER | {"controller": True, "name": "p"}]
    (message,) = created(ownerReferences=two)
    assert message.endswith('Found "true" in references for ConfigMap/o and ConfigMap/p')


def test_annotations_are_limited_together() -> None:
    half = "x" * 131_072
    assert created(annotations={"a": half, "b": half}) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]
    assert created(annotations={"bad key": ""})[0].startswith(
        'metadata.annotations: Invalid value: "bad key": name part'
    )


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("name", "b", '"b"'), ("uid", "v", '"v"'), ("namespace", "", '""'),
        ("creationTimestamp", "2020-01-01T00:00:00Z", '"2020-01-01T00:00:00Z"'),
        ("deletionTimestamp", "2020-01-01T00:00:00Z", '"2020-01-01T00:00:00Z"'),
        ("deletionGracePeriodSeconds", 5, "5"),
    ],
)  # fmt: skip
def test_what_an_update_cannot_change(field: str, value: object, shown: str) -> None:
    assert updated({}, **{field: value}) == [f"metadata.{field}: Invalid value: {shown}: field is immutable"]


def test_other_rules_of_updates() -> None:
    assert updated({"generation": 3}, generation=2) == [
        "metadata.generation: Invalid value: 2: must not be decremented"
    ]
    assert updated({}, resourceVersion="") == [
        'metadata.resourceVersion: Invalid value: "": must be specified for an update'
    ]
    deleting = {"deletionTimestamp": "2020-01-01T00:00:00Z", "finalizers": ["example.com/a"]}
    (message,) = updated(deleting, finalizers=["example.com/a", "example.com/b"])
    detail = "no new finalizers can be added if the object is being deleted, found new finalizers"
    assert message == f'metadata.finalizers: Forbidden: {detail} []string{{"example.com/b"}}'
    assert updated(deleting, finalizers=[]) == []


def test_reasons_of_causes() -> None:
    (error,) = validate_create(META | {"name": ""}, namespaced=True)
    assert error.type is ErrorType.REQUIRED
