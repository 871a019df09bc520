"""Containers from the node's root: real processes, namespaces and mounts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from twinstack.linux import capabilities, cgroups, mounts, namespaces, ociruntimes, processes
from twinstack.node.cleanup import remove_everything
from twinstack.node.images.store import ImageStore
from twinstack.node.runtime.base import (
    Container,
    ContainerConfig,
    ContainerKey,
    CreateError,
    Limits,
    Mount,
    Phase,
    Propagation,
    SandboxConfig,
    Security,
    StartError,
)
from twinstack.node.runtime.engine import Engine
from twinstack.node.runtime.oci import OCIRuntime
from twinstack.node.runtime.records import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PREFIX = f"tt-F-{os.getpid()}"
IMAGE = "twinstack.local/host"
CHOICE = ociruntimes.choose()
UID = "0b7e4b9c-0000-4000-8000-000000000001"
ETC = {"hosts": "127.0.0.1\tlocalhost\n10.244.1.2\tweb\n", "hostname": "web\n", "resolv.conf": "nameserver 192.0.2.1\n"}
ROOT = Security(capabilities=capabilities.DEFAULT)
PRIVILEGED = Security(capabilities=frozenset(capabilities.NAMES), privileged=True)
MS_SHARED = 1 << 20  # mount(2)


class Bench:
    """A runtime with one sandbox."""

    def __init__(self, root: Path, network: Path) -> None:
        self.root = root
        self.network = network
        self.ended: list[Container] = []
        self.runtime = OCIRuntime(root, CHOICE, ImageStore(root / "images", [str(root)]), group=PREFIX)
        self.runtime.open(self.ended.append)

    async def sandbox(self) -> None:
        await self.runtime.create_sandbox(SandboxConfig(UID, "default/web", "web", str(self.network), ETC))

    async def start(
        self, name: str, script: str, security: Security = ROOT, *shown: Mount, directory: str = "/"
    ) -> ContainerKey:
        return await self.start_command(name, ["sh", "-c", script], security, *shown, directory=directory)

    async def start_command(
        self, name: str, command: list[str], security: Security = ROOT, *shown: Mount, directory: str = "/"
    ) -> ContainerKey:
        key = ContainerKey(UID, name, 0)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GREETING": "hello"}
        mounts_ = list(shown)
        config = ContainerConfig(key, IMAGE, command, environment, directory, mounts_, security, "/dev/termination-log")
        await self.runtime.create(config)
        await self.runtime.start(key)
        return key

    async def output(self, script: str, security: Security = ROOT, *shown: Mount, directory: str = "/") -> list[str]:
        """Run a script to its end; its lines without times."""
        key = await self.start("once", script, security, *shown, directory=directory)
        await self.runtime.wait(key)
        lines = [line.split(" ", 3)[3] for line in self.runtime.log_path(key).read_text().splitlines()]
        await self.runtime.remove(key)
        return lines

    def state(self, key: ContainerKey) -> Container:
        return next(container for container in self.runtime.containers(UID) if container.key == key)


@pytest.fixture
def network() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / f"{PREFIX}-net"
    namespaces.create(path, lambda: None)
    yield path
    namespaces.remove(path)


@asynccontextmanager
async def opened(root: Path, network: Path) -> AsyncIterator[Bench]:
    bench = Bench(root, network)
    try:
        await bench.sandbox()
        yield bench
    finally:
        await bench.runtime.remove_sandbox(UID)
        bench.runtime.close()
        assert cgroups.members(Layout(root).group_directories()) == set()
        assert cgroups.remove(Layout(root).group_directories())
        assert mounts.mounted(str(root)) == []
        assert list(Layout(root).pods.iterdir()) == []


def with_bench(root: Path, network: Path, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(root, network) as bench:
            await work(bench)

    asyncio.run(main())


def test_output_exit_code_and_last_words(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start(
            "c", "echo $GREETING; echo bad >&2; printf half; echo why > /dev/termination-log; exit 3"
        )
        await bench.runtime.wait(key)
        lines = bench.runtime.log_path(key).read_text().splitlines()
        assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F bad", "stdout F hello", "stdout P half"]
        assert all(len(line.split(" ")[0]) == len("2026-01-31T12:00:00.000000000+00:00") for line in lines)
        state = bench.state(key)
        assert (state.phase, state.exit_code, state.reason, state.message) == (Phase.EXITED, 3, "Error", "why\n")
        assert 0 < state.created_at <= state.started_at <= state.finished_at <= time.time()
        assert bench.ended == [state]

    with_bench(tmp_path, network, work)


def test_what_a_container_sees(tmp_path: Path, network: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    number = network.stat().st_ino

    async def work(bench: Bench) -> None:
        assert await bench.output("hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf") == [
            "web",
            "web",
            *ETC["hosts"].splitlines(),
            *ETC["resolv.conf"].splitlines(),
        ]
        assert await bench.output("ls -A /root /home /work /tmp /run 2>/dev/null | grep -v : | grep .") == []
        assert await bench.output(f"cat {secret} {tmp_path}/pods/*/sandbox 2>&1 | grep -c 'No such'") == ["2"]
        assert await bench.output("ls /sys/class/net") == ["lo"]
        inside = await bench.output("echo $$; readlink /proc/self/ns/net")
        assert inside == ["1", f"net:[{number}]"]

    with_bench(tmp_path, network, work)


def test_rights(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        bits = sum(1 << number for number in capabilities.numbers(capabilities.DEFAULT))
        status = await bench.output("grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status | cut -f2")
        assert status == [f"{bits:016x}"] * 3 + ["0"]
        assert await bench.output(
            "mknod /tmp/disk b 254 0; cat /tmp/disk 2>&1 >/dev/null | grep -o 'Permission denied'"
        ) == ["Permission denied"]
        for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/panic", "/sys/kernel/mm/ksm/run"):
            assert (await bench.output(f"echo 0 > {path} && echo written"))[-1:] != ["written"]
        assert (await bench.output("mount -t tmpfs none /mnt && echo mounted"))[-1:] != ["mounted"]
        user = Security(user=1234, group=1235, groups=(1236,), capabilities=capabilities.DEFAULT)
        assert await bench.output("id -u; id -g; id -G; grep CapEff /proc/self/status | cut -f2", user) == [
            "1234",
            "1235",
            "1235 1236",
            "0" * 16,
        ]
        fixed = ROOT._replace(read_only_root=True)
        assert (await bench.output("exec 2>&1; touch /usr/x /tmp/y && echo both || ls /tmp", fixed))[-1] == "y"
        assert await bench.output("mount -t tmpfs none /mnt && echo mounted", PRIVILEGED) == ["mounted"]

    with_bench(tmp_path, network, work)


def test_writes_stay_in_the_container(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        mark = f"/usr/{PREFIX}"
        assert await bench.output(f"echo 1 > {mark}; cat {mark}") == ["1"]
        assert not os.path.lexists(mark)  # noqa: ASYNC240 - a moment
        assert await bench.output(f"ls {mark} 2>&1 | grep -c 'No such'") == ["1"]
        assert await bench.output("pwd", directory="/srv/new") == ["/srv/new"]
        assert not os.path.lexists("/srv/new")  # noqa: ASYNC240 - a moment

    with_bench(tmp_path, network, work)


def test_containers_of_a_pod_share(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        volume = bench.runtime.volumes_directory(UID) / "data"
        volume.mkdir(parents=True)
        shown = Mount(str(volume), "/var/run/data")  # /var/run is a link to /run in many systems
        fixed = Mount(str(volume), "/fixed", read_only=True)
        script = "readlink /proc/self/ns/ipc /proc/self/ns/uts; echo 1 > /dev/shm/s; echo 2 > /var/run/data/v; sleep 60"
        key = await bench.start("first", script, ROOT, shown)
        for _ in range(6000):
            if (volume / "v").exists():
                break
            await asyncio.sleep(0.01)
        lines = await bench.output(
            "readlink /proc/self/ns/ipc /proc/self/ns/uts; cat /dev/shm/s /fixed/v; "
            "touch /fixed/no 2>/dev/null || echo fixed",
            ROOT,
            fixed,
        )
        first = [line.split(" ", 3)[3] for line in bench.runtime.log_path(key).read_text().splitlines()]
        assert lines == [*first, "1", "2", "fixed"]

    with_bench(tmp_path, network, work)


@pytest.mark.parametrize(
    ("command", "of_runc", "of_crun"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH', "`nosuch` not found in $PATH"),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory', "`/no/such` not found in $PATH"),
        (["/etc/hostname"], 'exec: "/etc/hostname": permission denied', "open executable: Permission denied"),
    ],
)
def test_what_cannot_run_says_why(
    tmp_path: Path, network: Path, command: list[str], of_runc: str, of_crun: str
) -> None:
    async def work(bench: Bench) -> None:
        with pytest.raises(StartError) as caught:
            await bench.start_command("c", command)
        said = str(caught.value)
        assert (of_crun if CHOICE.name == "crun" else of_runc) in said
        state = bench.state(ContainerKey(UID, "c", 0))
        assert (state.phase, state.exit_code, state.reason, state.message) == (Phase.EXITED, 128, "StartError", said)

    with_bench(tmp_path, network, work)


def test_signals(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        polite = await bench.start("polite", "trap 'exit 7' TERM; echo ready; sleep 60 & wait")
        deaf = await bench.start("deaf", "sleep 60 & sleep 60")
        while "ready" not in bench.runtime.log_path(polite).read_text():
            await asyncio.sleep(0.01)
        for key in (polite, deaf):
            assert bench.runtime.kill(key, signal.SIGTERM)
        await bench.runtime.wait(polite)
        assert bench.state(polite).exit_code == 7
        assert bench.state(deaf).phase is Phase.RUNNING  # the first process of a PID namespace may ignore it
        bench.runtime.kill(deaf, signal.SIGKILL)
        await bench.runtime.wait(deaf)
        assert bench.state(deaf).exit_code == 137
        assert not bench.runtime.kill(deaf, signal.SIGKILL)

    with_bench(tmp_path, network, work)


def test_processes_of_a_pod_are_counted_together(tmp_path: Path, network: Path) -> None:
    group = Path(cgroups.place(PREFIX).by_controller["pids"], f"pod{UID}")

    async def work(bench: Bench) -> None:
        await bench.runtime.stop_sandbox(UID)
        assert not group.exists()  # noqa: ASYNC240 - a moment
        config = SandboxConfig(UID, "default/web", "web", str(network), ETC, limits=Limits(pids=100))
        await bench.runtime.create_sandbox(config)
        assert (group / "pids.max").read_text() == "100\n"
        await bench.runtime.update_sandbox(UID, Limits(pids=101))
        assert (group / "pids.max").read_text() == "101\n"
        first = await bench.start("first", "for i in $(seq 60); do sleep 60 & done; echo all; wait")
        while not says(bench.runtime.log_path(first), "all"):
            await asyncio.sleep(0.01)
        many = "for i in $(seq 80); do sleep 60 & done 2>&1; echo all"
        assert "all" not in await bench.output(many)

    with_bench(tmp_path, network, work)
    assert not group.exists()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory whose mounts reach others, with one in it, `below`."""
    path = tmp_path / "shared"
    path.mkdir()
    mounts.mount("tmpfs", str(path), "tmpfs")
    mounts.mount("", str(path), "", MS_SHARED)
    (path / "below").mkdir()
    mounts.mount("tmpfs", str(path / "below"), "tmpfs")
    yield path
    mounts.unmount_below(str(path))


