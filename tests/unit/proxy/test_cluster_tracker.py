"""Objects as a watch brings them: late, twice, gone and back again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.unit.dataplane.objects import endpoint, service, slice_

from twinstack.api.core import Service
from twinstack.api.discovery import EndpointSlice
from twinstack.api.times import now
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client
from twinstack.dataplane.tracker import Change
from twinstack.ip import IPFamily
from twinstack.proxy import tracker as module
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.tracker import TRIGGER_TIME, ClusterTracker

V4 = IPFamily.IPV4


def versioned(obj: Service | EndpointSlice, version: int) -> None:
    obj.metadata.resource_version = str(version)


def play(scenario: Callable[[ClusterTracker], Awaitable[None]]) -> None:
    async def run() -> None:
        client = Client(ClusterAccess(server="http://127.0.0.1:1"), user_agent="test")
        tracker = ClusterTracker(client, Configuration("here"), [V4], ProxyMetrics())
        try:
            await scenario(tracker)
        finally:
            tracker.close()
            await client.close()

    asyncio.run(run())


def put_service(tracker: ClusterTracker, version: int, name: str = "web", address: str = "10.96.0.1") -> Service:
    obj = service(name, address)
    versioned(obj, version)
    tracker.services.put(obj)
    return obj


def put_slice(tracker: ClusterTracker, version: int, *addresses: str) -> EndpointSlice:
    obj = slice_("web", V4, [endpoint(each) for each in addresses])
    versioned(obj, version)
    tracker.slices.put(obj)
    return obj


def targets(changes: list[Change]) -> list[str]:
    return [str(target) for change in changes for each in change.new.front_ends for target in each.targets]


def test_what_comes_late_or_twice_changes_nothing() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        put_service(tracker, 1)
        latest = put_slice(tracker, 5, "10.0.0.5")
        assert targets(tracker.desired.take()) == ["10.0.0.5:8080"]
        put_slice(tracker, 5, "10.0.0.9")
        tracker.slices.gone(put_slice(tracker, 3, "10.0.0.3"))
        assert tracker.desired.take() == []
        versioned(latest, 6)
        tracker.slices.gone(latest)
        assert targets(tracker.desired.take()) == []
        tracker.slices.gone(latest)  # again
        assert not tracker.desired.pending

    play(scenario)


def test_a_slice_may_come_before_its_service_and_after_its_end() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        put_slice(tracker, 1, "10.0.0.1")
        assert tracker.desired.take() == []
        put_service(tracker, 2)
        assert targets(tracker.desired.take()) == ["10.0.0.1:8080"]
        tracker.services.forget()
        await asyncio.sleep(2 * module._FAREWELL)
        put_slice(tracker, 4, "10.0.0.2")
        (change,) = tracker.desired.take()
        assert change.new.front_ends == ()

    play(scenario)


def test_a_whole_state_ends_what_it_does_not_have() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        put_service(tracker, 1)
        put_slice(tracker, 2, "10.0.0.1")
        tracker.desired.take()
        tracker.slices.complete(set(), 3)
        assert targets(tracker.desired.take()) == []
        assert tracker.desired.pending is False

    play(scenario)


def test_a_service_that_comes_back_at_once_was_never_away() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        gone = put_service(tracker, 1)
        put_slice(tracker, 2, "10.0.0.1")
        tracker.desired.take()
        tracker.services.gone(gone)
        assert tracker.desired.take() == []
        put_service(tracker, 4)
        await asyncio.sleep(2 * module._FAREWELL)
        assert tracker.desired.take() == []

    play(scenario)


def test_a_service_that_comes_back_keeps_its_endpoints_until_there_are_new_ones() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        service_, slice__ = put_service(tracker, 1), put_slice(tracker, 2, "10.0.0.1")
        tracker.desired.take()
        tracker.services.gone(service_)
        tracker.slices.gone(slice__)
        put_service(tracker, 4)
        assert tracker.desired.take() == []
        put_slice(tracker, 5, "10.0.0.2")
        assert targets(tracker.desired.take()) == ["10.0.0.2:8080"]
        await asyncio.sleep(2 * module._FAREWELL)
        assert tracker.desired.take() == []
        tracker.slices.complete(set(), 6)  # the Service stays: nothing is waited for
        assert targets(tracker.desired.take()) == []

    play(scenario)


def test_a_deleted_service_goes_when_it_stays_away() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        gone = put_service(tracker, 1)
        slice__ = put_slice(tracker, 2, "10.0.0.1")
        tracker.desired.take()
        tracker.services.gone(gone)
        tracker.slices.gone(slice__)
        put_service(tracker, 4, "other")  # with its address
        assert [change.service for change in tracker.desired.take()] == ["default/other"]
        await asyncio.sleep(2 * module._FAREWELL)
        (change,) = tracker.desired.take()
        assert (change.service, change.new.front_ends) == ("default/web", ())

    play(scenario)


def test_latency_is_measured_once_a_trigger_and_from_our_start_on() -> None:
    async def scenario(tracker: ClusterTracker) -> None:
        for version, stamp in enumerate([now(), "2001-01-01T00:00:00Z", "nonsense", *[now()] * 2], 1):
            obj = slice_("web", V4, [])
            obj.metadata.annotations[TRIGGER_TIME] = stamp
            versioned(obj, version)
            tracker._started = 1e9
            tracker.slices.put(obj)
            tracker.slices._complete({obj.key}, str(version))  # what was there before is nobody's change
        assert len(tracker._triggers[V4]) == 1
        tracker.programmed(V4)
        assert 'network_programming_duration_seconds_count{ip_family="IPv4"} 1' in tracker._metrics.text()

    play(scenario)
