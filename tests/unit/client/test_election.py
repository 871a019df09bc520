"""Leader election against a server that holds one Lease."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from tests.unit.client.api_stub import Call, Reply, api_stub, status

from twinstack.client.election import Candidate, LeadershipLost, Terms, add_flags, led, terms
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client

FAST = Terms(name="part", lease=1.5, deadline=1.0, retry=0.05)
PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


class OneLease:
    """Keeps the Lease with optimistic locking, and refuses everything while it is `away`."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.revision = 0
        self.away = False
        self.events: list[str] = []

    async def __call__(self, call: Call, reply: Reply) -> None:
        if self.away:
            reply.json(status(500, "", "etcdserver: request timed out"), status=500)
        elif call.path.endswith("/events"):
            self.events.append(json.loads(call.body)["message"])
            reply.json({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"}}, status=201)
        elif call.method == "GET":
            if self.lease is None:
                reply.json(status(404, "NotFound", "no lease"), status=404)
            else:
                reply.json(self.lease)
        else:
            self._write(call, reply)

    def _write(self, call: Call, reply: Reply) -> None:
        body = json.loads(call.body)
        if (call.method == "POST") != (self.lease is None) or (
            self.lease is not None and body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]
        ):
            reply.json(status(409, "Conflict", "somebody was faster"), status=409)
            return
        self.revision += 1
        body["metadata"]["resourceVersion"] = str(self.revision)
        self.lease = body
        reply.json(body, status=201 if call.method == "POST" else 200)

    @property
    def holder(self) -> str:
        return "" if self.lease is None else self.lease["spec"].get("holderIdentity", "")


class Work:
    """Says when it runs."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        self.running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.running.clear()


def run(scenario: Callable[[OneLease, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        lease = OneLease()
        async with api_stub(lease) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            try:
                async with asyncio.timeout(30):
                    await scenario(lease, client)
            finally:
                await client.close()

    uvloop.run(main())


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_lease_is_given_back_after_a_renewal_whose_answer_never_came() -> None:
    async def scenario(lease: OneLease, client: Client) -> None:
        work = Work()
        one = Candidate(client, FAST, "part")
        leading = asyncio.create_task(one.run(work))
        await work.running.wait()
        assert lease.lease is not None
        lease.revision += 1
        lease.lease["metadata"]["resourceVersion"] = str(lease.revision)
        await cancelled(leading)
        assert lease.holder == ""

    run(scenario)


def test_one_leads_and_the_next_begins_when_it_has_gone() -> None:
    async def scenario(lease: OneLease, client: Client) -> None:
        first, second = Work(), Work()
        one, two = Candidate(client, FAST, "part"), Candidate(client, FAST, "part")
        leading = asyncio.create_task(one.run(first))
        await first.running.wait()
        standing_by = asyncio.create_task(two.run(second))
        before = lease.revision
        while lease.revision < before + 5:  # renewed
            await asyncio.sleep(0.01)
        assert (lease.holder, second.runs) == (one.identity, 0)
        await cancelled(leading)
        assert lease.holder != one.identity  # given back
        await second.running.wait()
        assert lease.holder == two.identity
        assert lease.lease is not None
        assert lease.lease["spec"]["leaseTransitions"] == 1
        while f"{two.identity} became leader" not in lease.events:
            await asyncio.sleep(0.01)
        await cancelled(standing_by)

    run(scenario)


def test_the_lease_of_one_that_died_is_taken_when_it_has_run_out() -> None:
    async def scenario(lease: OneLease, client: Client) -> None:
        lease.revision = 7
        lease.lease = {
            "metadata": {"name": "part", "namespace": "kube-system", "resourceVersion": "7"},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z"},
        }
        begun = asyncio.get_running_loop().time()
        work = Work()
        leading = asyncio.create_task(led(client, FAST, "part", work))
        await work.running.wait()
        assert asyncio.get_running_loop().time() - begun >= 1  # by its own clock, whatever renewTime says
        await cancelled(leading)

    run(scenario)


def test_a_leader_that_cannot_renew_stops() -> None:
    async def scenario(lease: OneLease, client: Client) -> None:
        work = Work()
        leading = asyncio.create_task(led(client, FAST, "part", work))
        await work.running.wait()
        lease.away = True
        with pytest.raises(LeadershipLost, match="leader election lost: kube-system/part"):
            await leading
        assert not work.running.is_set()

    run(scenario)


def test_a_leader_whose_lease_somebody_takes_stops() -> None:
    async def scenario(lease: OneLease, client: Client) -> None:
        work = Work()
        leading = asyncio.create_task(led(client, FAST, "part", work))
        await work.running.wait()
        assert lease.lease is not None
        lease.revision += 1
        lease.lease["spec"]["holderIdentity"] = "another"
        lease.lease["metadata"]["resourceVersion"] = str(lease.revision)
        with pytest.raises(LeadershipLost):
            await leading

    run(scenario)


def test_work_that_fails_ends_the_process_with_its_error() -> None:
    async def scenario(lease: OneLease, client: Client) -> None:
        async def fail() -> None:
            raise ValueError("cannot work")

        with pytest.raises(ValueError, match="cannot work"):
            await led(client, FAST, "part", fail)
        assert lease.holder == ""
        with pytest.raises(ValueError, match="cannot work"):
            await led(client, None, "part", fail)  # without an election

    run(scenario)


def test_flags() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, "kube-scheduler")
    assert terms(parser.parse_args([])) == Terms(name="kube-scheduler")
    assert terms(parser.parse_args(["--leader-elect=false"])) is None
    wrong = parser.parse_args(["--leader-elect", "--leader-elect-lease-duration=10s"])
    with pytest.raises(ValueError, match="leaseDuration must be greater than renewDeadline"):
        terms(wrong)
