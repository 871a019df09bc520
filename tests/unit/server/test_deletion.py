"""What a DELETE comes to."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.api.times import format_time
from twinstack.server.deletion import FOREGROUND, ORPHAN, Outcome, decide
from twinstack.server.options import DeleteOptions

JSON = dict[str, Any]
NOW = 1_800_000_000.0
PODS, SERVICES = resource("", "pods"), resource("", "services")
NAMESPACES, EVENTS = resource("", "namespaces"), resource("", "events")


def pod(**meta: Any) -> JSON:
    return {
        "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "generation": 1} | meta,
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30},
        "status": {"phase": "Running"},
    }


def after(seconds: float) -> str:
    return format_time(NOW + seconds)


def test_a_pod_gets_its_grace() -> None:
    decision = decide(PODS, pod(), DeleteOptions(), NOW)
    assert decision.outcome is Outcome.MARK
    meta = decision.object["metadata"]
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"], meta["generation"]) == (after(30), 30, 2)


@pytest.mark.parametrize(("asked", "given"), [(5, 5), (60, 60), (-3, 1)])
def test_the_request_may_say_how_long(asked: int, given: int) -> None:
    meta = decide(PODS, pod(), DeleteOptions(grace_period=asked), NOW).object["metadata"]
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) == (after(given), given)


@pytest.mark.parametrize("change", [{"spec": {}}, {"status": {"phase": "Succeeded"}}, {"status": {"phase": "Failed"}}])
def test_a_pod_that_runs_nowhere_goes_at_once(change: JSON) -> None:
    decision = decide(PODS, pod() | change, DeleteOptions(), NOW)
    assert decision.outcome is Outcome.MARK_AND_REMOVE
    assert decision.object["metadata"]["deletionGracePeriodSeconds"] == 0
    assert decide(PODS, pod(), DeleteOptions(grace_period=0), NOW).outcome is Outcome.MARK_AND_REMOVE


def test_a_second_delete_only_shortens() -> None:
    going = pod(deletionTimestamp=after(30), deletionGracePeriodSeconds=30)
    for grace in (None, 30, 90):
        assert decide(PODS, dict(going), DeleteOptions(grace_period=grace), NOW).outcome is Outcome.NOTHING
    decision = decide(PODS, going, DeleteOptions(grace_period=10), NOW)
    meta = decision.object["metadata"]
    assert decision.outcome is Outcome.MARK
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"], meta["generation"]) == (after(10), 10, 1)
    end = decide(PODS, decision.object, DeleteOptions(grace_period=0), NOW)
    assert end.outcome is Outcome.MARK_AND_REMOVE


def test_finalizers_hold_an_object() -> None:
    decision = decide(SERVICES, pod(finalizers=["x.y/z"]), DeleteOptions(), NOW)
    meta = decision.object["metadata"]
    assert decision.outcome is Outcome.MARK
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"], meta["generation"]) == (after(0), 0, 2)
    again = decide(SERVICES, decision.object, DeleteOptions(), NOW + 9)
    assert again.object["metadata"]["deletionTimestamp"] == after(0)
    assert again.object["metadata"]["generation"] == 2
    held = decide(PODS, pod(finalizers=["x.y/z"]), DeleteOptions(grace_period=0), NOW)
    assert held.outcome is Outcome.MARK


@pytest.mark.parametrize(
    ("options", "before", "finalizers"),
    [
        (DeleteOptions(), [], None),
        (DeleteOptions(), ["orphan"], ["orphan"]),
        (DeleteOptions(propagation="Background"), ["orphan"], None),
        (DeleteOptions(propagation="Foreground"), [], ["foregroundDeletion"]),
        (DeleteOptions(propagation="Foreground"), ["orphan", "x.y/z"], ["x.y/z", "foregroundDeletion"]),
        (DeleteOptions(propagation="Orphan"), ["foregroundDeletion"], ["orphan"]),
        (DeleteOptions(orphan=True), [], ["orphan"]),
        (DeleteOptions(orphan=False), ["orphan"], None),
    ],
)
def test_propagation_policy(options: DeleteOptions, before: list[str], finalizers: list[str] | None) -> None:
    decision = decide(SERVICES, pod(finalizers=before) if before else pod(), options, NOW)
    assert decision.object["metadata"].get("finalizers") == finalizers
    assert decision.outcome is (Outcome.MARK if finalizers else Outcome.REMOVE)


@pytest.mark.parametrize(
    ("group", "plural"), [("", "replicationcontrollers"), ("batch", "jobs"), ("apps", "deployments")]
)
@pytest.mark.parametrize("options", [DeleteOptions(), DeleteOptions(propagation="Background")])
@pytest.mark.parametrize("before", [[], [FOREGROUND]])
def test_kinds_older_than_the_garbage_collector_leave_their_dependents(
    group: str, plural: str, options: DeleteOptions, before: list[str]
) -> None:
    obj: JSON = {"metadata": {"name": "x", "finalizers": list(before)}}
    after = decide(resource(group, plural), obj, options, NOW).object["metadata"].get("finalizers")
    if options.propagation:
        assert after is None
    elif before:
        assert after == before
    else:
        assert (after or []) == ([] if plural == "deployments" else [ORPHAN])


def test_events_have_no_dependents() -> None:
    assert decide(EVENTS, pod(), DeleteOptions(propagation="Foreground"), NOW).outcome is Outcome.REMOVE


def test_a_namespace_ends_in_two_steps() -> None:
    namespace: JSON = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    decision = decide(NAMESPACES, namespace, DeleteOptions(), NOW)
    assert decision.outcome is Outcome.MARK
    assert decision.object["status"] == {"phase": "Terminating"}
    assert decision.object["metadata"] == {"name": "n", "deletionTimestamp": after(0)}
    assert decide(NAMESPACES, decision.object, DeleteOptions(), NOW).outcome is Outcome.NOTHING
    decision.object["spec"] = {}
    assert decide(NAMESPACES, decision.object, DeleteOptions(), NOW).outcome is Outcome.REMOVE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            DeleteOptions(uid="other"),
            (
                'Operation cannot be fulfilled on Service "a": the UID in the precondition (other) does not match the'
                " UID in record (u). The object might have been deleted and then recreated"
            ),
        ),
        (
            DeleteOptions(resource_version="6"),
            (
                'Operation cannot be fulfilled on Service "a": the ResourceVersion in the precondition (6) does not'
                " match the ResourceVersion in record (7). The object might have been modified"
            ),
        ),
    ],
)
def test_preconditions(options: DeleteOptions, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        decide(SERVICES, pod(), options, NOW)
    assert (caught.value.code, caught.value.reason, caught.value.message) == (409, "Conflict", message)
    assert decide(SERVICES, pod(), DeleteOptions(uid="u", resource_version="7"), NOW).outcome is Outcome.REMOVE
