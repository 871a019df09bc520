"""What a budget says to an eviction."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.server import disruption

JSON = dict[str, Any]

READY = {"type": "Ready", "status": "True"}


def budget(generation: int = 1, spec: JSON | None = None, **status: Any) -> JSON:
    return {
        "metadata": {"name": "b", "namespace": "n", "generation": generation},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "x"}}} | (spec or {}),
        "status": {"observedGeneration": 1, "currentHealthy": 3, "desiredHealthy": 2} | status,
    }


def pod(phase: str = "Running", **meta: Any) -> JSON:
    return {"metadata": {"name": "p", "labels": {"app": "x"}} | meta, "status": {"phase": phase, "conditions": [READY]}}


def refused(held: JSON) -> StatusError:
    with pytest.raises(StatusError) as caught:
        disruption.take(held, "p")
    return caught.value


@pytest.mark.parametrize(
    ("evicted", "ignored"),
    [
        (pod(), False),
        (pod("Pending"), True),
        (pod("Failed"), True),
        (pod("Succeeded"), True),
        (pod(deletionTimestamp="2026-01-01T00:00:00Z"), True),
    ],
)
def test_only_pods_that_run_are_guarded(evicted: JSON, ignored: bool) -> None:
    assert disruption.ignores_budgets(evicted) is ignored


def test_a_budget_selects_as_written() -> None:
    everything, nothing = budget(spec={"selector": {}}), budget()
    del nothing["spec"]["selector"]
    other = budget(spec={"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}})
    same = budget()
    assert disruption.of_pod(pod(), [everything, nothing, other, same]) == [everything, same]


def test_an_eviction_is_taken_from_what_is_allowed() -> None:
    left = disruption.take(budget(disruptionsAllowed=2), "p")["status"]
    assert (left["disruptionsAllowed"], list(left["disruptedPods"])) == (1, ["p"])
    assert "conditions" not in left
    last = disruption.take({"metadata": {"name": "b"}, "status": left}, "q")["status"]
    assert (last["disruptionsAllowed"], list(last["disruptedPods"])) == (0, ["p", "q"])
    (told,) = last["conditions"]
    assert (told["type"], told["status"], told["reason"]) == ("DisruptionAllowed", "False", "InsufficientPods")


def test_a_refusal_tells_what_is_lacking() -> None:
    error = refused(budget(disruptionsAllowed=0, currentHealthy=2))
    assert error.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "reason": "TooManyRequests",
        "details": {
            "causes": [
                {
                    "reason": "DisruptionBudget",
                    "message": "The disruption budget b needs 2 healthy pods and has 2 currently",
                }
            ]
        },
        "code": 429,
    }


def test_a_budget_that_nobody_could_count_lets_none_go() -> None:
    condition = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "why"}
    error = refused(budget(disruptionsAllowed=0, conditions=[condition]))
    assert (error.details or {})["causes"][0]["message"] == (
        "The disruption budget b does not allow evicting pods currently because it failed sync: why"
    )


def test_a_budget_that_was_just_changed_is_asked_again_later() -> None:
    status = refused(budget(generation=2, disruptionsAllowed=2)).status()
    cause = {"reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server."}
    assert (status["code"], status["details"]) == (429, {"causes": [cause], "retryAfterSeconds": 10})


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({"disruptionsAllowed": -1}, "pdb disruptions allowed is negative"),
        (
            {"disruptionsAllowed": 1, "disruptedPods": dict.fromkeys(map(str, range(2001)), "")},
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ),
    ],
)
def test_a_status_that_cannot_be_is_refused(status: JSON, text: str) -> None:
    error = refused(budget(**status))
    assert (error.code, str(error)) == (403, f'poddisruptionbudget.policy "b" is forbidden: {text}')


@pytest.mark.parametrize(
    ("spec", "status", "may"),
    [
        ({}, {}, True),
        ({}, {"currentHealthy": 1}, False),
        ({}, {"desiredHealthy": 0}, False),
        ({"unhealthyPodEvictionPolicy": "IfHealthyBudget"}, {"currentHealthy": 1}, False),
        ({"unhealthyPodEvictionPolicy": "AlwaysAllow"}, {"currentHealthy": 1}, True),
    ],
)
def test_pods_that_are_not_ready_go_by_the_budgets_policy(spec: JSON, status: JSON, may: bool) -> None:
    assert disruption.may_go_unready(budget(spec=spec, **status)) is may
