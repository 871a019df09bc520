"""A process under load: what it has used so far."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.server_process import Server

RESULTS = Path(__file__).parents[1] / "results"


class Measured:
    """A running process that serves TLS on a port of loopback."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def cpu(self) -> float:
        """Seconds of user and system time of all its threads."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> float:
        """Resident KiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


@contextmanager
def api_server(directory: Path, *flags: str) -> Iterator[Measured]:
    """`twinstack server`, ready, with its state in `directory`."""
    server = Server(directory, "--advertise-address", "192.0.2.1", *flags)
    with server.running() as process:
        yield Measured(process.pid, server.port)


def write_results(name: str, figures: dict[str, Any]) -> None:
    """As bench/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
