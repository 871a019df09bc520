from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.workloads import NOW, deployment, replica_set

from twinstack.api.apps import Deployment, DeploymentStatus, ReplicaSet
from twinstack.api.meta import Condition
from twinstack.api.times import format_time
from twinstack.controllers.deploymentstatus import (
    created,
    creation_failed,
    deadline,
    is_complete,
    status_of,
    to_patch,
)
from twinstack.controllers.podstate import condition
from twinstack.controllers.rollout import Limits, limits

Said = dict[str, tuple[str, str, str]]


def report(
    owner: Deployment,
    new: ReplicaSet | None,
    old: list[ReplicaSet],
    at: float = NOW,
    news: Condition | None = None,
) -> tuple[DeploymentStatus, Said]:
    status = status_of(owner, limits(owner), new, old, at, news)
    owner.status = status
    return status, {entry.type: (entry.status, entry.reason, entry.message) for entry in status.conditions}


def remaining(owner: Deployment, at: float) -> float | None:
    return deadline(owner, limits(owner), owner.status, at)


def progressing(status: DeploymentStatus) -> Condition:
    found = condition(status.conditions, "Progressing")
    assert found is not None
    return found


def test_counts() -> None:
    owner = deployment(3)
    status, _ = report(owner, replica_set("new", 2, 1), [replica_set("old", 2, 2)])
    assert (status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas) == (4, 2, 3, 3)
    assert (status.unavailable_replicas, status.observed_generation, status.terminating_replicas) == (1, 4, 0)
    assert to_patch(DeploymentStatus())["replicas"] == 0
    assert "collisionCount" not in to_patch(DeploymentStatus())


WELL = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
ILL = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")


@pytest.mark.parametrize(
    ("strategy", "available", "said"),
    [
        ({}, 3, WELL),  # a quarter may be missing
        ({}, 2, ILL),
        ({"type": "Recreate"}, 4, WELL),
        ({"type": "Recreate"}, 3, ILL),
    ],
)
def test_availability_is_the_replicas_less_what_may_be_missing(
    strategy: dict[str, Any], available: int, said: tuple[str, str, str]
) -> None:
    _, conditions = report(deployment(4, strategy=strategy), replica_set("new", 4, available), [])
    assert conditions["Available"] == said


def test_progress_from_creation_to_the_end() -> None:
    owner = deployment(2, progress_deadline_seconds=600)
    old = replica_set("old", 2)
    status, conditions = report(owner, replica_set("new", 1, 0), [old], news=created("new"))
    assert conditions["Progressing"][1] == "ReplicaSetUpdated", "its first Pod is progress already"
    _, conditions = report(owner, replica_set("new", 1, 1), [old], NOW + 5)
    assert conditions["Progressing"] == ("True", "ReplicaSetUpdated", 'ReplicaSet "new" is progressing.')
    known = progressing(owner.status)
    assert (known.last_transition_time, known.last_update_time) == (format_time(NOW), format_time(NOW + 5))
    assert remaining(owner, NOW + 5) == pytest.approx(600)
    status, conditions = report(owner, replica_set("new", 2, 2), [replica_set("old", 0)], NOW + 9)
    assert conditions["Progressing"] == (
        "True",
        "NewReplicaSetAvailable",
        'ReplicaSet "new" has successfully progressed.',
    )
    assert remaining(owner, NOW + 9) is None
    again, _ = report(owner, replica_set("new", 2, 2), [replica_set("old", 0)], NOW + 99)
    assert again == status


def test_a_complete_one_stays_so_however_it_is_scaled_until_its_template_changes() -> None:
    owner = deployment(2, progress_deadline_seconds=60)
    done, _ = report(owner, replica_set("new", 2, 2), [])
    for replicas, size, available in ((5, 5, 2), (5, 5, 4), (5, 5, 5), (1, 1, 1), (3, 3, 1)):
        owner.spec.replicas = replicas
        _, conditions = report(owner, replica_set("new", size, available), [], NOW + 999)
        assert conditions["Progressing"][1] == "NewReplicaSetAvailable"
        assert remaining(owner, NOW + 999) is None
    assert progressing(done).last_update_time == format_time(NOW)
    # Another template whose ReplicaSet gets no Pods: now the deadline runs.
    barren = replica_set("newer", 0)
    status, conditions = report(owner, barren, [replica_set("new", 3, 1)], NOW + 1000, created("newer"))
    assert conditions["Progressing"] == ("True", "NewReplicaSetCreated", 'Created new replica set "newer"')
    assert progressing(status).last_update_time == format_time(NOW + 1000)
    assert remaining(owner, NOW + 1000) == 60
    _, conditions = report(owner, barren, [replica_set("new", 3, 1)], NOW + 1059)
    assert conditions["Progressing"][1] == "NewReplicaSetCreated"
    _, conditions = report(owner, barren, [replica_set("new", 3, 1)], NOW + 1061)
    assert conditions["Progressing"][1] == "ProgressDeadlineExceeded"


