"""The life of ServiceCIDRs against a real API server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.controllers.bed import Bed, bed, eventually
from tests.integration.controllers.running import run, running

from twinstack.api.errors import StatusError
from twinstack.api.kinds import SERVICE_CIDRS, SERVICES
from twinstack.api.networking import ServiceCIDR
from twinstack.client.rest import Client
from twinstack.controllers.servicecidrs import FINALIZER, ServiceCIDRController


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with bed(tmp_path_factory.mktemp("bed"), server_only=True) as it:
        yield it


def ready(cidr: ServiceCIDR) -> tuple[str, str, str]:
    return next(((c.status, c.reason, c.message) for c in cidr.status.conditions if c.type == "Ready"), ("", "", ""))


async def make(client: Client, name: str, *cidrs: str) -> None:
    await client.create(SERVICE_CIDRS, {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}})


async def is_gone(client: Client, name: str) -> bool:
    try:
        await client.get(SERVICE_CIDRS, name)
    except StatusError as error:
        return error.code == 404
    return False


READY = ("True", "", "Kubernetes Service CIDR is ready")
BLOCKED = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)


def test_ranges_are_ready_and_stay_while_somebody_has_an_address_of_them(server: Bed) -> None:
    async def scenario(client: Client) -> None:
        async with running(client, partial(ServiceCIDRController, grace=2.0)):
            await make(client, "extra", "10.97.0.0/24", "fd00:97::/120")
            get = partial(client.get, SERVICE_CIDRS, "extra")
            for name in ("kubernetes", "extra"):
                made = await eventually(partial(client.get, SERVICE_CIDRS, name), lambda c: ready(c) == READY)
                assert made.metadata.finalizers == [FINALIZER]

            spec: dict[str, Any] = {"clusterIP": "fd00:97::7", "ipFamilies": ["IPv6"], "ports": [{"port": 80}]}
            await client.create(SERVICES, {"metadata": {"name": "holder", "namespace": "default"}, "spec": spec})
            await client.delete(SERVICE_CIDRS, "extra")
            await eventually(get, lambda c: ready(c) == BLOCKED)
            freed = time.monotonic()
            await client.delete(SERVICES, "holder", "default")
            await eventually(partial(is_gone, client, "extra"), bool)
            assert time.monotonic() - freed < 25  # it is told, and does not look now and then

            # Nothing of this one is in use, yet a server may still be allocating from it for a while.
            await make(client, "unused", "10.98.0.0/24")
            await eventually(partial(client.get, SERVICE_CIDRS, "unused"), lambda c: ready(c) == READY)
            started = time.time()
            await client.delete(SERVICE_CIDRS, "unused")
            await eventually(partial(is_gone, client, "unused"), bool)
            assert time.time() - started > 0.9  # the deletion's time is whole seconds

            # Another range that holds the same addresses sets one free that is in use.
            await client.delete(SERVICE_CIDRS, "kubernetes")
            await eventually(partial(client.get, SERVICE_CIDRS, "kubernetes"), lambda c: ready(c) == BLOCKED)
            uid = (await client.get(SERVICE_CIDRS, "kubernetes")).metadata.uid
            await make(client, "wider", "10.96.0.0/12", "fd00:10:96::/108")
            await eventually(lambda: replaced(client, uid), bool)

    run(server, scenario)


async def replaced(client: Client, uid: str) -> bool:
    """The server makes its default range again."""
    try:
        return (await client.get(SERVICE_CIDRS, "kubernetes")).metadata.uid != uid
    except StatusError as error:
        return error.code == 404
