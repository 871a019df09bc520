from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from twinstack.api.errors import StatusError, conflict
from twinstack.client.workqueue import WorkQueue


def run(work: Callable[[str], Awaitable[None]], scenario: Callable[[WorkQueue], Awaitable[None]], workers: int) -> None:
    async def main() -> None:
        queue = WorkQueue("test")
        task = asyncio.create_task(queue.run(work, workers=workers))
        try:
            async with asyncio.timeout(60):
                await scenario(queue)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    uvloop.run(main())


def test_a_key_is_worked_on_once_at_a_time_and_once_more_when_it_changes_meanwhile() -> None:
    running: set[str] = set()
    done: list[str] = []

    async def work(key: str) -> None:
        assert key not in running
        running.add(key)
        await asyncio.sleep(0.01)
        running.discard(key)
        done.append(key)

    async def scenario(queue: WorkQueue) -> None:
        for _ in range(3):
            queue.add("a")
            queue.add("b")
        await asyncio.sleep(0.005)
        assert running == {"a", "b"}
        for _ in range(3):
            queue.add("a")
        assert len(queue) == 1
        while len(done) < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert sorted(done) == ["a", "a", "b"]

    run(work, scenario, workers=4)


def test_workers_bound_what_runs() -> None:
    running = most = done = 0

    async def work(key: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        done += 1

    async def scenario(queue: WorkQueue) -> None:
        for number in range(20):
            queue.add(str(number))
        while done < 20:
            await asyncio.sleep(0.001)
        assert (most, len(queue)) == (3, 0)

    run(work, scenario, workers=3)


def test_delays_keep_the_earliest_and_an_immediate_add_wins() -> None:
    done: list[tuple[str, float]] = []

    async def work(key: str) -> None:
        done.append((key, asyncio.get_running_loop().time()))

    async def scenario(queue: WorkQueue) -> None:
        start = asyncio.get_running_loop().time()
        queue.add("late", delay=0.03)
        queue.add("late", delay=100)
        queue.add("now", delay=100)
        queue.add("now")
        while len(done) < 2:
            await asyncio.sleep(0.001)
        assert [key for key, _ in done] == ["now", "late"]
        assert done[1][1] - start > 0.02

    run(work, scenario, workers=1)


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (conflict("pods", "a"), logging.DEBUG),
        (StatusError(403, "Forbidden", "no"), logging.WARNING),
        (ConnectionResetError("gone"), logging.DEBUG),
        (KeyError("a fault of ours"), logging.ERROR),
    ],
)
def test_failures_are_logged_and_repeated_ever_more_slowly(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    times: list[float] = []

    async def work(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 4:
            raise error

    async def scenario(queue: WorkQueue) -> None:
        queue.add("a")
        while len(times) < 4:
            await asyncio.sleep(0.005)

    run(work, scenario, workers=1)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert [pause >= 0.9 * least for pause, least in zip(pauses, (0.01, 0.02, 0.04), strict=True)] == [True] * 3
    assert {record.levelno for record in caplog.records if record.name == "twinstack.client.workqueue"} == {level}
