"""`pods/eviction` on a real store, as kubectl drain asks for it; and what the server makes for itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.api_client import CONFIG, MERGE, Api, served

from twinstack.ip import Address
from twinstack.server import kubernetes_service, priority_classes

JSON = dict[str, Any]

PODS = "/api/v1/namespaces/default/pods"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"


async def running(api: Api, name: str) -> JSON:
    """A Pod that is bound, and so is given its grace."""
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}
    made = await api.call("POST", PODS, {"metadata": {"name": name}, "spec": spec})
    assert made.code == 201, made.body
    return made.body


def eviction(name: str, version: str = "policy/v1", **more: Any) -> JSON:
    return {"apiVersion": version, "kind": "Eviction", "metadata": {"name": name}} | more


@pytest.mark.parametrize("version", ["policy/v1", "policy/v1beta1"])
def test_an_evicted_pod_is_told_why(version: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await running(api, "p")
            options = {"deleteOptions": {"gracePeriodSeconds": 7}}
            answer = await api.call("POST", f"{PODS}/p/eviction", eviction("p", version, **options))
            assert (answer.code, answer.body["status"]) == (201, "Success")
            pod = (await api.call("GET", f"{PODS}/p")).body
            assert pod["metadata"]["deletionGracePeriodSeconds"] == 7
            (condition,) = [each for each in pod["status"]["conditions"] if each["type"] == "DisruptionTarget"]
            assert (condition["status"], condition["reason"]) == ("True", "EvictionByEvictionAPI")

    asyncio.run(run())


def test_a_pod_that_runs_nowhere_is_gone_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            spec = {"containers": [{"name": "c", "image": "x"}]}
            await api.call("POST", PODS, {"metadata": {"name": "p"}, "spec": spec})
            assert (await api.call("POST", f"{PODS}/p/eviction", eviction("p"))).code == 201
            assert (await api.call("GET", f"{PODS}/p")).code == 404

    asyncio.run(run())


def test_refusals_leave_the_pod_as_it_is(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            pod = await running(api, "p")
            path = f"{PODS}/p/eviction"
            assert (await api.call("POST", f"{PODS}/q/eviction", eviction("q"))).code == 404
            named = await api.call("POST", path, eviction("q"))
            assert (named.code, named.body["message"]) == (400, "name in URL does not match name in Eviction object")
            wrong = {"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}}
            assert (await api.call("POST", path, eviction("p", deleteOptions=wrong))).code == 409
            rehearsed = await api.call("POST", f"{path}?dryRun=All", eviction("p"))
            assert rehearsed.code == 201
            odd = await api.call("POST", path, eviction("p", deleteOptions={"dryRun": ["All"]}))
            assert (odd.code, "Non-matching dry-run options" in odd.body["message"]) == (400, True)
            assert (await api.call("GET", path)).code == 405
            left = (await api.call("GET", f"{PODS}/p")).body
            assert "deletionTimestamp" not in left["metadata"]
            assert left == pod

    asyncio.run(run())


def test_priority_classes_come_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await priority_classes.ensure(api.registry)
            assert (await api.call("GET", CLASSES)).names == ["system-cluster-critical", "system-node-critical"]
            assert (await api.call("DELETE", f"{CLASSES}/system-node-critical")).code == 200
            await priority_classes.ensure(api.registry)
            assert len((await api.call("GET", CLASSES)).names) == 2
            spec = {"containers": [{"name": "c", "image": "x"}], "priorityClassName": "system-node-critical"}
            made = await api.call("POST", PODS, {"metadata": {"name": "p"}, "spec": spec})
            assert (made.body["spec"]["priority"], made.body["spec"]["preemptionPolicy"]) == (
                2_000_001_000, "PreemptLowerPriority",
            )  # fmt: skip

    asyncio.run(run())


def test_the_endpoints_of_the_server_itself(tmp_path: Path) -> None:
    async def run() -> None:
        config = msgspec.structs.replace(CONFIG, advertise_addresses=(Address.parse("172.30.0.1"),))
        async with served(tmp_path / "db") as api:
            await kubernetes_service.ensure_legacy_endpoints(
                api.registry, config, kubernetes_service.own_addresses(config)
            )
            shown = (await api.call("GET", ENDPOINTS)).body
            wanted = [
                {
                    "addresses": [{"ip": "172.30.0.1"}],
                    "ports": [{"name": "https", "port": config.secure_port, "protocol": "TCP"}],
                }
            ]
            assert shown["subsets"] == wanted
            assert shown["metadata"]["labels"] == {"endpointslice.kubernetes.io/skip-mirror": "true"}
            await api.call("PATCH", ENDPOINTS, {"subsets": None}, MERGE)
            await kubernetes_service.ensure_legacy_endpoints(
                api.registry, config, kubernetes_service.own_addresses(config)
            )
            assert (await api.call("GET", ENDPOINTS)).body["subsets"] == wanted

    asyncio.run(run())
