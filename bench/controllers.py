"""EndpointSlices follow a Pod within milliseconds, and that does not grow with the Services of the cluster.

Starts `twinstack server`, `controllers` and `scheduler`; hand-made Nodes and Pod statuses stand in for kubelets.
Measured: how long a Deployment of 3 and of 200 takes until its Pods exist and are bound; the time from a Pod's
readiness patch to its slice, seen by a watch, beside no other Service and beside `--services` of them; memory and
idle CPU of each process. Prints ratios, writes JSON to bench/results/.

    .venv/bin/python -m bench.controllers [--services 1000] [--rounds 30]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from tests.integration.controllers.bed import (
    Bed,
    bed,
    connected,
    cpu_seconds,
    deployment,
    eventually,
    make_node,
    memory,
    pods_of,
    slices_of,
    turn_ready,
)

from twinstack.api.kinds import DEPLOYMENTS, ENDPOINT_SLICES, SERVICES
from twinstack.client.rest import Client

RESULTS = Path(__file__).parent / "results" / "controllers.json"


async def create_deployment(client: Client, name: str, count: int) -> tuple[float, float]:
    """Milliseconds from the request until all Pods exist, and until all are bound."""
    started = time.perf_counter()
    await client.create(DEPLOYMENTS, deployment(name, count))
    await eventually(lambda: pods_of(client, name), lambda pods: len(pods) == count, 60, 0.002)
    created = time.perf_counter()
    await eventually(lambda: pods_of(client, name), lambda pods: all(pod.spec.node_name for pod in pods), 60, 0.002)
    return (created - started) * 1e3, (time.perf_counter() - started) * 1e3


async def create_service(client: Client, name: str, app: str) -> None:
    spec = {"selector": {"app": app}, "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}
    await client.create(SERVICES, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})


async def follow(client: Client, app: str, rounds: int) -> list[float]:
    """Milliseconds from each readiness patch to the IPv6 slice that shows it."""
    pod = (await pods_of(client, app))[0]
    addresses = [entry.ip for entry in pod.status.pod_ips]
    [slice_] = [entry for entry in await slices_of(client, app) if entry.address_type == "IPv6"]
    name, version = slice_.metadata.name, slice_.metadata.resource_version
    stream = client.watch(ENDPOINT_SLICES, "default", resource_version=version, field_selector=f"metadata.name={name}")
    times = []
    for number in range(rounds):
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.02)
        started = time.perf_counter()
        await turn_ready(client, pod, *addresses, ready=bool(number % 2))
        await following
        times.append((time.perf_counter() - started) * 1e3)
    await stream.aclose()
    return times


async def measure(it: Bed, services: int, rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {"services": services}
    async with connected(it) as client:
        for number in range(4):
            await make_node(client, f"n{number}")
        await asyncio.sleep(1)
        before = {name: cpu_seconds(process.pid) for name, process in it.processes.items()}
        await asyncio.sleep(10)
        result["idle_cpu_percent"] = {
            name: round((cpu_seconds(process.pid) - before[name]) * 10, 2) for name, process in it.processes.items()
        }
        result["pss_mb"] = {name: round(memory(process.pid) / 1024, 1) for name, process in it.processes.items()}
        for name, count in (("three", 3), ("many", 200)):
            created, bound = await create_deployment(client, name, count)
            result[f"deployment_of_{count}_ms"] = {"created": round(created), "bound": round(bound)}
        await create_service(client, "three", "three")
        for number, pod in enumerate(await pods_of(client, "three"), 1):
            await turn_ready(client, pod, f"10.244.0.{number}", f"fd00:10:244::{number}")
        await eventually(lambda: slices_of(client, "three"), lambda found: len(found) == 2)
        await asyncio.sleep(0.5)
        alone = await follow(client, "three", rounds)
        for number in range(services):
            await create_service(client, f"s{number}", f"other-{number}")
        await eventually(
            lambda: client.list(ENDPOINT_SLICES, "default"), lambda listed: len(listed[0]) >= 2 * services, 60, 0.2
        )
        await asyncio.sleep(1.5)
        among = await follow(client, "three", rounds)
        result["slice_ms"] = {"alone": _summary(alone), f"among_{services}": _summary(among)}
        result["ratio"] = round(statistics.median(among) / statistics.median(alone), 2)
        result["pss_mb_loaded"] = {name: round(memory(p.pid) / 1024, 1) for name, p in it.processes.items()}
    return result


def _summary(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 1), "worst": round(max(times), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, bed(Path(directory)) as it:
        result = uvloop.run(measure(it, args.services, args.rounds))
    text = json.dumps(result, indent=2)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
