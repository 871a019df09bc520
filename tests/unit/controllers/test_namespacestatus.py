from __future__ import annotations

import itertools

import pytest

from twinstack.api.meta import Condition
from twinstack.controllers.namespacestatus import Findings, Remains, changes

DISCOVERY = "NamespaceDeletionDiscoveryFailure"
PARSING = "NamespaceDeletionGroupVersionParsingFailure"
DELETION = "NamespaceDeletionContentFailure"
CONTENT = "NamespaceContentRemaining"
FINALIZERS = "NamespaceFinalizersRemaining"
ALL = (DISCOVERY, PARSING, DELETION, CONTENT, FINALIZERS)


def said(conditions: list[Condition]) -> dict[str, tuple[str, str, str]]:
    return {c.type: (c.status, c.reason, c.message) for c in conditions}


def test_all_is_well() -> None:
    assert said(changes([], Findings(), "now")) == {
        DISCOVERY: ("False", "ResourcesDiscovered", "All resources successfully discovered"),
        PARSING: ("False", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
        DELETION: ("False", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        CONTENT: ("False", "ContentRemoved", "All content successfully removed"),
        FINALIZERS: ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    }


PROBLEMS = {
    DISCOVERY: (
        {"undiscovered": {"metrics.k8s.io/v1": "the server is unavailable"}},
        "DiscoveryFailed",
        (
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
            "metrics.k8s.io/v1: the server is unavailable"
        ),
    ),
    DELETION: (
        {"failures": ["b", "a"]},
        "ContentDeletionFailed",
        "Failed to delete all resource types, 2 remaining: a, b",
    ),
    CONTENT: (
        {"remains": {"secrets.": Remains(2), "deployments.apps": Remains(1)}},
        "SomeResourcesRemain",
        "Some resources are remaining: deployments.apps has 1 resource instances, secrets. has 2 resource instances",
    ),
    FINALIZERS: (
        {"remains": {"secrets.": Remains(2, ("x/y", "x/y")), "deployments.apps": Remains(1, ("a/b",))}},
        "SomeFinalizersRemain",
        (
            "Some content in the namespace has finalizers remaining: a/b in 1 resource instances, "
            "x/y in 2 resource instances"
        ),
    ),
}


@pytest.mark.parametrize("type_", PROBLEMS)
def test_each_problem_is_told_and_ends(type_: str) -> None:
    given, reason, message = PROBLEMS[type_]
    findings = Findings(**given)  # type: ignore[arg-type]
    assert not findings.is_empty
    conditions = changes([], findings, "first")
    assert {c.type for c in conditions} == set(ALL), "the first round says all of them"
    assert said(conditions)[type_] == ("True", reason, message)
    assert all(c.status == "False" for c in conditions if c.type not in (type_, CONTENT))
    assert changes(conditions, findings, "second") == [], "nothing new, nothing written"
    over = changes(conditions, Findings(), "third")
    assert type_ in {c.type for c in over}
    assert all((c.status, c.last_transition_time) == ("False", "third") for c in over)


def test_another_message_keeps_the_time_of_the_turn() -> None:
    first = changes([], Findings(remains={"secrets.": Remains(2)}), "first")
    [second] = changes(first, Findings(remains={"secrets.": Remains(1)}), "second")
    assert (second.type, second.last_transition_time) == (CONTENT, "first")


def test_empty_is_only_what_is_known_to_be() -> None:
    for undiscovered, failures, remains in itertools.product(({}, {"a": "b"}), ((), ("x",)), ({}, {"p.": Remains(1)})):
        empty = not undiscovered and not failures and not remains
        assert Findings(undiscovered, failures, remains).is_empty == empty
