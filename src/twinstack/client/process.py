"""The life of a component that is a client of the API server: its loop, its signals, its exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

import uvloop

from twinstack import __version__
from twinstack.client import kubeconfig
from twinstack.client.rest import Client

log = logging.getLogger(__name__)


class ComponentEnded(Exception):
    """Why a component cannot go on, in one line; whoever watches over the process may start it anew."""


def run_component(name: str, kubeconfig_file: str, main: Callable[[Client], Awaitable[None]]) -> int:
    """Run `main` with a client until SIGTERM or SIGINT; returns the process's exit code.

    A ValueError of `main` is a configuration that cannot work: it is logged in one line and ends with 1, like a
    ComponentEnded.
    """
    code = 0
    try:
        access = kubeconfig.load(kubeconfig_file)
        uvloop.run(_live(Client(access, user_agent=f"twinstack-{name}/{__version__}"), main))
    except* (ValueError, ComponentEnded) as group:
        for error in _leaves(group):
            log.error("%s", error)
            log.debug("raised here", exc_info=error)
        code = 1
    return code


async def _live(client: Client, main: Callable[[Client], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(main(client))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
    finally:
        await client.close()


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
