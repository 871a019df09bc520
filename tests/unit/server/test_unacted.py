"""Warnings about what is stored but not acted on."""

from __future__ import annotations

import pytest

from twinstack.api.resources import resource
from twinstack.server import unacted


@pytest.mark.parametrize(
    ("group", "plural", "expected"),
    [
        ("networking.k8s.io", "networkpolicies", "NetworkPolicy is stored but not enforced by this cluster"),
        (
            "",
            "persistentvolumeclaims",
            "PersistentVolumeClaim is stored, but this cluster has no controller that acts on it",
        ),
        ("apps", "statefulsets", "StatefulSet is stored, but this cluster has no controller that acts on it"),
    ],
)
def test_what_nobody_acts_on_depends_on_the_cluster(group: str, plural: str, expected: str) -> None:
    row = resource(group, plural)
    name = f"{plural}.{group}".rstrip(".")
    assert unacted.warnings(row, {name}) == [expected]
    assert unacted.warnings(row, set()) == []


def test_what_the_server_would_have_to_enforce_is_always_said() -> None:
    assert unacted.warnings(resource("node.k8s.io", "runtimeclasses"), set()) == [
        "RuntimeClass is stored but not enforced by this cluster"
    ]
