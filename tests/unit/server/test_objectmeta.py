"""What the server does to metadata around a write."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.errors import StatusError
from twinstack.server.objectmeta import (
    carry_over,
    check_unversioned,
    content_changed,
    deletion_is_due,
    fill_created,
    generated_name,
    merge_owners,
)

JSON = dict[str, Any]


@given(st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), max_size=100))
def test_generated_names_fit(prefix: str) -> None:
    name = generated_name(prefix)
    assert len(name) <= 63
    assert name[:-5] == prefix[:58]
    assert re.fullmatch("[bcdfghjklmnpqrstvwxz2456789]{5}", name[-5:])


def test_a_new_object_gets_its_system_fields() -> None:
    meta: JSON = {
        "name": "a",
        "uid": "sent",
        "selfLink": "x",
        "deletionTimestamp": "t",
        "deletionGracePeriodSeconds": 3,
        "managedFields": [{}],
        "labels": {"a": "b"},
    }
    fill_created(meta, namespace="ns", uid="new", now="now", counts=True)
    assert meta == {
        "name": "a",
        "namespace": "ns",
        "uid": "new",
        "creationTimestamp": "now",
        "generation": 1,
        "labels": {"a": "b"},
    }
    other: JSON = {"generation": 5}
    fill_created(other, namespace="", uid="new", now="now", counts=False)
    assert other["generation"] == 5
    with pytest.raises(StatusError, match="resourceVersion should not be set on objects to be created"):
        check_unversioned({"resourceVersion": "4"})


def test_owners_are_named_once() -> None:
    one: JSON = {"kind": "A", "name": "a", "uid": "u"}
    meta: JSON = {"ownerReferences": [one, one | {"name": "b"}, dict(one)]}
    (warning,) = merge_owners(meta)
    assert warning.endswith("; duplicate UID(s) observed: u")
    assert meta["ownerReferences"] == [one, one | {"name": "b"}]
    assert merge_owners(meta) == []


def test_an_update_carries_over_what_it_cannot_change() -> None:
    old: JSON = {"name": "a", "uid": "u", "creationTimestamp": "then", "generation": 3, "resourceVersion": "9"}
    new: JSON = {"name": "a", "creationTimestamp": "later", "generation": 8, "managedFields": [{}], "selfLink": "s"}
    carry_over(new, old)
    assert new == old
    sent: JSON = {"uid": "other", "deletionTimestamp": "t"}
    carry_over(sent, old)
    assert (sent["uid"], sent["deletionTimestamp"]) == ("other", "t")  # validation refuses them
    going = old | {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}
    for grace in ({}, {"deletionTimestamp": "earlier"}):
        new = dict(grace)
        carry_over(new, going)
        assert (new["deletionTimestamp"], new["deletionGracePeriodSeconds"]) == ("t", 30)


@pytest.mark.parametrize(
    ("new", "counted", "changed"),
    [
        ({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}, (), False),
        ({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}, ("labels",), True),
        ({"metadata": {}, "spec": {"x": 1}, "status": {"y": 1}}, ("labels",), False),
        ({"metadata": {}, "spec": {"x": 2}}, (), True),
        ({"metadata": {}, "spec": {"x": 1}, "endpoints": []}, (), True),
        ({"metadata": {}}, (), True),
    ],
)
def test_what_a_generation_counts(new: JSON, counted: tuple[str, ...], changed: bool) -> None:
    assert content_changed(new, {"metadata": {}, "spec": {"x": 1}}, counted) is changed


@pytest.mark.parametrize(
    ("obj", "due"),
    [
        ({"kind": "A", "metadata": {}}, False),
        ({"kind": "A", "metadata": {"deletionTimestamp": "t"}}, True),
        ({"kind": "A", "metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}}, True),
        ({"kind": "A", "metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 5}}, False),
        ({"kind": "A", "metadata": {"deletionTimestamp": "t", "finalizers": ["x"]}}, False),
        ({"kind": "Namespace", "metadata": {"deletionTimestamp": "t"}, "spec": {"finalizers": ["x"]}}, False),
        ({"kind": "Namespace", "metadata": {"deletionTimestamp": "t"}, "spec": {}}, True),
    ],
)
def test_when_an_update_lets_a_deleting_object_go(obj: JSON, due: bool) -> None:
    assert deletion_is_due(obj) is due
