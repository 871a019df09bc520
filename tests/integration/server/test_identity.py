"""The Lease of a server: made once, left alone while it is fresh, taken over by the next run on the same host."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.api_client import Api, served

from twinstack.server.identity import Identity

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


def test_a_server_tells_that_it_lives(tmp_path: Path) -> None:
    async def run(api: Api) -> None:
        first = Identity(api.registry, "vm")
        await first.ensure()
        lease = (await api.call("GET", f"{LEASES}/{first.name}")).body
        assert first.name == "apiserver-wlv32tlttr4jl3gtroqexyxapa"
        assert lease["metadata"]["labels"] == {
            "apiserver.kubernetes.io/identity": "kube-apiserver",
            "kubernetes.io/hostname": "vm",
        }
        assert lease["spec"]["holderIdentity"] == first.holder
        assert lease["spec"]["leaseDurationSeconds"] == 3600
        await first.ensure()
        assert (await api.call("GET", f"{LEASES}/{first.name}")).body == lease
        second = Identity(api.registry, "vm")
        await second.ensure()
        held = (await api.call("GET", f"{LEASES}/{first.name}")).body["spec"]["holderIdentity"]
        assert held == second.holder != first.holder

    async def main() -> None:
        async with served(tmp_path / "db") as api:
            await run(api)

    asyncio.run(main())
