from __future__ import annotations

import msgspec
from tests.unit.node.building import UID, pod, run, view

from twinstack.api.core import PodIP, PodStatus
from twinstack.api.meta import Condition
from twinstack.node.pods import Situation, pod_status
from twinstack.node.status import status_patch

THEN, NOW = "2026-01-31T12:00:00Z", "2026-01-31T12:00:05Z"


def test_nothing_changes_nothing() -> None:
    status = pod_status(pod(), Situation(view(run("c")), ["10.0.0.1"], ["10.0.0.2"]), THEN)
    assert status_patch(UID, status, status) is None
    later = pod_status(pod(), Situation(view(run("c")), ["10.0.0.1"], ["10.0.0.2"]), NOW)
    assert status_patch(UID, status, later) is None  # only the clock went on


def test_the_first_status_is_written_whole() -> None:
    known = PodStatus(
        phase="Pending", conditions=[Condition(type="PodScheduled", status="True", last_transition_time=THEN)]
    )
    wanted = pod_status(pod(status=known), Situation(view(run("c")), ["10.0.0.1", "fd00::1"], ["10.0.0.2"]), NOW)
    patch = status_patch(UID, known, wanted)
    assert patch is not None
    assert patch["metadata"] == {"uid": UID}
    status = patch["status"]
    assert status["phase"] == "Running"
    assert status["podIPs"] == [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    assert [entry["type"] for entry in status["$setElementOrder/conditions"]] == [c.type for c in wanted.conditions]
    scheduled = next(entry for entry in status["conditions"] if entry["type"] == "PodScheduled")
    assert scheduled == {"type": "PodScheduled", "status": "True", "observedGeneration": 1, "lastTransitionTime": THEN}
    assert set(status["containerStatuses"][0]) >= {
        "name",
        "state",
        "lastState",
        "ready",
        "restartCount",
        "image",
        "imageID",
    }
    msgspec.json.encode(patch)


def test_what_goes_away_is_taken_away() -> None:
    known = PodStatus(
        conditions=[Condition(type="Ready", status="False", reason="R", message="m", last_transition_time=THEN)]
    )
    wanted = PodStatus(conditions=[Condition(type="Ready", status="True", last_transition_time=NOW)])
    patch = status_patch(UID, known, wanted)
    assert patch is not None
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": NOW, "reason": None, "message": None}
    assert patch["status"] == {"conditions": [ready]}


def test_conditions_of_others_stay() -> None:
    known = PodStatus(conditions=[Condition(type="example.com/gate", status="True")])
    assert status_patch(UID, known, PodStatus()) is None


def test_other_addresses_replace_the_old_ones() -> None:
    known = PodStatus(pod_ip="10.0.0.1", pod_ips=[PodIP(ip="10.0.0.1")])
    wanted = PodStatus(pod_ip="10.0.0.9", pod_ips=[PodIP(ip="10.0.0.9")])
    patch = status_patch(UID, known, wanted)
    assert patch is not None
    assert patch["status"] == {"podIP": "10.0.0.9", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.9"}]}


def test_the_first_start_time_counts() -> None:
    known, wanted = PodStatus(phase="Pending", start_time=THEN), PodStatus(phase="Running", start_time=NOW)
    assert status_patch(UID, known, wanted) == {"metadata": {"uid": UID}, "status": {"phase": "Running"}}
