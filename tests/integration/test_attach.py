"""Attaching to containers: their output, input, terminals; those that take nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.test_runtime import IMAGE, ROOT, UID, Bench, with_bench

from twinstack.linux import namespaces
from twinstack.node.runtime.base import STDERR, STDOUT, ContainerConfig, ContainerKey, Session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-I-{os.getpid()}"
PATIENCE = 60.0  # seconds


@pytest.fixture
def network() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / f"{PREFIX}-attach"
    namespaces.create(path, lambda: None)
    yield path
    namespaces.remove(path)


async def start(
    bench: Bench, script: str, *, stdin: bool = False, once: bool = False, tty: bool = False
) -> ContainerKey:
    key = ContainerKey(UID, "c", 0)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    command = ["bash", "--norc", "-c", script] if script else ["bash", "--norc"]
    config = ContainerConfig(
        key, IMAGE, command, environment, "/", [], ROOT, "/dev/termination-log", stdin=stdin, stdin_once=once, tty=tty
    )
    await bench.runtime.create(config)
    await bench.runtime.start(key)
    return key


class Ear:
    """Hears a session to its end."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.said = {STDOUT: b"", STDERR: b""}
        self.more = asyncio.Event()
        self.task = asyncio.ensure_future(self._hear())

    async def _hear(self) -> None:
        async for stream, data in self.session.output():
            self.said[stream] += data
            self.more.set()

    async def until(self, text: bytes, stream: int = STDOUT) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.said[stream]:
                self.more.clear()
                await self.more.wait()

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.task
        await self.session.close()


async def touch(bench: Bench, key: ContainerKey, path: str) -> None:
    session = await bench.runtime.exec(key, ["touch", path])
    await session.exit_code()
    await session.close()


def log_of(bench: Bench, key: ContainerKey) -> list[str]:
    path = bench.runtime.log_path(key)
    text = path.read_bytes().decode() if path.exists() else ""
    return [line.split(" ", 3)[3] for line in text.split("\n")[:-1]]


def test_output_for_several_who_come_and_go(tmp_path: Path, network: Path) -> None:
    wait = "until [ -e /tmp/{} ]; do sleep 0.01; done;"
    script = f"echo early; {wait.format(1)} echo out; echo err >&2; {wait.format(2)} echo last; exit 3"

    async def work(bench: Bench) -> None:
        key = await start(
            bench,
            script,
        )
        while log_of(bench, key) != ["early"]:
            await asyncio.sleep(0.01)
        first, second = Ear(await bench.runtime.attach(key)), Ear(await bench.runtime.attach(key))
        await touch(bench, key, "/tmp/1")
        for ear in (first, second):
            await ear.until(b"out\n")
            await ear.until(b"err\n", STDERR)
        first.task.cancel()
        await first.session.close()
        await touch(bench, key, "/tmp/2")
        await second.end()
        await bench.runtime.wait(key)
        assert second.said == {STDOUT: b"out\nlast\n", STDERR: b"err\n"}
        assert sorted(log_of(bench, key)) == ["early", "err", "last", "out"]
        assert bench.state(key).exit_code == 3
        with pytest.raises(OSError):  # noqa: PT011 - whichever says that nobody listens
            await bench.runtime.attach(key)

    with_bench(tmp_path, network, work)


def test_input_ends_with_the_first_who_had_any(tmp_path: Path, network: Path) -> None:
    """`kubectl run -i`; whoever comes hears the line that has been begun."""

    async def work(bench: Bench) -> None:
        key = await start(bench, "echo logged; printf 'ready '; sort", stdin=True, once=True)
        while "ready " not in log_of(bench, key):
            await asyncio.sleep(0.01)
        ear = Ear(await bench.runtime.attach(key, stdin=True))
        for number in range(30000, 0, -1):
            await ear.session.write(b"%05d\n" % number)
        await ear.session.end_input()
        await ear.end()
        await bench.runtime.wait(key)
        expected = b"ready " + b"".join(b"%05d\n" % number for number in range(1, 30001))
        assert ear.said[STDOUT] == expected
        assert bench.state(key).exit_code == 0
        assert log_of(bench, key)[:3] == ["logged", "ready ", "00001"]

    with_bench(tmp_path, network, work)


