"""Controllers run in the test's own process, with a client of a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvloop
from tests.integration.controllers.bed import Bed, connected

from twinstack.client.rest import Client
from twinstack.controllers.context import Context, Controller, run_all


@asynccontextmanager
async def running(client: Client, *makers: Callable[[Context], Controller]) -> AsyncIterator[None]:
    context = Context(client)
    task = asyncio.create_task(run_all([maker(context) for maker in makers], context))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(server: Bed, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connected(server) as client:
            await scenario(client)

    uvloop.run(main())
