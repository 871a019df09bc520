"""The supervisor with real, small processes: starts, restarts with back-off, adopts, reaps, stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twinstack.cluster import watcher
from twinstack.cluster.state import ClusterPaths
from twinstack.cluster.supervisor import SETTLED_AFTER
from twinstack.cluster.watcher import PartReport
from twinstack.linux import processes

SUPERVISOR = """
import json
import sys
from pathlib import Path
from twinstack.cluster.parts import Part
from twinstack.cluster.state import ClusterPaths
from twinstack.cluster.supervisor import SETTLED_AFTER
from twinstack.cluster.supervise import _adopt_orphans
from twinstack.cluster.supervisor import Supervisor
paths = ClusterPaths(sys.argv[1], Path(sys.argv[2]))
_adopt_orphans()
def load():
    pairs = json.loads(paths.configuration.read_text())
    return [Part(name, ("-c", script)) for name, script in pairs.items()]
Supervisor(load, program=("/bin/sh",), records=paths.processes, logs=paths.logs, address=paths.supervisor).run()
"""
SLEEPER = "echo hello; exec sleep 300"


class Watched:
    """A supervisor process over shell scripts."""

    def __init__(self, paths: ClusterPaths, scripts: dict[str, str]) -> None:
        self.paths = paths
        self.configure(scripts)
        self.process = self._spawn()

    def configure(self, scripts: dict[str, str]) -> None:
        self.paths.configuration.write_text(json.dumps(scripts))

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SUPERVISOR, self.paths.name, str(self.paths.root)])

    def restart(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self._spawn()

    def parts(self) -> dict[str, PartReport]:
        return {part.name: part for part in watcher.parts_running(self.paths) or ()}

    def until(self, condition: Callable[[dict[str, PartReport]], bool], seconds: float = 60) -> dict[str, PartReport]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            parts = self.parts()
            if parts and condition(parts):
                return parts
            time.sleep(0.01)
        raise AssertionError(f"it stays at {self.parts()}")

    def logged(self, name: str, text: str) -> None:
        """Wait until a part has said this, and nothing else; it runs before it says anything."""
        deadline = time.monotonic() + 60
        while (found := (self.paths.logs / f"{name}.log").read_text()) != text:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Watched]]:
    paths = ClusterPaths(f"tt-h-{os.getpid()}", tmp_path)
    for directory in (paths.run, paths.logs, paths.processes):
        directory.mkdir(parents=True)
    made: list[Watched] = []

    def make(scripts: dict[str, str]) -> Watched:
        made.append(Watched(paths, scripts))
        return made[0]

    yield make
    for one in made:
        pids = [part.pid for part in one.parts().values() if part.pid]
        watcher.stop(paths)
        one.process.wait(60)
        assert not [pid for pid in pids if processes.identify(pid)]
        assert not paths.supervisor.exists()
    paths.run.rmdir()


def running(*names: str) -> Callable[[dict[str, PartReport]], bool]:
    return lambda parts: all(parts[name].state == "running" for name in names)


def test_parts_run_log_and_come_back(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER, "node-1": SLEEPER})
    parts = one.until(running("server", "node-1"))
    old = parts["node-1"].pid
    assert old is not None
    one.logged("node-1", "hello\n")
    os.kill(old, signal.SIGKILL)
    parts = one.until(lambda p: p["node-1"].state == "running" and p["node-1"].pid != old)
    assert parts["node-1"].restarts == 1
    assert parts["node-1"].last_exit == "killed by SIGKILL"
    assert parts["server"].restarts == 0
    one.logged("node-1", "hello\nhello\n")


def test_a_part_that_keeps_dying_is_started_ever_more_slowly(watched: Callable[[dict[str, str]], Watched]) -> None:
    begun = time.monotonic()
    one = watched({"server": SLEEPER, "broken": "exit 7"})
    parts = one.until(lambda p: p["broken"].restarts >= 4)
    assert parts["broken"].last_exit == "exit code 7"
    assert time.monotonic() - begun > 0.4  # the pauses before
    assert one.parts()["server"].state == "running"


def test_parts_outlive_their_supervisor_and_are_adopted(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER, "node-1": SLEEPER})
    before = {name: part.pid for name, part in one.until(running("server", "node-1")).items()}
    one.restart()
    parts = one.until(running("server", "node-1"))
    assert {name: part.pid for name, part in parts.items()} == before
    assert all(part.restarts == 0 for part in parts.values())
    adopted = before["server"]
    assert adopted is not None
    os.kill(adopted, signal.SIGKILL)
    parts = one.until(lambda p: p["server"].state == "running" and p["server"].pid != adopted)
    assert parts["server"].last_exit == "unknown"


def test_a_reload_changes_parts_one_by_one(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER, "node-1": SLEEPER, "node-2": SLEEPER, "gone": SLEEPER})
    before = one.until(running("server", "node-1", "node-2", "gone"))
    other = "trap 'exit 0' TERM; sleep 301 & wait"
    one.configure({"server": other, "node-1": SLEEPER, "node-2": "trap '' TERM; " + other, "new": SLEEPER})
    started = time.monotonic()
    assert watcher.reload(one.paths)
    assert one.parts()["new"].state == "waiting"  # its turn comes after those that are before it
    assert (watcher.changing(one.paths) or [])[:3] == ["server", "node-2", "new"]
    parts = one.until(lambda p: "new" in p and p["new"].state == "running" and watcher.changing(one.paths) == [])
    assert time.monotonic() - started > 2 * SETTLED_AFTER
    assert list(parts) == ["server", "node-1", "node-2", "new"]
    assert parts["node-1"].pid == before["node-1"].pid
    assert parts["server"].pid != before["server"].pid
    assert parts["server"].since + SETTLED_AFTER <= parts["node-2"].since <= parts["new"].since
    assert all(part.restarts == 0 for part in parts.values())
    assert processes.identify(before["gone"].pid or 0) is None


def test_a_reload_stops_at_a_part_that_does_not_stay_up(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER, "node-1": SLEEPER})
    before = one.until(running("server", "node-1"))
    one.configure({"server": "exit 3", "node-1": SLEEPER + " # changed"})
    assert watcher.reload(one.paths)
    parts = one.until(lambda p: p["server"].restarts >= 2)
    assert parts["node-1"].pid == before["node-1"].pid
    assert watcher.changing(one.paths) == ["server", "node-1"]
    one.configure({"server": SLEEPER, "node-1": SLEEPER})
    assert watcher.reload(one.paths)
    one.until(lambda p: watcher.changing(one.paths) == [])
    assert one.parts()["node-1"].pid == before["node-1"].pid


def test_parts_that_ran_with_another_configuration_are_replaced(
    watched: Callable[[dict[str, str]], Watched],
) -> None:
    one = watched({"server": SLEEPER, "node-1": SLEEPER})
    before = one.until(running("server", "node-1"))
    one.configure({"server": SLEEPER, "node-1": SLEEPER + " # changed"})
    one.restart()
    parts = one.until(lambda p: watcher.changing(one.paths) == [])
    assert parts["server"].pid == before["server"].pid
    assert parts["node-1"].pid != before["node-1"].pid


def test_orphans_of_parts_do_not_stay_as_zombies(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER, "node-1": "(sleep 0.3 & echo $! >&2); exec sleep 300"})
    one.until(running("node-1"))
    log = one.paths.logs / "node-1.log"
    deadline = time.monotonic() + 60
    while not log.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    orphan = int(log.read_text())
    while Path(f"/proc/{orphan}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_part_that_ignores_sigterm_is_killed(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER, "stubborn": "trap '' TERM; while :; do sleep 0.1; done"})
    one.until(running("server", "stubborn"))
    assert watcher.stop(one.paths)
    one.process.wait(60)


def test_sigterm_stops_everything(watched: Callable[[dict[str, str]], Watched]) -> None:
    one = watched({"server": SLEEPER})
    pid = one.until(running("server"))["server"].pid
    one.process.terminate()
    assert one.process.wait(60) == 0
    assert pid is not None
    assert processes.identify(pid) is None
    assert watcher.parts_running(one.paths) is None
    assert not watcher.stop(one.paths)