def test_mounts_reach_those_who_ask_for_them(tmp_path: Path, network: Path, shared: Path) -> None:
    async def work(bench: Bench) -> None:
        inside = Mount(str(shared), "/shared")
        script = "while [ ! -e /shared/later/file ]; do sleep 0.01; done; echo seen"
        sees = await bench.start("sees", script, ROOT, inside._replace(propagation=Propagation.SLAVE))
        (shared / "later").mkdir()
        mounts.mount("tmpfs", str(shared / "later"), "tmpfs")
        (shared / "later" / "file").touch()
        await bench.runtime.wait(sees)
        assert bench.state(sees).exit_code == 0
        assert await bench.output("ls /shared/later/file /shared/below; echo end", ROOT, inside) == [
            "/shared/later/file",
            "",
            "/shared/below:",
            "end",
        ]
        await bench.output("mkdir /shared/own; mount -t tmpfs mine /shared/own", PRIVILEGED, inside)
        assert mounts.mounted(str(shared / "own")) == []
        both = inside._replace(propagation=Propagation.SHARED)
        await bench.output("mount -t tmpfs mine /shared/own", PRIVILEGED, both)
        assert mounts.mounted(str(shared / "own")) == [(str(shared / "own"), "tmpfs")]
        mounts.mount("", str(shared), "", mounts.PRIVATE)
        with pytest.raises(CreateError) as caught:
            await bench.output("true", ROOT, inside._replace(propagation=Propagation.SLAVE))
        assert str(caught.value).endswith(
            f'path "{shared}" is mounted on "{shared}" but it is not a shared or slave mount'
        )

    with_bench(tmp_path / "root", network, work)


