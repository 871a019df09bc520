"""The clock of probes, with programs that only count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.unit.node.building import pod

from twinstack.api.core import ContainerStatus, Pod
from twinstack.api.meta import Object
from twinstack.node.probes.prober import CONCURRENT_EXECS, RETRIES, Prober
from twinstack.node.probes.state import Health, ProbeKind
from twinstack.node.runtime.base import Container, ContainerKey, Phase, StartError

UID = "uid"


class Program:
    """A Session of a program that ends after a while."""

    def __init__(self, runtime: Programs) -> None:
        self._runtime = runtime

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        await asyncio.sleep(self._runtime.takes)
        yield 1, b"said"

    async def exit_code(self) -> int:
        return self._runtime.code

    async def close(self) -> None:
        self._runtime.running -= 1

    async def write(self, data: bytes) -> None: ...

    async def end_input(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...


class Programs:
    """Runs programs, and notes how many at once."""

    def __init__(self, code: int = 0, takes: float = 0.0) -> None:
        self.code = code
        self.takes = takes
        self.running = self.most = self.count = 0

    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Program:
        self.count += 1
        if self.code < 0:
            raise StartError("container c does not run")
        self.running += 1
        self.most = max(self.most, self.running)
        return Program(self)


class Bench:
    def __init__(self, runtime: Programs) -> None:
        self.runtime = runtime
        self.events: list[tuple[str, str, str]] = []
        self.changes: list[str] = []
        self.prober = Prober(runtime, self, self.changes.append)

    def event(self, obj: Object, type: str, reason: str, message: str, field_path: str = "") -> None:  # noqa: A002
        self.events.append((reason, field_path, message))

    def follow(self, count: int = 1, *, ago: float = 0.0, **probes: Any) -> list[ContainerKey]:
        of = pod(*(f"c{n}" for n in range(count)))
        keys = []
        for container in of.spec.containers:
            for name, probe in probes.items():
                setattr(container, name, {"exec": {"command": ["true"]}, "periodSeconds": 1} | probe)
            key = ContainerKey(UID, container.name, 0)
            run = Container(key, Phase.RUNNING, "", "", 0.0, started_at=time.time() - ago)
            self.prober.follow(of, container, run, "127.0.0.1")
            keys.append(key)
        return keys


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_programs_run_a_few_at_a_time() -> None:
    async def main() -> None:
        bench = Bench(Programs(takes=0.02))
        keys = bench.follow(20, readiness_probe={})
        await until(lambda: all(bench.prober.health(key).ready for key in keys))
        assert bench.runtime.most == CONCURRENT_EXECS
        assert len(bench.changes) == 20
        bench.prober.close()

    asyncio.run(main())


def test_a_container_without_probes_is_healthy_and_costs_nothing() -> None:
    async def main() -> None:
        bench = Bench(Programs())
        (key,) = bench.follow()
        await asyncio.sleep(0.05)
        assert bench.prober.health(key) == Health()
        assert bench.runtime.count == 0
        bench.prober.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [ProbeKind.STARTUP, ProbeKind.LIVENESS])
def test_a_failure_is_told_once_and_ends_the_probing(kind: ProbeKind) -> None:
    async def main() -> None:
        bench = Bench(Programs(code=1))
        probe: dict[str, Any] = {f"{kind.lower()}_probe": {"failureThreshold": 1}}
        (key,) = bench.follow(ago=0.9, **probe)
        await until(lambda: bench.prober.health(key).failed is kind)
        count = bench.runtime.count
        await asyncio.sleep(1.2)
        assert bench.runtime.count == count
        assert bench.changes == [UID]
        assert bench.events == [("Unhealthy", "spec.containers{c0}", f"{kind} probe failed: said")]
        bench.prober.close()

    asyncio.run(main())


def test_a_probe_that_goes_wrong_is_repeated_and_says_nothing_of_the_container() -> None:
    async def main() -> None:
        bench = Bench(Programs(code=-1))
        (key,) = bench.follow(ago=0.9, liveness_probe={"failureThreshold": 1})
        await until(lambda: bool(bench.events))
        assert bench.runtime.count == RETRIES
        assert bench.prober.health(key).failed is None
        text = "Liveness probe errored and resulted in unknown state: container c does not run"
        assert bench.events == [("Unhealthy", "spec.containers{c0}", text)]
        bench.prober.close()

    asyncio.run(main())


def test_a_forgotten_run_is_probed_no_more() -> None:
    async def main() -> None:
        bench = Bench(Programs(takes=10))
        (key,) = bench.follow(readiness_probe={"timeoutSeconds": 20})
        await until(lambda: bench.runtime.running == 1)
        bench.prober.forget(key)
        bench.prober.forget(key)
        await until(lambda: bench.runtime.running == 0)  # the program goes, too
        assert bench.prober.health(key) == Health()
        assert bench.changes == []

    asyncio.run(main())


def test_what_the_status_says_of_this_run_is_known() -> None:
    async def main() -> None:
        bench = Bench(Programs(code=1))
        of = pod("c")
        of.spec.containers[0].readiness_probe = {"exec": {"command": ["true"]}}
        key = ContainerKey(UID, "c", 0)
        run = Container(key, Phase.RUNNING, "", "", 0.0, started_at=time.time() - 5)
        of.status.container_statuses = [
            ContainerStatus(name="c", ready=True, started=True, container_id=f"twinstack://{key.id}")
        ]
        bench.prober.follow(of, of.spec.containers[0], run, "")
        assert bench.prober.health(key) == Health(True, True)
        other = run._replace(key=key._replace(attempt=1))
        bench.prober.follow(of, of.spec.containers[0], other, "")
        assert bench.prober.health(other.key) == Health(True, False)
        bench.prober.close()

    asyncio.run(main())


def test_deletion_ends_all_but_readiness() -> None:
    async def main() -> None:
        bench = Bench(Programs(code=1))
        of: Pod = pod("c")
        of.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
        of.spec.containers[0].liveness_probe = {
            "exec": {"command": ["true"]},
            "failureThreshold": 1,
            "periodSeconds": 1,
        }
        key = ContainerKey(UID, "c", 0)
        run = Container(key, Phase.RUNNING, "", "", 0.0, started_at=time.time() - 0.9)
        bench.prober.follow(of, of.spec.containers[0], run, "")
        await asyncio.sleep(0.3)
        assert bench.runtime.count == 0
        bench.prober.close()

    asyncio.run(main())
