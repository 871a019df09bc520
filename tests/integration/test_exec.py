"""Further programs in a container: what they see, their streams and terminals, their end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.test_runtime import CHOICE, Bench, with_bench

from twinstack.linux import capabilities, namespaces
from twinstack.node.runtime.base import STDERR, STDOUT, ContainerKey, Security, Session, StartError
from twinstack.node.runtime.records import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-I-{os.getpid()}"


@pytest.fixture
def network() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / f"{PREFIX}-net"
    namespaces.create(path, lambda: None)
    yield path
    namespaces.remove(path)


async def collect(session: Session) -> dict[int, str]:
    """All output by stream; the session is closed then."""
    texts = {STDOUT: b"", STDERR: b""}
    try:
        async for stream, data in session.output():
            texts[stream] += data
        await session.exit_code()
    finally:
        await session.close()
    return {stream: text.decode() for stream, text in texts.items()}


async def run(bench: Bench, key: ContainerKey, script: str, *, tty: bool = False) -> tuple[int, str, str]:
    session = await bench.runtime.exec(key, ["sh", "-c", script], tty=tty)
    texts = await collect(session)
    return await session.exit_code(), texts[STDOUT], texts[STDERR]


def processes_of(mark: str) -> list[int]:
    """Who on this machine, zombies included, has `mark` among its words."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if mark.encode() in words:
            found.append(int(pid))
    return found


async def gone(mark: str) -> bool:
    for _ in range(6000):
        if not processes_of(mark):
            return True
        await asyncio.sleep(0.01)
    return False


def test_what_a_program_sees(tmp_path: Path, network: Path) -> None:
    spaces = " ".join(f"/proc/self/ns/{kind}" for kind in ("mnt", "pid", "uts", "ipc", "net"))
    script = (
        f"readlink {spaces}; pwd; hostname; echo $GREETING $HOME; grep -E 'Cap(Prm|Bnd)|NoNewPrivs' /proc/self/status"
    )

    async def work(bench: Bench) -> None:
        key = await bench.start("c", f"{script}; touch /srv/mine; sleep 60", directory="/srv")
        log = bench.runtime.log_path(key)
        while not log.exists() or log.read_text().count("\n") < 11:
            await asyncio.sleep(0.01)
        own = [line.split(" ", 3)[3] for line in log.read_text().splitlines()]
        code, out, err = await run(bench, key, f"{script}; ls /srv; echo oops >&2; exit 3")
        assert (code, out.splitlines()[:11], err) == (3, own, "oops\n")
        assert out.splitlines()[11:] == ["mine"]
        assert out.splitlines()[7] == "hello /root"
        assert (await run(bench, key, "test -t 0 || test -t 1 || echo plain; echo ${TERM:-none}"))[1] == "plain\nnone\n"

    with_bench(tmp_path, network, work)


