"""CronJobs against a real API server, with a clock that the test sets forward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running
from tests.integration.controllers.test_jobs import WAIT, active, end, told

from twinstack.api.batch import CronJob, Job
from twinstack.api.kinds import CRON_JOBS, JOBS
from twinstack.client.rest import Client
from twinstack.controllers.cronjobs import CronJobController
from twinstack.controllers.cronplan import SCHEDULED
from twinstack.controllers.jobs import JobController


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


class Clock:
    """Unix time, ahead of the true one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def make(client: Client, name: str, **spec: Any) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    template = {"metadata": {"labels": {"cron": name}}, "spec": {"template": {"spec": pod}}}
    body = {"schedule": "* * * * *", "jobTemplate": template} | spec
    await client.create(CRON_JOBS, {"metadata": {"name": name, "namespace": "default"}, "spec": body})


async def jobs(client: Client, name: str) -> list[Job]:
    found, _ = await client.list(JOBS, "default", label_selector=f"cron={name}")
    return sorted(found, key=lambda job: job.metadata.name)


async def cron(client: Client, name: str) -> CronJob:
    return await client.get(CRON_JOBS, name, "default")


async def nudge(client: Client, name: str) -> None:
    """A change that makes the controller look at its clock."""
    patch = {"metadata": {"annotations": {"seen": str(time.time_ns())}}}
    await client.patch(CRON_JOBS, name, "default", patch)


def test_a_job_a_minute_of_which_the_last_ones_stay(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        clock = Clock()
        async with running(client, partial(CronJobController, clock=clock), JobController):
            await make(client, "tick", successfulJobsHistoryLimit=1, timeZone="Europe/Berlin")
            for _ in range(2):
                clock.ahead += 61
                await nudge(client, "tick")
                running_one = await eventually(partial(cron, client, "tick"), lambda c: len(c.status.active) == 1, WAIT)
                name = running_one.status.active[0].name
                await end(client, (await active(client, name, 1))[0])
                await eventually(
                    partial(cron, client, "tick"),
                    lambda c: not c.status.active and c.status.last_successful_time is not None,
                    WAIT,
                )
            last = await eventually(
                partial(jobs, client, "tick"), lambda found: [j.metadata.name for j in found] == [name], WAIT
            )
            assert last[0].metadata.annotations[SCHEDULED].endswith(("+01:00", "+02:00"))
            assert last[0].metadata.owner_references[0].kind == "CronJob"
            await eventually(
                partial(told, client, "tick"),
                lambda events: {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= {e[0] for e in events},
                WAIT,
            )

    run(server, scenario)


@pytest.mark.parametrize(("policy", "left"), [("Forbid", 1), ("Replace", 1), ("Allow", 2)])
def test_what_is_done_while_a_job_still_runs(server: Bed, policy: str, left: int) -> None:
    async def scenario(client: Client) -> None:
        clock, name = Clock(), policy.lower()
        async with running(client, partial(CronJobController, clock=clock)):
            await make(client, name, concurrencyPolicy=policy)
            clock.ahead = 61.0
            await nudge(client, name)
            first = (await eventually(partial(jobs, client, name), lambda found: len(found) == 1, WAIT))[0]
            clock.ahead = 122.0
            await nudge(client, name)
            if policy == "Forbid":
                await eventually(
                    partial(told, client, name), lambda events: any(e[0] == "JobAlreadyActive" for e in events), WAIT
                )
            else:
                await eventually(
                    partial(cron, client, name),
                    lambda c: len(c.status.active) == left and c.status.active[-1].name != first.metadata.name,
                    WAIT,
                )
            found = await jobs(client, name)
            assert len(found) == left
            assert (first.metadata.name in [job.metadata.name for job in found]) is (policy != "Replace")

    run(server, scenario)


def test_a_time_missed_by_too_much_and_a_suspended_one_start_nothing(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        clock = Clock()
        clock.ahead = 3600.0 * 12
        async with running(client, partial(CronJobController, clock=clock)):
            await make(client, "asleep", suspend=True)
            await make(client, "busy")
            await eventually(
                partial(told, client, "busy"), lambda events: any(e[0] == "TooManyMissedTimes" for e in events), WAIT
            )
            await eventually(partial(jobs, client, "busy"), lambda found: len(found) == 1, WAIT)
            assert await jobs(client, "asleep") == []

    run(server, scenario)
