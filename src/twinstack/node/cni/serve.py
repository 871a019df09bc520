"""Run the service of the CNI plugin in the network namespace of a node, for another runtime than ours.

The executable works without it, too, but then starts an interpreter with all of the plugin for each call.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from twinstack.node.cni import service
from twinstack.node.cni.install import SOCKET

log = logging.getLogger(__name__)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", default=SOCKET, metavar="FILE", help="where the executable finds the service")


def run(args: argparse.Namespace) -> int:
    try:
        asyncio.run(_serve(Path(args.socket)))
    except OSError as error:
        log.error("%s", error)
        return 1
    Path(args.socket).unlink(missing_ok=True)
    return 0


async def _serve(path: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = service.listen(path)
    log.info("listening at %s", path)
    try:
        await stop.wait()
    finally:
        server.close()