def test_rights_are_the_containers(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        user = Security(user=1234, group=1235, groups=(1236,), capabilities=capabilities.DEFAULT)
        key = await bench.start("c", "sleep 60", user)
        code, out, _ = await run(
            bench, key, "id -u; id -g; id -G; grep CapEff /proc/self/status | cut -f2; tty", tty=True
        )
        assert out.split("\r\n") == ["1234", "1235", "1235 1236", "0" * 16, "/dev/pts/0", ""]
        assert code == 0

    with_bench(tmp_path, network, work)


def test_input_and_its_end(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        session = await bench.runtime.exec(key, ["sha256sum"], stdin=True)
        block = bytes(range(256)) * 4096
        for _ in range(4):
            await session.write(block)  # more than a pipe holds
        await session.end_input()
        texts = await collect(session)
        assert await session.exit_code() == 0
        assert texts[STDOUT].split()[0] == hashlib.sha256(block * 4).hexdigest()
        deaf = await bench.runtime.exec(key, ["true"], stdin=True)
        await deaf.exit_code()
        await deaf.write(block)  # nobody reads it, and nothing breaks
        await deaf.close()

    with_bench(tmp_path, network, work)


def test_a_terminal(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        session = await bench.runtime.exec(key, ["bash", "--norc"], stdin=True, tty=True)
        said = b""

        async def until(text: bytes) -> None:
            nonlocal said
            async for _, data in session.output():
                said += data
                if text in said:
                    return

        session.resize(101, 33)
        await session.write(b"trap 'echo re''sized' WINCH; stty size; read -r _ _ _ _ _ sid tty _ </proc/$$/stat\n")
        await session.write(b"[ $sid = $$ ] && [ $tty != 0 ] && echo lea''der; echo $TERM\n")
        async with asyncio.timeout(60):
            await until(b"xterm\r\n")
            assert b"33 101\r\n" in said
            assert b"leader\r\n" in said  # of a session with a terminal
            session.resize(80, 24)
            await session.write(b"\n")
            await until(b"resized\r\n")
            await session.write(b"exit 5\n")
            await until(b"never said")
            assert await session.exit_code() == 5
        await session.close()

    with_bench(tmp_path, network, work)


@pytest.mark.parametrize("tty", [False, True])
def test_a_program_dies_with_its_session(tmp_path: Path, network: Path, tty: bool) -> None:
    mark = f"31{os.getpid()}{int(tty)}"

    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        session = await bench.runtime.exec(key, ["sh", "-c", f"sleep {mark} & sleep {mark}"], tty=tty)
        while len(processes_of(mark)) < 2:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await session.close()
        assert time.monotonic() - began < 30  # nobody waits for the program
        assert await gone(mark)
        assert processes_of(str(Layout(bench.root).container(key).path)) == [running_conmon(bench, key)]
        assert list(Layout(bench.root).container(key).sessions.iterdir()) == []

    with_bench(tmp_path, network, work)


@pytest.mark.parametrize("tty", [False, True])
def test_one_who_goes_while_a_program_begins_leaves_none(tmp_path: Path, network: Path, tty: bool) -> None:
    mark = f"33{os.getpid()}{int(tty)}"

    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 600")
        for number in range(12):
            beginning = asyncio.ensure_future(bench.runtime.exec(key, ["sleep", mark], tty=tty))
            if number % 2:
                while not processes_of(mark):  # it runs, and nobody has been told so
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(number / 500)
            beginning.cancel()
            with suppress(asyncio.CancelledError):
                await (await beginning).close()  # it was faster
            assert await gone(mark)
        assert list(Layout(bench.root).container(key).sessions.iterdir()) == []

    with_bench(tmp_path, network, work)


def running_conmon(bench: Bench, key: ContainerKey) -> int:
    running = Layout(bench.root).container(key).running()
    assert running is not None
    return running.monitor.pid


def test_a_program_that_leaves_others_behind(tmp_path: Path, network: Path) -> None:
    """Its end is the end, even if they hold its output."""
    mark = f"32{os.getpid()}"

    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        began = time.monotonic()
        assert await run(bench, key, f"sleep {mark} & echo begun") == (0, "begun\n", "")
        assert time.monotonic() - began < 30  # nor for those
        while len(processes_of(mark)) != 1:  # as with any engine
            await asyncio.sleep(0.01)

    with_bench(tmp_path, network, work)


def test_programs_end_with_their_container(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        session = await bench.runtime.exec(key, ["sleep", "60"])
        assert bench.runtime.kill(key, 9)
        assert await session.exit_code() == 137
        await session.close()
        await bench.runtime.wait(key)
        with pytest.raises(StartError, match="does not run"):
            await bench.runtime.exec(key, ["true"])

    with_bench(tmp_path, network, work)


@pytest.mark.parametrize("tty", [False, True])
def test_what_cannot_run_says_why(tmp_path: Path, network: Path, tty: bool) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        for command, of_runc, of_crun in (
            (["nosuch"], 'exec: "nosuch": executable file not found in $PATH', "`nosuch` not found in $PATH"),
            (["/etc/hostname"], 'exec: "/etc/hostname": permission denied', "open executable: Permission denied"),
            (["a\0b"], "embedded null byte", "embedded null byte"),
        ):
            with pytest.raises(StartError) as caught:
                await bench.runtime.exec(key, command, tty=tty)
            assert (of_crun if CHOICE.name == "crun" else of_runc) in str(caught.value)
        assert processes_of(str(Layout(bench.root).container(key).path)) == [running_conmon(bench, key)]
        assert list(Layout(bench.root).container(key).sessions.iterdir()) == []

    with_bench(tmp_path, network, work)


def test_many_at_once(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        before = len(os.listdir("/proc/self/fd"))
        results = await asyncio.gather(*(run(bench, key, f"echo {n}; exit {n}") for n in range(20)))
        assert results == [(n, f"{n}\n", "") for n in range(20)]
        assert len(os.listdir("/proc/self/fd")) == before

    with_bench(tmp_path, network, work)
