"""What a probe of a container costs the node agent.

Claim: less than half a millisecond of CPU for an HTTP probe, so that a full node (110 pods, two probes each, every
ten seconds) spends about one hundredth of a core on them. Needs nothing but loopback. Prints a line a measurement
and, with `--json FILE`, writes the figures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from twinstack.api.core import Container
from twinstack.node.probes.actions import Subject, perform
from twinstack.node.probes.state import ProbeSpec
from twinstack.node.runtime.base import ContainerKey, Session, StartError

ADDRESSES = ("127.0.0.1", "::1")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class NoPrograms:
    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Session:
        raise StartError("no container runs")


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            if connection.recv(4096):
                connection.sendall(ANSWER)


async def measure(handler: dict[str, Any], address: str, count: int) -> float:
    """Milliseconds of this process's CPU for one probe."""
    spec = ProbeSpec(handler)
    subject = Subject(ContainerKey("uid", "c", 0), Container(name="c"), address)
    await perform(spec, subject, NoPrograms())
    begin = time.process_time()
    for _ in range(count):
        result = await perform(spec, subject, NoPrograms())
        assert result.success, result
    return (time.process_time() - begin) / count * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096) as listener:
        server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
        server.start()
        port = listener.getsockname()[1]
        try:
            for address, name in zip(ADDRESSES, ("ipv4", "ipv6"), strict=True):
                for kind, handler in (("http", {"httpGet": {"port": port}}), ("tcp", {"tcpSocket": {"port": port}})):
                    figures[f"{kind}_{name}_cpu_ms"] = uvloop.run(measure(handler, address, args.count))
        finally:
            server.terminate()
            server.join()
    print("   ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