def test_an_end_of_input_waits_for_room(tmp_path: Path, network: Path) -> None:
    """The container reads nothing until the way to it is full, and it must hear of the end all the same."""

    async def work(bench: Bench) -> None:
        key = await start(bench, "until test -e /tmp/go; do sleep 0.01; done; wc -c", stdin=True, once=True)
        ear = Ear(await bench.runtime.attach(key, stdin=True))
        written = 0
        for size in (1000, 1):
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(0.3):
                        await ear.session.write(b"x" * size)
                    written += size
        await ear.session.end_input()
        await touch(bench, key, "/tmp/go")
        await ear.end()
        assert ear.said[STDOUT] == b"%d\n" % written

    with_bench(tmp_path, network, work)


@pytest.mark.parametrize("once", [True, False])
def test_one_who_leaves_ends_the_input_or_not(tmp_path: Path, network: Path, once: bool) -> None:
    async def work(bench: Bench) -> None:
        key = await start(bench, "cat; echo over", stdin=True, once=once)
        silent = Ear(await bench.runtime.attach(key))
        speaker = Ear(await bench.runtime.attach(key, stdin=True))
        await speaker.session.write(b"hello\n")
        await silent.until(b"hello\n")
        speaker.task.cancel()
        await speaker.session.close()
        if once:
            await silent.end()
            assert silent.said[STDOUT] == b"hello\nover\n"
            return
        other = Ear(await bench.runtime.attach(key, stdin=True))
        await other.session.write(b"again\n")
        await silent.until(b"again\n")
        bench.runtime.kill(key, signal.SIGKILL)
        await silent.end()
        await other.end()

    with_bench(tmp_path, network, work)


def test_a_terminal_of_its_own(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await start(bench, "", stdin=True, once=True, tty=True)
        ear = Ear(await bench.runtime.attach(key, stdin=True))
        ear.session.resize(99, 31)
        await ear.session.write(b"stty size; tty; echo $TERM\n")
        await ear.until(b"31 99\r\n/dev/pts/0\r\nxterm\r\n")
        ear.task.cancel()
        await ear.session.close()  # the shell goes on
        again = Ear(await bench.runtime.attach(key, stdin=True))
        await again.session.write(b"echo back; exit 4\n")
        await again.until(b"back\r\n")
        await again.end()
        await bench.runtime.wait(key)
        assert bench.state(key).exit_code == 4
        assert "xterm\r" in log_of(bench, key)

    with_bench(tmp_path, network, work)


def test_one_who_takes_nothing_is_dropped(tmp_path: Path, network: Path) -> None:
    """The container waits for it, but not for ever; its log has everything."""

    async def work(bench: Bench) -> None:
        key = await start(
            bench, "read; head -c 1000000 /dev/zero | tr '\\0' x | fold -w 100; echo; sleep 60", stdin=True
        )
        deaf = await bench.runtime.attach(key, stdin=True)
        await deaf.write(b"\n")
        taking = deaf.output()
        await anext(taking)
        await asyncio.sleep(0.3)
        held_up = bench.runtime.log_path(key).stat().st_size
        assert held_up < 900_000
        async with asyncio.timeout(PATIENCE):
            while len(log_of(bench, key)) < 10000:
                await asyncio.sleep(0.2)
        await taking.aclose()
        await deaf.close()

    with_bench(tmp_path, network, work)


def test_no_input_and_no_terminal(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await start(bench, "readlink /proc/self/fd/0; sleep 60")
        session = await bench.runtime.attach(key, stdin=True)
        await session.write(b"nobody reads this")
        session.resize(80, 24)
        await session.end_input()
        while not log_of(bench, key):
            await asyncio.sleep(0.01)
        assert log_of(bench, key) == ["/dev/null"]
        await session.close()

    with_bench(tmp_path, network, work)
