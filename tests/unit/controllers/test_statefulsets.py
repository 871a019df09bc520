"""Rules of StatefulSets, and that any state of their Pods ends in the wanted one, in order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.apps import ControllerRevision, StatefulSet
from twinstack.api.core import Pod, PodStatus, PodTemplateSpec
from twinstack.api.meta import Condition, ObjectMeta
from twinstack.api.times import format_time
from twinstack.controllers import statefulplan
from twinstack.controllers.revisions import is_of, revision_body, template_of
from twinstack.controllers.statefulpods import REVISION_LABEL, claim_bodies, ordinal_of, pod_body

NOW = 1_800_000_000.0
NEW, OLD = "s-new", "s-old"


def stateful_set(replicas: int = 3, **spec: Any) -> StatefulSet:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
    fields = {"replicas": replicas, "template": template, "selector": {"matchLabels": {"a": "b"}}, "serviceName": "svc"}
    return msgspec.convert(
        {"metadata": {"name": "s", "namespace": "n", "uid": "u"}, "spec": fields | spec}, StatefulSet
    )


def pod(ordinal: int, revision: str = NEW, *, ready: bool = True, phase: str = "Running", leaves: bool = False) -> Pod:
    condition = Condition(type="Ready", status="True" if ready else "False", last_transition_time=format_time(NOW - 60))
    meta = ObjectMeta(name=f"s-{ordinal}", uid=f"{ordinal}-{revision}", labels={REVISION_LABEL: revision})
    if leaves:
        meta.deletion_timestamp = format_time(NOW)
    return Pod(metadata=meta, status=PodStatus(phase=phase, conditions=[condition]))


def doomed(one: Pod) -> bool:
    return one.metadata.deletion_timestamp is not None


def step(owner: StatefulSet, *pods: Pod) -> tuple[list[int], list[str]]:
    found = statefulplan.plan(owner, pods, doomed, OLD, NEW, NOW)
    return [ordinal for ordinal, _ in found.create], [one.metadata.name for one in found.delete]


def test_only_pods_with_its_name_and_a_number_are_its_own() -> None:
    names = {"s-0": 0, "s-12": 12, "s-01": -1, "s-x": -1, "t-0": -1, "s": -1, "s-1-2": -1}
    assert {name: ordinal_of(stateful_set(), Pod(metadata=ObjectMeta(name=name))) for name in names} == names


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ([0], [])),
        ([pod(0, ready=False)], ([], [])),
        ([pod(0)], ([1], [])),
        ([pod(0), pod(2)], ([1], [])),
        ([pod(0), pod(1, leaves=True)], ([], [])),
        ([pod(0), pod(1, phase="Failed")], ([], ["s-1"])),
        ([pod(0), pod(1), pod(2), pod(3), pod(4)], ([], ["s-4"])),
        ([pod(0), pod(1), pod(2), pod(3), pod(4, leaves=True)], ([], [])),
        ([pod(0), pod(1), pod(2), pod(3, ready=False), pod(4)], ([], ["s-4"])),
        ([pod(0, OLD), pod(1, OLD), pod(2, OLD)], ([], ["s-2"])),
        ([pod(0, OLD), pod(1, OLD), pod(2)], ([], ["s-1"])),
        ([pod(0, OLD), pod(1, OLD), pod(2, ready=False)], ([], [])),
    ],
)
def test_in_order_one_at_a_time(pods: list[Pod], expected: tuple[list[int], list[str]]) -> None:
    assert step(stateful_set(), *pods) == expected


def test_side_by_side_all_at_once_but_updates() -> None:
    owner = stateful_set(podManagementPolicy="Parallel")
    assert step(owner) == ([0, 1, 2], [])
    assert step(owner, *(pod(at, ready=False) for at in (0, 3, 4))) == ([1, 2], ["s-4", "s-3"])
    assert step(owner, *(pod(at, OLD) for at in range(3))) == ([], ["s-2"])
    assert step(owner, pod(0, OLD), pod(1, OLD, ready=False), pod(2)) == ([], ["s-1"])


def test_several_may_be_under_way_and_none_is_without_being_deleted() -> None:
    pods = [pod(at, OLD) for at in range(3)]
    assert step(stateful_set(updateStrategy={"rollingUpdate": {"maxUnavailable": "50%"}}), *pods)[1] == ["s-2", "s-1"]
    assert step(stateful_set(updateStrategy={"rollingUpdate": {"partition": 2}}), *pods)[1] == ["s-2"]
    assert step(stateful_set(updateStrategy={"rollingUpdate": {"partition": 9}}), *pods)[1] == []
    assert step(stateful_set(updateStrategy={"type": "OnDelete"}), *pods)[1] == []


def test_numbers_may_start_elsewhere_and_pods_below_the_partition_keep_their_template() -> None:
    owner = stateful_set(2, ordinals={"start": 7}, podManagementPolicy="Parallel")
    owner.spec.update_strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    assert statefulplan.plan(owner, [], doomed, OLD, NEW, NOW).create == [(7, OLD), (8, NEW)]


def test_a_pod_and_its_claims_are_named_by_its_number() -> None:
    claim = {"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": {"volumeMode": "Filesystem"}}
    owner = stateful_set(volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete"})
    shadowed = PodTemplateSpec(spec={"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]})
    body = pod_body(owner, 1, shadowed, NEW)
    assert body["spec"]["volumes"] == [
        {"name": "tmp", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-s-1"}},
    ]
    assert (body["spec"]["hostname"], body["spec"]["subdomain"]) == ("s-1", "svc")
    made = claim_bodies(owner, 1)[0]["metadata"]
    assert (made["name"], made["labels"], len(made["ownerReferences"])) == ("data-s-1", {"x": "y", "a": "b"}, 1)


def test_a_revision_brings_its_template_back() -> None:
    owner = stateful_set()
    body = revision_body(owner, 4, 0, "hash")
    revision = msgspec.convert(body, ControllerRevision)
    assert revision.revision == 4
    assert template_of(revision).spec == owner.spec.template.spec
    assert is_of(revision, owner.spec.template)
    assert not is_of(revision, PodTemplateSpec(spec={"other": 1}))
    assert revision_body(owner, 4, 1, "hash")["metadata"]["name"] != body["metadata"]["name"]


def test_an_update_is_complete_when_all_have_it_and_serve() -> None:
    owner = stateful_set(2)
    status = statefulplan.status_of(owner, [pod(0, OLD), pod(1)], doomed, OLD, NEW, 0, NOW)
    assert (status.current_replicas, status.updated_replicas, status.current_revision) == (1, 1, OLD)
    status = statefulplan.status_of(owner, [pod(0), pod(1)], doomed, OLD, NEW, 0, NOW)
    assert (status.current_replicas, status.updated_replicas, status.current_revision) == (2, 2, NEW)


STATES = st.dictionaries(
    st.integers(0, 6),
    st.tuples(st.booleans(), st.booleans(), st.sampled_from(["Running", "Pending", "Failed"])),
    max_size=6,
)


@given(STATES, st.integers(0, 4), st.sampled_from(["OrderedReady", "Parallel"]), st.sampled_from([1, 2, "50%"]))
@settings(deadline=None)
def test_any_state_ends_in_the_wanted_pods(
    there: dict[int, tuple[bool, bool, str]], replicas: int, management: str, unavailable: int | str
) -> None:
    owner = stateful_set(replicas, podManagementPolicy=management)
    owner.spec.update_strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}}
    pods = {at: pod(at, NEW if new else OLD, ready=ready, phase=phase) for at, (new, ready, phase) in there.items()}
    for _ in range(80):
        current = owner.status.current_revision or OLD
        found = statefulplan.plan(owner, list(pods.values()), doomed, current, NEW, NOW)
        if management == "OrderedReady":
            assert len(found.create) <= 1
            assert not (found.create and found.delete)
        for gone in found.delete:
            del pods[ordinal_of(owner, gone)]
        for ordinal, revision in found.create:
            assert ordinal not in pods
            pods[ordinal] = pod(ordinal, revision, ready=False, phase="Pending")
        owner.status = statefulplan.status_of(owner, list(pods.values()), doomed, current, NEW, 0, NOW)
        settled = not found.create and not found.delete
        for one in pods.values():
            if (
                one.status.phase != "Failed" and one.status.conditions[0].status == "False"
            ) or one.status.phase == "Pending":
                one.status.phase, one.status.conditions[0].status, settled = "Running", "True", False
        if settled:
            break
    assert {at: one.metadata.labels[REVISION_LABEL] for at, one in sorted(pods.items())} == dict.fromkeys(
        range(replicas), NEW
    )
