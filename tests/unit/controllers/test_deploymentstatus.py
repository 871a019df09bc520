from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.workloads import NOW, deployment, replica_set

from twinstack.api.apps import Deployment, DeploymentStatus, ReplicaSet
from twinstack.api.meta import Condition
from twinstack.api.times import format_time
from twinstack.controllers.deploymentstatus import deadline, is_complete, status_of, to_patch
from twinstack.controllers.podstate import condition
from twinstack.controllers.rollout import Limits, limits


def report(
    owner: Deployment, new: ReplicaSet | None, old: list[ReplicaSet], at: float = NOW
) -> tuple[DeploymentStatus, dict[str, tuple[str, str, str]]]:
    status = status_of(owner, limits(owner), new, old, at)
    owner.status = status
    return status, {entry.type: (entry.status, entry.reason, entry.message) for entry in status.conditions}


def test_counts() -> None:
    owner = deployment(3)
    status, _ = report(owner, replica_set("new", 2, 1), [replica_set("old", 2, 2)])
    assert (status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas) == (4, 2, 3, 3)
    assert (status.unavailable_replicas, status.observed_generation, status.terminating_replicas) == (1, 4, 0)
    assert to_patch(DeploymentStatus())["replicas"] == 0
    assert "collisionCount" not in to_patch(DeploymentStatus())


def test_availability_is_the_replicas_less_what_may_be_missing() -> None:
    owner = deployment(4)  # one may be missing
    _, conditions = report(owner, replica_set("new", 4, 3), [])
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    _, conditions = report(owner, replica_set("new", 4, 2), [])
    assert conditions["Available"] == (
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    )


def test_progress_from_creation_to_the_end() -> None:
    owner = deployment(2, progress_deadline_seconds=600)
    old = replica_set("old", 2)
    _, conditions = report(owner, None, [old])
    assert "Progressing" not in conditions
    _, conditions = report(owner, replica_set("new", 1, 0), [old])
    assert conditions["Progressing"] == ("True", "NewReplicaSetCreated", 'Created new replica set "new"')
    status, conditions = report(owner, replica_set("new", 1, 1), [old], NOW + 5)
    assert conditions["Progressing"] == ("True", "ReplicaSetUpdated", 'ReplicaSet "new" is progressing.')
    known = condition(status.conditions, "Progressing")
    assert known is not None
    assert (known.last_transition_time, known.last_update_time) == (format_time(NOW), format_time(NOW + 5))
    assert deadline(owner, status, NOW + 5) == pytest.approx(600)
    status, conditions = report(owner, replica_set("new", 2, 2), [replica_set("old", 0)], NOW + 9)
    assert conditions["Progressing"] == (
        "True",
        "NewReplicaSetAvailable",
        'ReplicaSet "new" has successfully progressed.',
    )
    assert deadline(owner, status, NOW + 9) is None
    again, _ = report(owner, replica_set("new", 2, 2), [replica_set("old", 0)], NOW + 99)
    assert again == status


def test_without_progress_the_deadline_ends_it() -> None:
    owner = deployment(2, progress_deadline_seconds=60)
    new = replica_set("new", 2, 0)
    report(owner, new, [])
    _, conditions = report(owner, new, [], NOW + 59)
    assert conditions["Progressing"][1] == "NewReplicaSetCreated"
    status, conditions = report(owner, new, [], NOW + 61)
    assert conditions["Progressing"] == (
        "False",
        "ProgressDeadlineExceeded",
        'ReplicaSet "new" has timed out progressing.',
    )
    assert deadline(owner, status, NOW + 61) is None
    _, conditions = report(owner, replica_set("new", 2, 2), [], NOW + 70)
    assert conditions["Progressing"][1] == "NewReplicaSetAvailable"


@pytest.mark.parametrize("seconds", [None, 2**31 - 1])
def test_without_a_deadline_nothing_is_said_of_progress(seconds: int | None) -> None:
    owner = deployment(2, progress_deadline_seconds=seconds)
    _, conditions = report(owner, replica_set("new", 2, 0), [])
    assert "Progressing" not in conditions


def test_paused() -> None:
    owner = deployment(2, progress_deadline_seconds=60, paused=True)
    status, conditions = report(owner, replica_set("new", 2, 0), [])
    assert conditions["Progressing"] == ("Unknown", "DeploymentPaused", "Deployment is paused")
    assert deadline(owner, status, NOW + 999) is None


def test_a_failure_of_a_replica_set_shows_and_foreign_conditions_stay() -> None:
    owner = deployment(2)
    owner.status.conditions = [Condition(type="Theirs", status="True")]
    new = replica_set("new", 2, 0)
    new.status.conditions = [Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="quota")]
    _, conditions = report(owner, new, [])
    assert conditions["ReplicaFailure"] == ("True", "FailedCreate", "quota")
    assert "Theirs" in conditions
    _, conditions = report(owner, replica_set("new", 2, 0), [])
    assert "ReplicaFailure" not in conditions


@pytest.mark.parametrize(
    ("counts", "complete"),
    [
        ({"replicas": 2, "updated_replicas": 2, "available_replicas": 2}, True),
        ({"replicas": 3, "updated_replicas": 2, "available_replicas": 2}, False),
        ({"replicas": 2, "updated_replicas": 1, "available_replicas": 2}, False),
        ({"replicas": 2, "updated_replicas": 2, "available_replicas": 1}, False),
    ],
)
def test_complete(counts: dict[str, Any], complete: bool) -> None:
    assert is_complete(Limits(2, 1, 0, False), DeploymentStatus(**counts)) is complete