def test_without_progress_the_deadline_ends_it() -> None:
    owner = deployment(2, progress_deadline_seconds=60)
    new = replica_set("new", 2, 0)
    report(owner, new, [], news=created("new"))
    _, conditions = report(owner, new, [], NOW + 59)
    assert conditions["Progressing"][1] == "ReplicaSetUpdated"
    _, conditions = report(owner, new, [], NOW + 61)
    late = ("False", "ProgressDeadlineExceeded", 'ReplicaSet "new" has timed out progressing.')
    assert conditions["Progressing"] == late
    assert remaining(owner, NOW + 61) is None
    owner.spec.paused = True
    _, conditions = report(owner, new, [], NOW + 65)
    assert conditions["Progressing"] == late, "a pause does not undo it"
    owner.spec.paused = False
    _, conditions = report(owner, replica_set("new", 2, 2), [], NOW + 70)
    assert conditions["Progressing"][1] == "NewReplicaSetAvailable"


def test_a_deadline_that_is_set_later_runs_from_then() -> None:
    owner = deployment(2, progress_deadline_seconds=None)
    new = replica_set("new", 2, 0)
    report(owner, new, [])
    owner.spec.progress_deadline_seconds = 60
    _, conditions = report(owner, new, [], NOW + 5)
    assert conditions["Progressing"] == ("True", "FoundNewReplicaSet", 'Found new replica set "new"')
    assert remaining(owner, NOW + 5) == 60


@pytest.mark.parametrize("seconds", [None, 2**31 - 1])
def test_without_a_deadline_nothing_is_said_of_progress(seconds: int | None) -> None:
    owner = deployment(2, progress_deadline_seconds=seconds)
    owner.status.conditions = [Condition(type="Progressing", status="True", reason="NewReplicaSetCreated")]
    _, conditions = report(owner, replica_set("new", 2, 0), [], news=created("new"))
    assert "Progressing" not in conditions


def test_pause_and_resumption() -> None:
    owner = deployment(2, progress_deadline_seconds=60, paused=True)
    new = replica_set("new", 2, 0)
    _, conditions = report(owner, new, [])
    assert conditions["Progressing"] == ("Unknown", "DeploymentPaused", "Deployment is paused")
    assert remaining(owner, NOW + 999) is None
    again, _ = report(owner, new, [], NOW + 9)
    assert progressing(again).last_update_time == format_time(NOW)
    owner.spec.paused = False
    _, conditions = report(owner, new, [], NOW + 10)
    assert conditions["Progressing"] == ("Unknown", "DeploymentResumed", "Deployment is resumed")
    assert remaining(owner, NOW + 10) == 60
    _, conditions = report(owner, replica_set("new", 2, 1), [], NOW + 11)
    assert conditions["Progressing"][:2] == ("True", "ReplicaSetUpdated")


def test_a_replica_set_that_cannot_be_made_shows() -> None:
    owner = deployment(2, progress_deadline_seconds=60)
    _, conditions = report(owner, None, [replica_set("old", 2)], news=creation_failed("new", "quota"))
    message = 'Failed to create new replica set "new": quota'
    assert conditions["Progressing"] == ("False", "ReplicaSetCreateError", message)


def test_a_failure_of_a_replica_set_shows_and_foreign_conditions_stay() -> None:
    owner = deployment(2)
    owner.status.conditions = [Condition(type="Theirs", status="True")]
    new, old = replica_set("new", 2, 0), replica_set("old", 2, 0)
    for owned, message in ((new, "quota"), (old, "older")):
        owned.status.conditions = [
            Condition(
                type="ReplicaFailure",
                status="True",
                reason="FailedCreate",
                message=message,
                last_transition_time="then",
            )
        ]
    status, conditions = report(owner, new, [old])
    assert conditions["ReplicaFailure"] == ("True", "FailedCreate", "quota"), "of the present template first"
    failure = condition(status.conditions, "ReplicaFailure")
    assert failure is not None
    assert (failure.last_transition_time, failure.last_update_time) == ("then", "then")
    assert "Theirs" in conditions
    _, conditions = report(owner, replica_set("new", 2, 0), [])
    assert "ReplicaFailure" not in conditions


def test_what_turns_goes_to_the_end_as_the_api_s_own_code_writes_it() -> None:
    owner = deployment(1, progress_deadline_seconds=60)
    status, _ = report(owner, replica_set("new", 1, 0), [], news=created("new"))
    assert [entry.type for entry in status.conditions] == ["Available", "Progressing"]
    status, _ = report(owner, replica_set("new", 1, 1), [], NOW + 3)
    assert [entry.type for entry in status.conditions] == ["Available", "Progressing"]
    status, _ = report(owner, replica_set("new", 1, 0), [], NOW + 6)
    assert [entry.type for entry in status.conditions] == ["Progressing", "Available"]


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