def test_nobody_joins_the_processes_of_a_container_that_has_ended(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("ends", "true")
        await bench.runtime.wait(key)
        late = ContainerKey(UID, "late", 0)
        config = ContainerConfig(late, IMAGE, ["true"], {}, "/", [], ROOT, "/dev/termination-log", target=key)
        with pytest.raises(CreateError) as caught:
            await bench.runtime.create(config)
        said = f'invalid target container: container "{key.id}" is not running - in state CONTAINER_EXITED'
        assert str(caught.value) == said

    with_bench(tmp_path, network, work)


def test_read_only_all_the_way_down(tmp_path: Path, network: Path, shared: Path) -> None:
    async def work(bench: Bench) -> None:
        inside = Mount(str(shared), "/shared", read_only=True)
        script = "touch /shared/a 2>/dev/null || echo top; touch /shared/below/a 2>/dev/null || echo below"
        assert await bench.output(script, ROOT, inside) == ["top"]
        assert bench.runtime.recursive_read_only
        assert await bench.output(script, ROOT, inside._replace(recursive_read_only=True)) == ["top", "below"]

    with_bench(tmp_path / "root", network, work)


def test_who_ends_at_once_is_cleared_away_when_the_runtime_is_done(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, known = Engine.start, []

    def slowly(engine: Engine, identity: str) -> None:
        start(engine, identity)
        time.sleep(0.3)  # in which it ends
        known.append(engine.knows(identity))

    monkeypatch.setattr(Engine, "start", slowly)

    async def work(bench: Bench) -> None:
        key = await bench.start("short", "true")
        await bench.runtime.wait(key)
        assert bench.state(key).exit_code == 0
        assert known == [True]

    with_bench(tmp_path, network, work)


def test_an_image_that_is_not_here(tmp_path: Path) -> None:
    runtime = OCIRuntime(tmp_path, CHOICE, ImageStore(tmp_path / "images"), group=PREFIX)
    assert runtime.has_image(IMAGE)
    assert runtime.has_image(f"{IMAGE}:latest")
    assert not runtime.has_image("nginx:1")


def test_a_container_dies_with_its_conmon(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        key = await bench.start("c", "sleep 60")
        running = Layout(tmp_path).container(key).running()
        assert running is not None
        processes.send_signal(running.monitor, signal.SIGKILL)
        await bench.runtime.wait(key)
        state = bench.state(key)
        assert (state.exit_code, state.reason) == (137, "ContainerStatusUnknown")
        for _ in range(6000):
            if not processes.is_alive(running.first):
                break
            await asyncio.sleep(0.01)
        assert not processes.is_alive(running.first)

    with_bench(tmp_path, network, work)


def says(path: Path, text: str) -> bool:
    """Whether a log ends with such a line."""
    return path.exists() and path.read_bytes().endswith(f" stdout F {text}\n".encode())


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_long_logs_are_begun_anew(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(bench: Bench) -> None:
        some = "head -c 12000000 /dev/zero | tr '\\0' x | fold -w 12000; echo; echo some"
        wait = "until [ -e /gate/{} ]; do sleep 0.01; done"
        script = f"{some} 1; {wait.format(1)}; {some} 2; {wait.format(2)}; echo the end"
        monkeypatch.setattr("twinstack.node.runtime.oci.ROTATION", 0.02)
        bench.runtime.close()
        bench.runtime = OCIRuntime(tmp_path, CHOICE, ImageStore(tmp_path / "images"), group=PREFIX)
        bench.runtime.open(bench.ended.append)
        gate = tmp_path / "gate"
        gate.mkdir()
        key = await bench.start("c", script, ROOT, Mount(str(gate), "/gate"))
        path = bench.runtime.log_path(key)
        older = path.with_name(path.name + ".1")
        for number in (1, 2):
            while not any(says(each, f"some {number}") for each in (path, older)) or size(path) > 10 << 20:
                await asyncio.sleep(0.02)
            (gate / str(number)).touch()
        await bench.runtime.wait(key)
        assert path.stat().st_size < 10 << 20 < older.stat().st_size
        assert path.read_text().splitlines()[-1].endswith(" stdout F the end")
        assert older.read_bytes().endswith(b"\n")

    with_bench(tmp_path, network, work)


AGENT = """
import asyncio, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from tests.integration.test_runtime import Bench

async def main():
    bench = Bench(Path({root!r}), Path({network!r}))
    await bench.sandbox()
    await bench.start("ends", "echo one; sleep 0.3; echo two; exit 5")
    await bench.start("goes-on", "while :; do echo tick; sleep 0.05; done")
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_containers_outlive_an_agent_that_is_killed(tmp_path: Path, network: Path) -> None:
    here = str(Path(__file__).parents[2])
    program = AGENT.format(here=here, root=str(tmp_path), network=str(network))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "ready\n"
        agent.kill()
    running = Layout(tmp_path).container(ContainerKey(UID, "ends", 0)).running()
    while running is not None and processes.is_alive(running.monitor):  # it ends while nobody looks
        time.sleep(0.01)

    async def main() -> None:
        bench = Bench(tmp_path, network)
        ends, goes_on = ContainerKey(UID, "ends", 0), ContainerKey(UID, "goes-on", 0)
        assert (bench.state(ends).phase, bench.state(ends).exit_code) == (Phase.EXITED, 5)
        assert bench.runtime.log_path(ends).read_text().count("stdout F") == 2
        assert bench.state(goes_on).phase is Phase.RUNNING
        assert bench.runtime.sandbox_since(UID) > 0
        before = bench.runtime.log_path(goes_on).stat().st_size
        while bench.runtime.log_path(goes_on).stat().st_size == before:
            await asyncio.sleep(0.01)
        assert bench.runtime.kill(goes_on, signal.SIGKILL)
        await bench.runtime.wait(goes_on)
        assert bench.ended == [bench.state(goes_on)]
        assert bench.state(goes_on).exit_code == 137
        await bench.runtime.remove_sandbox(UID)
        bench.runtime.close()

    asyncio.run(main())
    assert mounts.mounted(str(tmp_path)) == []
    assert cgroups.remove(Layout(tmp_path).group_directories())


def test_clean_up_leaves_nothing(tmp_path: Path, network: Path) -> None:
    root = tmp_path / "root"

    async def main() -> list[processes.Process]:
        bench = Bench(root, network)
        await bench.sandbox()
        keys = [await bench.start(name, "sleep 60") for name in ("a", "b")]
        found = [Layout(root).container(key).running() for key in keys]
        bench.runtime.close()  # as an agent that has been stopped
        return [process for one in found if one is not None for process in (one.monitor, one.first)]

    left = asyncio.run(main())
    assert all(map(processes.is_alive, left))
    assert remove_everything(root, f"{PREFIX}-none") == 0
    assert not any(map(processes.is_alive, left))
    assert not root.exists()
    assert mounts.mounted(str(root)) == []
    assert remove_everything(root, f"{PREFIX}-none") == 0


def test_processes_may_be_shared(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.runtime.stop_sandbox(UID)
        sysctls = {"net.ipv4.ip_unprivileged_port_start": "1000", "kernel.shm_rmid_forced": "1"}
        config = SandboxConfig(UID, "default/web", "web", str(network), ETC, sysctls, share_processes=True)
        await bench.runtime.create_sandbox(config)
        assert bench.runtime.sandbox_since(UID) > 0
        key = await bench.start("first", "sleep 61")
        lines = await bench.output(
            "echo $$; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; "
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
        )
        assert int(lines[0]) > 1
        assert any("sleep 61" in line for line in lines)
        assert lines[-2:] == ["1000", "1"]
        assert [run.key for run in bench.runtime.containers(UID)] == [key]
        first = Layout(tmp_path).container(ContainerKey(UID, "POD", 0)).running()
        assert first is not None
        processes.send_signal(first.first, signal.SIGKILL)  # takes all of them down
        for each in (key, ContainerKey(UID, "POD", 0)):
            await bench.runtime.wait(each)
        assert bench.runtime.sandbox_since(UID) == 0

    with_bench(tmp_path, network, work)


def test_what_a_container_must_not_call(tmp_path: Path, network: Path) -> None:
    async def work(bench: Bench) -> None:
        script = "python3 -c 'import ctypes; print(ctypes.CDLL(None, use_errno=True).unshare(0x10000000))'; "
        script += "grep Seccomp: /proc/self/status | cut -f2"
        assert await bench.output(script) == ["-1", "2"]
        assert await bench.output(script, ROOT._replace(seccomp="Unconfined")) == ["0", "0"]

    with_bench(tmp_path, network, work)
