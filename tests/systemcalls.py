"""What a process asks of the kernel, in order: traced with strace, read back as values."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CALLS = "network,read,write,readv,writev,pwrite64,fsync,fdatasync"
_SHOWN = 9000  # bytes of each buffer: a page of the log and more

_descriptor = r"\d+<((?:TCP:\[[^]]*\]|[^>]*))>"
_whole = re.compile(rf"(\d+) +(\w+)\({_descriptor}(.*)\) += (-?\d+)(?: .*)?$")
_begun = re.compile(rf"(\d+) +(\w+)\({_descriptor}(.*) <unfinished \.\.\.>$")
_resumed = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)(?: .*)?$")


class Call(NamedTuple):
    """One finished call on a descriptor. Times are line numbers of the trace: what is before happened before."""

    name: str
    file: str  # a path, or `TCP:[1.2.3.4:5->6.7.8.9:10]`
    data: str
    result: int
    begun: int
    ended: int


def command(output: Path) -> list[str]:
    """What to put before a command. The tracer is a child of its own, so the process is the one that was started."""
    return ["strace", "-D", "-f", "-yy", "-s", str(_SHOWN), "-e", f"trace={CALLS}", "-o", str(output)]


def tracing_works() -> bool:
    """Whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


def finished(output: Path) -> list[str]:
    """The lines of a trace, once its process has ended."""
    for _ in range(500):
        lines = output.read_text().splitlines()
        if lines and "+++ " in lines[-1]:
            return lines
        time.sleep(0.02)
    raise AssertionError(f"the trace does not end: {lines[-1:]}")


def read(lines: Iterable[str]) -> Iterator[Call]:
    """Calls in the order in which they ended."""
    open_calls: dict[str, tuple[str, str, str, int]] = {}  # thread -> name, file, data so far, line
    for number, line in enumerate(lines):
        if whole := _whole.match(line):
            _, name, file, data, result = whole.groups()
            yield Call(name, file, data, int(result), number, number)
        elif begun := _begun.match(line):
            thread, name, file, data = begun.groups()
            open_calls[thread] = (name, file, data, number)
        elif (resumed := _resumed.match(line)) and resumed[1] in open_calls:
            name, file, data, start = open_calls.pop(resumed[1])
            yield Call(name, file, data + resumed[3], int(resumed[4]), start, number)


class Trace:
    """The calls that durability is made of: on one log file, and on connections told by their peer's port."""

    def __init__(self, lines: Iterable[str], log: str) -> None:
        calls = list(read(lines))
        on_log = [call for call in calls if call.file == log and call.result >= 0]
        self.writes = [call for call in on_log if call.name == "pwrite64"]
        self.syncs = [call for call in on_log if call.name in ("fsync", "fdatasync")]
        self._sockets = [call for call in calls if call.file.startswith("TCP:") and call.result > 0]

    def exchanges(self, port: int) -> list[tuple[int, int]]:
        """Of a connection that asks one thing at a time: when each request had come, when its answer began to go."""
        found: list[tuple[int, int]] = []
        asked: int | None = None
        for call in self._sockets:
            if not call.file.endswith(f":{port}]"):
                continue
            if call.name in ("read", "readv", "recvfrom", "recvmsg"):
                asked = call.ended
            elif asked is not None:
                found.append((asked, call.begun))
                asked = None
        return found

    def is_durable(self, text: str, exchange: tuple[int, int]) -> bool:
        """Whether between request and answer `text` was written to the log and then a sync began and ended."""
        asked, answered = exchange
        written = (call.ended for call in self.writes if call.begun > asked and text in call.data)
        first = min(written, default=answered)
        return any(first < call.begun and call.ended < answered for call in self.syncs)
