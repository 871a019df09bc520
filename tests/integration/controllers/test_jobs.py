"""Jobs against a real API server; the test says what becomes of their Pods, as kubelets would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running

from twinstack.api.batch import Job
from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import EVENTS, JOBS, PODS
from twinstack.client.rest import Client
from twinstack.controllers.garbage import GarbageCollector
from twinstack.controllers.jobpods import FINALIZER
from twinstack.controllers.jobs import JobController
from twinstack.controllers.jobttl import JobTTLController

WAIT = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


def job(name: str, **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": {"spec": pod}} | spec}


async def make(client: Client, name: str, **spec: Any) -> None:
    await client.create(JOBS, job(name, **spec))


async def pods(client: Client, name: str) -> list[Pod]:
    found, _ = await client.list(PODS, "default", label_selector=f"batch.kubernetes.io/job-name={name}")
    return sorted(found, key=lambda pod: pod.metadata.name)


async def active(client: Client, name: str, count: int) -> list[Pod]:
    def there(found: list[Pod]) -> bool:
        return sum(pod.status.phase == "Pending" and not pod.metadata.deletion_timestamp for pod in found) == count

    found = await eventually(partial(pods, client, name), there, WAIT)
    return [pod for pod in found if pod.status.phase == "Pending" and not pod.metadata.deletion_timestamp]


async def end(client: Client, pod: Pod, code: int = 0, *, at: str = "2026-01-01T00:00:00Z") -> None:
    """A container that ended; long ago, so that no back-off is waited for."""
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": at}
    container = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    status = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [container | {"state": {"terminated": ended}}],
    }
    await client.patch(PODS, pod.metadata.name, "default", {"status": status}, subresource="status")


async def until(client: Client, name: str, holds: Callable[[Job], bool]) -> Job:
    return await eventually(lambda: client.get(JOBS, name, "default"), holds, WAIT)


def said(found: Job) -> list[tuple[str, str, str]]:
    return [(c.type, c.status, c.reason) for c in found.status.conditions]


def has(type_: str) -> Callable[[Job], bool]:
    return lambda found: any(c.type == type_ and c.status == "True" for c in found.status.conditions)


async def told(client: Client, name: str) -> list[tuple[str, str]]:
    events, _ = await client.list(EVENTS, "default", field_selector=f"involvedObject.name={name}")
    return [(event.reason, event.message) for event in events]


def test_a_job_runs_its_completions_in_parallel_and_counts_each_once(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, JobController):
            await make(client, "three", completions=3, parallelism=2)
            for pod in await active(client, "three", 2):
                assert pod.metadata.finalizers == [FINALIZER]
                await end(client, pod)
            last = (await active(client, "three", 1))[0]
            await end(client, last)
            done = await until(client, "three", has("Complete"))
        assert said(done) == [
            ("SuccessCriteriaMet", "True", "CompletionsReached"),
            ("Complete", "True", "CompletionsReached"),
        ]
        status = done.status
        assert (status.succeeded, status.failed, status.active, status.terminating) == (3, 0, 0, 0)
        assert status.start_time is not None
        assert status.completion_time is not None
        assert all(pod.metadata.finalizers == [] for pod in await pods(client, "three"))

    run(server, scenario)


def test_failures_up_to_the_limit_and_no_further(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, JobController):
            await make(client, "bad", backoffLimit=1)
            for _ in range(2):
                await end(client, (await active(client, "bad", 1))[0], 3)
            failed = await until(client, "bad", has("Failed"))
            await eventually(
                partial(told, client, "bad"),
                lambda events: ("BackoffLimitExceeded", "Job has reached the specified backoff limit") in events,
                WAIT,
            )
        assert (failed.status.failed, failed.status.completion_time) == (2, None)
        assert said(failed)[0] == ("FailureTarget", "True", "BackoffLimitExceeded")

    run(server, scenario)


def test_indexes_are_named_and_fail_each_for_itself(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, JobController):
            spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
            await make(client, "ix", **spec)
            first = await active(client, "ix", 3)
            assert [pod.spec.hostname for pod in first] == ["ix-0", "ix-1", "ix-2"]
            assert [pod.metadata.labels["batch.kubernetes.io/job-completion-index"] for pod in first] == ["0", "1", "2"]
            variable = first[0].spec.containers[0].env[0]
            assert variable.name == "JOB_COMPLETION_INDEX"
            await end(client, first[0])
            await end(client, first[1], 1)
            again = await eventually(
                partial(active, client, "ix", 2),
                lambda found: found[0].metadata.annotations["batch.kubernetes.io/job-index-failure-count"] == "1",
                WAIT,
            )
            assert again[0].spec.hostname == "ix-1"
            await end(client, again[0], 1)
            await until(client, "ix", lambda found: found.status.failed_indexes == "1")
            await end(client, first[2])
            done = await until(client, "ix", has("Failed"))
        assert (done.status.completed_indexes, done.status.failed_indexes, done.status.failed) == ("0,2", "1", 2)
        assert said(done)[-1] == ("Failed", "True", "FailedIndexes")

    run(server, scenario)


def test_rules_about_failed_pods_and_about_success(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        codes = {"operator": "In", "values": [42]}
        ignored = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        rules = [{"action": "FailJob", "onExitCodes": codes}, ignored]
        async with running(client, JobController):
            await make(client, "ruled", podFailurePolicy={"rules": rules}, backoffLimit=0)
            pod = (await active(client, "ruled", 1))[0]
            target = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            await client.patch(
                PODS, pod.metadata.name, "default", {"status": {"conditions": [target]}}, subresource="status"
            )
            await end(client, pod, 1)
            await eventually(partial(pods, client, "ruled"), lambda found: len(found) == 2, WAIT)
            pod = (await active(client, "ruled", 1))[0]
            await end(client, pod, 42)
            failed = await until(client, "ruled", has("Failed"))
            assert failed.status.conditions[-1].message == (
                f"Container c for pod default/{pod.metadata.name} failed with exit code 42 "
                "matching FailJob rule at index 0"
            )
            assert failed.status.failed == 1, "the ignored one is in no counter"

            success = {"rules": [{"succeededIndexes": "0"}]}
            await make(client, "led", completions=2, parallelism=2, completionMode="Indexed", successPolicy=success)
            await end(client, (await active(client, "led", 2))[0])
            done = await until(client, "led", has("Complete"))
            assert said(done)[-1] == ("Complete", "True", "SuccessPolicy")
            assert done.status.completed_indexes == "0"

    run(server, scenario)


def test_suspended_resumed_late_and_removed(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, JobController, JobTTLController, GarbageCollector):
            await make(client, "held", suspend=True)
            await until(client, "held", lambda found: said(found) == [("Suspended", "True", "JobSuspended")])
            assert await pods(client, "held") == []
            await client.patch(JOBS, "held", "default", {"spec": {"suspend": False}})
            await active(client, "held", 1)
            await client.patch(JOBS, "held", "default", {"spec": {"suspend": True}})
            held = await until(client, "held", lambda found: has("Suspended")(found) and found.status.active == 0)
            assert held.status.failed == 0
            await client.patch(JOBS, "held", "default", {"spec": {"suspend": False}})
            await active(client, "held", 1)
            hurried = {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 1}
            await client.patch(JOBS, "held", "default", {"spec": hurried})
            late = await until(client, "held", has("Failed"))
            assert said(late)[-1] == ("Failed", "True", "DeadlineExceeded")
            assert late.status.failed == 1

            async def gone() -> bool:
                try:
                    await client.get(JOBS, "held", "default")
                except StatusError as error:
                    return error.code == 404
                return False

            await eventually(gone, bool, WAIT)
            await eventually(partial(pods, client, "held"), lambda found: found == [], WAIT)
            events = await told(client, "held")
            assert {"Suspended", "Resumed", "DeadlineExceeded"} <= {reason for reason, _ in events}

    run(server, scenario)


def test_pods_of_a_job_that_is_deleted_are_let_go(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make(client, "short")
        async with running(client, JobController):
            await active(client, "short", 1)
        await client.delete(JOBS, "short", "default", propagation="Background")
        async with running(client, JobController, GarbageCollector):
            await eventually(partial(pods, client, "short"), lambda found: found == [], WAIT)

    run(server, scenario)
