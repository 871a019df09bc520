"""How many Pods of a budget may go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from twinstack.api.core import Pod
from twinstack.api.policy import PodDisruptionBudget, PodDisruptionBudgetSpec
from twinstack.api.times import format_time
from twinstack.controllers import budgetplan
from twinstack.controllers.budgetplan import Expected

NOW = 1_800_000_000.0


def pod(name: str, *, ready: bool = True, leaving: bool = False) -> Pod:
    meta: dict[str, Any] = {"name": name, "namespace": "n"}
    if leaving:
        meta["deletionTimestamp"] = format_time(NOW)
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return msgspec.convert({"metadata": meta, "status": {"conditions": conditions}}, Pod)


def budget(**status: Any) -> PodDisruptionBudget:
    meta = {"name": "b", "namespace": "n", "generation": 3}
    return msgspec.convert({"metadata": meta, "status": status}, PodDisruptionBudget)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 2}, Expected(pods=4, healthy=2)),
        ({"minAvailable": "25%"}, Expected(pods=7, healthy=2)),
        ({"maxUnavailable": 2}, Expected(pods=7, healthy=5)),
        ({"maxUnavailable": 9}, Expected(pods=7, healthy=0)),
        ({"maxUnavailable": "25%"}, Expected(pods=7, healthy=5)),
        ({}, Expected(pods=0, healthy=0)),
    ],
)
def test_parts_are_rounded_up(spec: dict[str, Any], expected: Expected) -> None:
    assert budgetplan.expected(msgspec.convert(spec, PodDisruptionBudgetSpec), matching=4, scale=7) == expected


def test_evicted_pods_count_as_gone_until_they_should_have_gone() -> None:
    pods = [pod("early"), pod("late"), pod("leaving", leaving=True), pod("other"), pod("sick", ready=False)]
    allowed = {"early": NOW - 121, "late": NOW - 20, "leaving": NOW - 1, "gone": NOW - 1}
    held = budget(disruptedPods={name: format_time(at) for name, at in allowed.items()})
    found = budgetplan.disrupted(held.status, pods, NOW)
    assert (list(found.going), found.overdue, found.next) == (["late"], [pods[0]], 100.0)
    assert budgetplan.healthy(pods, found.going) == 2


@pytest.mark.parametrize(
    ("current", "wanted", "allowed", "reason"),
    [
        (3, Expected(3, 2), 1, "SufficientPods"),
        (2, Expected(3, 2), 0, "InsufficientPods"),
        (1, Expected(3, 2), 0, "InsufficientPods"),
        (0, Expected(0, 0), 0, "InsufficientPods"),
    ],
)
def test_what_is_more_than_desired_may_go(current: int, wanted: Expected, allowed: int, reason: str) -> None:
    status = budgetplan.judged(budget(), current, wanted, {}, NOW)
    (condition,) = status.conditions
    assert (status.disruptions_allowed, status.observed_generation) == (allowed, 3)
    assert (condition.status, condition.reason) == (str(allowed > 0), reason)
    assert (condition.observed_generation, condition.last_transition_time) == (3, format_time(NOW))


def test_the_condition_keeps_its_time_and_place_while_it_says_the_same() -> None:
    first = budgetplan.judged(budget(), 3, Expected(3, 2), {}, NOW)
    other = msgspec.convert({"type": "Other", "status": "True"}, type(first.conditions[0]))
    held = msgspec.structs.replace(
        budget(), status=msgspec.structs.replace(first, conditions=[*first.conditions, other])
    )
    same = budgetplan.judged(held, 3, Expected(3, 2), {}, NOW + 9)
    assert same == held.status
    turned = budgetplan.judged(held, 2, Expected(3, 2), {}, NOW + 9)
    assert [condition.type for condition in turned.conditions] == ["DisruptionAllowed", "Other"]
    assert turned.conditions[0].last_transition_time == format_time(NOW + 9)


def test_a_failure_lets_none_go() -> None:
    status = budgetplan.failed(budget(disruptionsAllowed=2, observedGeneration=2), "why", NOW)
    (condition,) = status.conditions
    assert (status.disruptions_allowed, status.observed_generation) == (0, 2)
    assert (condition.status, condition.reason, condition.message) == ("False", "SyncFailed", "why")
