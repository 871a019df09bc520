"""Endpoints and their mirrored slices, in both directions, against a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually, make_node, slices_of, turn_ready
from tests.integration.controllers.running import run, running

from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINTS, EVENTS, PODS, SERVICES
from twinstack.client.rest import MERGE, Client
from twinstack.controllers.endpointslicemirroring import EndpointSliceMirroringController
from twinstack.controllers.endpointslices import EndpointSliceController
from twinstack.controllers.legacyendpoints import EndpointsController

CONTROLLERS = (EndpointsController, EndpointSliceController, EndpointSliceMirroringController)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}]} | spec}


def test_endpoints_follow_the_pods_of_the_first_family(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        await make_node(client, "n1")
        async with running(client, *CONTROLLERS):
            await client.create(
                SERVICES,
                service("web", selector={"app": "web"}, ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6"]),
            )
            get = partial(client.get, ENDPOINTS, "web", "default")
            empty = await eventually(get, lambda _: True)
            assert empty.subsets == []
            assert empty.metadata.labels == {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}

            body: dict[str, Any] = {
                "metadata": {"name": "p", "namespace": "default", "labels": {"app": "web"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]},
            }
            pod = await client.create(PODS, body)
            await turn_ready(client, pod, "10.244.0.9", "fd00:10:244::9", ready=False)
            waiting = await eventually(get, lambda e: bool(e.subsets))
            assert [a.ip for a in waiting.subsets[0].not_ready_addresses] == ["fd00:10:244::9"]
            await turn_ready(client, pod, "10.244.0.9", "fd00:10:244::9")
            ready = await eventually(get, lambda e: bool(e.subsets and e.subsets[0].addresses))
            [subset] = ready.subsets
            assert [(a.ip, a.node_name) for a in subset.addresses] == [("fd00:10:244::9", "n1")]
            assert [(p.port, p.protocol) for p in subset.ports] == [(80, "TCP")]
            slices = await eventually(partial(slices_of, client, "web"), lambda found: len(found) == 2)
            assert {s.metadata.labels["endpointslice.kubernetes.io/managed-by"] for s in slices} == {
                "endpointslice-controller.k8s.io"
            }, "what we write of Pods is not mirrored"

            # Somebody meddles: it is mended.
            await client.patch(ENDPOINTS, "web", "default", {"subsets": None}, content_type=MERGE)
            await eventually(get, lambda e: bool(e.subsets and e.subsets[0].addresses))
            await client.delete(ENDPOINTS, "web", "default")
            await eventually(get, lambda e: bool(e.subsets and e.subsets[0].addresses))

            await client.delete(SERVICES, "web", "default")
            await eventually(partial(gone, client, "web"), bool)

    run(server, scenario)


async def gone(client: Client, name: str) -> bool:
    try:
        await client.get(ENDPOINTS, name, "default")
    except StatusError as error:
        return error.code == 404
    return False


def test_endpoints_of_a_service_that_went_meanwhile_go_at_start(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        for name, notes in (("left", {}), ("lock", {"control-plane.alpha.kubernetes.io/leader": "{}"})):
            await client.create(ENDPOINTS, {"metadata": {"name": name, "namespace": "default", "annotations": notes}})
        async with running(client, EndpointsController):
            await eventually(partial(gone, client, "left"), bool)
            assert not await gone(client, "lock")
            await client.create(ENDPOINTS, {"metadata": {"name": "early", "namespace": "default"}})
            await client.create(SERVICES, service("later", selector={"app": "later"}))
            await eventually(partial(client.get, ENDPOINTS, "later", "default"), lambda _: True)
            assert not await gone(client, "early"), "what comes before its Service stays"

    run(server, scenario)


def test_what_people_write_is_mirrored_for_both_families(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, *CONTROLLERS):
            await client.create(SERVICES, service("db"))
            subsets = [
                {
                    "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                    "notReadyAddresses": [{"ip": "192.0.2.2"}],
                    "ports": [{"name": "sql", "port": 5432}],
                }
            ]
            metadata = {"name": "db", "namespace": "default", "labels": {"tier": "data"}}
            await client.create(ENDPOINTS, {"metadata": metadata, "subsets": subsets})
            slices = await eventually(partial(slices_of, client, "db"), lambda found: len(found) == 2)
            found = {s.address_type: [(e.addresses, e.conditions.ready) for e in s.endpoints or []] for s in slices}
            assert found == {
                "IPv4": [(["192.0.2.1"], True), (["192.0.2.2"], False)],
                "IPv6": [(["2001:db8::1"], True)],
            }
            for slice_ in slices:
                assert slice_.metadata.labels["tier"] == "data"
                assert slice_.metadata.owner_references[0].kind == "Endpoints"

            change = {"subsets": [{"addresses": [{"ip": "2001:db8::2"}], "ports": [{"name": "sql", "port": 5432}]}]}
            await client.patch(ENDPOINTS, "db", "default", change, content_type=MERGE)
            [slice_] = await eventually(partial(slices_of, client, "db"), lambda found: len(found) == 1)
            assert [e.addresses for e in slice_.endpoints or []] == [["2001:db8::2"]]
            await client.patch(
                ENDPOINTS,
                "db",
                "default",
                {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}},
            )
            await eventually(partial(slices_of, client, "db"), lambda found: not found)

    run(server, scenario)


def test_too_many_addresses_are_told(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, lambda context: EndpointSliceMirroringController(context, per_subset=2)):
            await client.create(SERVICES, service("big"))
            subset = {"addresses": [{"ip": f"192.0.2.{n}"} for n in range(1, 6)], "ports": [{"port": 1}]}
            await client.create(ENDPOINTS, {"metadata": {"name": "big", "namespace": "default"}, "subsets": [subset]})
            [slice_] = await eventually(partial(slices_of, client, "big"), lambda found: len(found) == 1)
            assert len(slice_.endpoints or []) == 2
            selector = "reason=TooManyAddressesToMirror"
            events, _ = await eventually(
                lambda: client.list(EVENTS, "default", field_selector=selector), lambda found: bool(found[0])
            )
            assert events[0].message == (
                "A max of 2 addresses can be mirrored to EndpointSlices per Endpoints subset. 3 addresses were skipped"
            )

    run(server, scenario)
