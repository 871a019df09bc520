"""The agent, conmon and the OCI runtime are killed at random moments: the next agent leaves nothing of theirs."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration import test_runtime as runtime_tests
from tests.integration.test_runtime import UID, Bench

from twinstack.linux import cgroups, mounts, namespaces
from twinstack.node.runtime.records import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-r-{os.getpid()}"
ROUNDS = 200 if os.environ.get("TWINSTACK_TESTS") == "soak" else 8
LONGEST = 0.45  # seconds until the kill: three containers come and go in it
VICTIMS = ("", "runc", "", "conmon")  # what is killed besides the agent

AGENT = """
import asyncio, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from tests.integration import test_runtime
test_runtime.PREFIX = {prefix!r}

async def main():
    bench = test_runtime.Bench(Path({root!r}), Path({network!r}))
    await bench.sandbox()
    print("ready", flush=True)
    for name in "abc":
        key = await bench.start(name, "sleep 60")
        session = await bench.runtime.exec(key, ["true"])
        await session.exit_code()
        await session.close()
        bench.runtime.kill(key, 9)
        await bench.runtime.wait(key)
        await bench.runtime.remove(key)
    await bench.start("stays", "sleep 60")
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def network() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / PREFIX
    namespaces.create(path, lambda: None)
    yield path
    namespaces.remove(path)


def processes_of(root: Path) -> dict[int, str]:
    """Programs that were started with a path below `root`, by their names."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError):
            words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            if f"{root}/" in words and int(pid) != os.getpid():
                found[int(pid)] = Path(words.split("\0")[0]).name
    return found


def left_of(root: Path) -> list[object]:
    layout = Layout(root)
    groups = [path for parent in layout.group_directories() for path in Path(parent).glob("*/")]
    state = list(layout.state.iterdir()) if layout.state.exists() else []
    return [*groups, *mounts.mounted(str(root)), *state, *layout.pods.iterdir(), *processes_of(root).values()]


def test_nothing_is_left_whoever_is_killed(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_tests, "PREFIX", PREFIX)
    root, chance = tmp_path / "root", random.Random(os.getpid())
    program = AGENT.format(here=str(Path(__file__).parents[2]), prefix=PREFIX, root=str(root), network=str(network))
    for number in range(ROUNDS):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, LONGEST))
            for pid, name in processes_of(root).items():
                if name == VICTIMS[number % len(VICTIMS)]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            agent.kill()

        async def main() -> None:
            bench = Bench(root, network)
            await bench.runtime.remove_sandbox(UID)
            bench.runtime.close()

        asyncio.run(main())
        until = time.monotonic() + 30
        while left_of(root) and time.monotonic() < until:
            time.sleep(0.01)  # the killed need a moment to go
        assert left_of(root) == [], f"round {number}"
    assert cgroups.remove(Layout(root).group_directories())
