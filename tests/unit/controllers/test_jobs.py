"""Rules of Jobs, and that every Pod is counted once however often the controller dies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.api.batch import Job
from twinstack.api.core import ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus
from twinstack.api.meta import Condition, ObjectMeta, OwnerReference
from twinstack.api.times import format_time
from twinstack.controllers import jobends, jobplan, podfailures
from twinstack.controllers.jobindexes import format_indexes, parse
from twinstack.controllers.jobplan import Failures, plan
from twinstack.controllers.jobpods import FINALIZER, Slot, pod_body

NOW = 1_800_000_000.0


def job(**spec: Any) -> Job:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}
    fields = {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": template} | spec
    made = msgspec.convert({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": fields}, Job)
    made.kind, made.api_version = "Job", "batch/v1"
    return made


def finished(code: int, *, uid: str = "p", tracked: bool = True, **metadata: Any) -> Pod:
    ended = ContainerStateTerminated(exit_code=code, finished_at=format_time(NOW - 5))
    return Pod(
        metadata=ObjectMeta(name=uid, namespace="n", uid=uid, finalizers=[FINALIZER] if tracked else [], **metadata),
        status=PodStatus(
            phase="Failed" if code else "Succeeded",
            container_statuses=[ContainerStatus(name="c", state=ContainerState(terminated=ended))],
        ),
    )


def step(of: Job, *pods: Pod, failures: Failures | None = None) -> jobplan.Plan:
    def doomed(pod: Pod) -> bool:
        return pod.metadata.deletion_timestamp is not None

    return plan(of, pods, doomed, failures or Failures(), NOW)


@given(st.sets(st.integers(0, 300)))
def test_indexes_survive_their_text(indexes: set[int]) -> None:
    assert parse(format_indexes(indexes), 301) == indexes


def test_text_of_indexes() -> None:
    assert format_indexes([5, 0, 1, 2, 9, 8]) == "0-2,5,8-9"
    assert parse("0-2,5,junk,7-", 2) == {0, 1}


@pytest.mark.parametrize(
    ("rule", "code", "condition", "matches"),
    [
        ({"onExitCodes": {"operator": "In", "values": [1, 2]}}, 2, "", True),
        ({"onExitCodes": {"operator": "In", "values": [1, 2]}}, 3, "", False),
        ({"onExitCodes": {"operator": "NotIn", "values": [1]}}, 3, "", True),
        ({"onExitCodes": {"operator": "NotIn", "values": [1]}}, 0, "", False),
        ({"onExitCodes": {"operator": "In", "values": [2], "containerName": "other"}}, 2, "", False),
        ({"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}, 1, "DisruptionTarget", True),
        ({"onPodConditions": [{"type": "DisruptionTarget", "status": "False"}]}, 1, "DisruptionTarget", False),
    ],
)
def test_rules_about_failed_pods(rule: dict[str, Any], code: int, condition: str, matches: bool) -> None:
    pod = finished(code)
    pod.status.conditions = [Condition(type=condition, status="True")]
    verdict = podfailures.judge({"rules": [{"action": "FailJob"} | rule]}, pod, by_index=False)
    assert (verdict.action == podfailures.FAIL_JOB) is matches


def test_the_pod_after_a_failed_one_is_made_after_a_pause_that_doubles() -> None:
    failed = step(job(), finished(1))
    assert failed.create == []
    assert failed.failures == Failures(1, NOW - 5)
    assert failed.wait == 5.0
    assert [jobplan.backoff(number) for number in (0, 1, 2, 3, 40)] == [0.0, 10.0, 20.0, 40.0, 600.0]
    assert step(job(), failures=Failures(1, NOW - 10)).create == [Slot()]


def test_a_deadline_and_a_suspended_job() -> None:
    running = job(activeDeadlineSeconds=30)
    assert step(running).wait == 30.0
    running.status.start_time = format_time(NOW - 31)
    assert step(running).status.conditions[0].reason == "DeadlineExceeded"
    held = step(job(suspend=True))
    assert (held.create, held.status.start_time) == ([], None)
    assert held.events == [("Normal", "Suspended", "Job suspended")]


def test_containers_that_are_restarted_count_against_the_limit() -> None:
    spec = {"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}
    of = job(backoffLimit=2, template={"spec": spec})
    pod = Pod(status=PodStatus(phase="Running", container_statuses=[ContainerStatus(name="c", restart_count=2)]))
    assert step(of, pod).status.conditions[0].reason == "BackoffLimitExceeded"
    pod.status.container_statuses[0].restart_count = 1
    assert step(of, pod).status.conditions == []


def test_a_work_queue_ends_when_one_has_succeeded_and_none_runs() -> None:
    of = job(completions=None, parallelism=2)
    assert len(step(of).create) == 2
    running = Pod(metadata=ObjectMeta(uid="r", finalizers=[FINALIZER]), status=PodStatus(phase="Running"))
    beside = step(of, finished(0), running)
    assert (beside.create, beside.stopped, beside.status.conditions) == ([], [], [])
    assert step(of, finished(0)).status.conditions[0].type == "SuccessCriteriaMet"


def test_a_pod_of_an_index_knows_it_in_four_ways() -> None:
    body = pod_body(job(completionMode="Indexed", completions=3, backoffLimitPerIndex=1), Slot(2, failures=1))
    meta, spec = body["metadata"], body["spec"]
    key = "batch.kubernetes.io/job-completion-index"
    assert meta["labels"] == {"a": "b", key: "2"}
    assert meta["annotations"] == {key: "2", "batch.kubernetes.io/job-index-failure-count": "1"}
    assert (meta["generateName"], spec["hostname"]) == ("j-2-", "j-2")
    path = spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == f"metadata.labels['{key}']"


def test_indexes_that_are_no_longer_wanted_go() -> None:
    of = job(completionMode="Indexed", completions=2, parallelism=2)
    pods = [
        Pod(
            metadata=ObjectMeta(
                name=f"p{at}", uid=f"p{at}", annotations={"batch.kubernetes.io/job-completion-index": at}
            )
        )
        for at in ("0", "0", "3")
    ]
    found = step(of, *pods)
    assert sorted(pod.metadata.name for pod in found.dismissed) == ["p0", "p3"]
    assert found.create == [Slot(1)]


class World:
    """A Job and its Pods as a server has them; every deed of the controller may be its last."""

    def __init__(self, of: Job) -> None:
        self.job, self.pods, self.made, self.ended = of, dict[str, Pod](), 0, set[str]()
        self.now = NOW

    def act(self, deeds: int) -> None:
        """Plan once, and do as many deeds as the controller lives for."""
        self.now += 1000.0
        taken = plan(
            self.job, list(self.pods.values()), lambda pod: bool(pod.metadata.deletion_timestamp), Failures(), self.now
        )
        jobplan.recount(taken.status, list(self.pods.values()), lambda pod: bool(pod.metadata.deletion_timestamp))
        todo: list[tuple[str, Any]] = []
        for pod in taken.dismissed:
            todo += [("release", pod), ("delete", pod)]
        todo += [("delete", pod) for pod in taken.stopped]
        todo += [("create", slot) for slot in taken.create]
        todo += [("report", taken.status), *(("release", pod) for pod in taken.countable)]
        for verb, what in todo[:deeds]:
            getattr(self, verb)(what)

    def release(self, pod: Pod) -> None:
        self.pods[pod.metadata.uid].metadata.finalizers.clear()
        self._sweep(pod.metadata.uid)

    def delete(self, pod: Pod) -> None:
        pod.metadata.deletion_timestamp = format_time(self.now)
        if FINALIZER in pod.metadata.finalizers:
            self.ended.add(pod.metadata.uid)
        self._sweep(pod.metadata.uid)

    def create(self, slot: Slot) -> None:
        self.made += 1
        body = pod_body(self.job, slot)["metadata"]
        uid = f"p{self.made}"
        meta = ObjectMeta(
            name=uid,
            namespace="n",
            uid=uid,
            finalizers=[FINALIZER],
            creation_timestamp=format_time(self.now),
            annotations=body.get("annotations", {}),
            owner_references=[OwnerReference(kind="Job", uid="u", controller=True)],
        )
        self.pods[uid] = Pod(metadata=meta, status=PodStatus(phase="Running"))

    def report(self, status: Any) -> None:
        self.job = msgspec.structs.replace(
            self.job, status=msgspec.json.decode(msgspec.json.encode(status), type=type(status))
        )

    def end(self, uid: str, phase: str) -> None:
        pod = self.pods[uid]
        if pod.status.phase == "Running":
            pod.status.phase = phase
            if FINALIZER in pod.metadata.finalizers:
                self.ended.add(uid)
        self._sweep(uid)

    def _sweep(self, uid: str) -> None:
        meta = self.pods[uid].metadata
        if meta.deletion_timestamp and not meta.finalizers:
            del self.pods[uid]

    def counted(self) -> int:
        status, waiting = self.job.status, self.job.status.uncounted_terminated_pods
        names = len(waiting.succeeded) + len(waiting.failed) if waiting is not None else 0
        return status.succeeded + status.failed + names


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.integers(0, 12)),
        st.tuples(st.sampled_from(["Succeeded", "Failed", "remove"]), st.integers(0, 5)),
    ),
    max_size=25,
)


@given(EVENTS, st.integers(1, 4), st.integers(1, 3))
@settings(deadline=None)
def test_every_pod_is_counted_once_whenever_the_controller_dies(
    events: list[tuple[str, int]], completions: int, parallelism: int
) -> None:
    world = World(job(completions=completions, parallelism=parallelism, backoffLimit=1000))
    for what, number in events:
        if what == "act":
            world.act(number)
        elif world.pods:
            uid = sorted(world.pods)[number % len(world.pods)]
            world.delete(world.pods[uid]) if what == "remove" else world.end(uid, what)
        running = [
            pod for pod in world.pods.values() if pod.status.phase == "Running" and not pod.metadata.deletion_timestamp
        ]
        assert len(running) <= parallelism
    for _ in range(60):
        world.act(1000)
        if jobends.finished(world.job):
            break
        for uid in list(world.pods):
            world.end(uid, "Succeeded")
    end = jobends.finished(world.job)
    assert end is not None
    assert end.type == "Complete"
    assert world.job.status.succeeded >= completions
    assert world.counted() == len(world.ended)
    assert not any(pod.metadata.finalizers for pod in world.pods.values())


@given(EVENTS, st.integers(1, 4), st.integers(0, 2))
@settings(deadline=None)
def test_every_index_comes_to_an_end_of_its_own(events: list[tuple[str, int]], completions: int, limit: int) -> None:
    world = World(
        job(
            completions=completions,
            parallelism=2,
            completionMode="Indexed",
            backoffLimitPerIndex=limit,
            backoffLimit=1000,
        )
    )
    for what, number in events:
        if what == "act":
            world.act(number)
        elif world.pods and what != "remove":
            world.end(sorted(world.pods)[number % len(world.pods)], what)
    for _ in range(80):
        world.act(1000)
        if jobends.finished(world.job):
            break
        for uid in list(world.pods):
            world.end(uid, "Succeeded")
    status = world.job.status
    done, failed = parse(status.completed_indexes, completions), parse(status.failed_indexes, completions)
    assert jobends.finished(world.job) is not None
    assert done | failed == set(range(completions))
    assert not done & failed
    assert status.succeeded == len(done)
    assert status.failed >= len(failed) * (limit + 1)
