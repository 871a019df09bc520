"""Real etcd members on loopback, for tests and benchmarks: on free ports, in a directory that goes with them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from twinstack.store.etcd import messages
from twinstack.store.etcd.channel import Channel, RPCError, endpoints_of
from twinstack.store.etcd.protobuf import fields

ETCD = Path(__file__).parents[1] / ".venv" / "debian" / "usr" / "bin" / "etcd"  # see scripts/unpack_peers.sh
START_SECONDS = 60.0


class TLSFiles(NamedTuple):
    """PEM files: an authority, and a certificate of it for both sides."""

    authority: Path
    certificate: Path
    key: Path


class Member:
    """One etcd process."""

    def __init__(self, name: str, ports: tuple[int, int], directory: Path, tls: TLSFiles | None) -> None:
        self.name = name
        self.client_port, self.peer_port = ports
        self._directory = directory / name
        self._log = directory / f"{name}.log"
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self, initial_cluster: str, flags: tuple[str, ...]) -> None:
        tls: list[str] = []
        if self._tls is not None:
            tls = [
                f"--trusted-ca-file={self._tls.authority}",
                f"--cert-file={self._tls.certificate}",
                f"--key-file={self._tls.key}",
                "--client-cert-auth",
            ]
        command = [
            str(ETCD),
            f"--name={self.name}",
            f"--data-dir={self._directory}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={initial_cluster}",
            "--log-level=error",
            *tls,
            *flags,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def freeze(self) -> None:
        """It keeps its connections and says nothing any more; `stop` ends that."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        while any((task / "stat").read_text().rpartition(")")[2].split()[0] not in "TZ" for task in tasks.iterdir()):
            time.sleep(0.001)

    def stop(self, number: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait()

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


class Etcd:
    """A cluster of members; `servers` is what --etcd-servers takes."""

    def __init__(self, members: int, tls: TLSFiles | None, flags: tuple[str, ...]) -> None:
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None  # memory: the tests are not about the disk
        self._directory = Path(tempfile.mkdtemp(prefix="twinstack-etcd-", dir=base))
        self._flags = flags
        ports = _free_ports(2 * members)
        pairs = zip(ports[::2], ports[1::2], strict=True)
        self.members = [Member(f"m{number}", pair, self._directory, tls) for number, pair in enumerate(pairs)]
        self._initial = ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    @property
    def servers(self) -> str:
        return ",".join(member.url for member in self.members)

    def start(self) -> None:
        for member in self.members:
            self.start_member(member)
        for member in self.members:
            self.wait_for(member)

    def start_member(self, member: Member) -> None:
        member.start(self._initial, self._flags)

    def wait_for(self, member: Member) -> None:
        """Until it listens for clients, which it does once it has a leader."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", member.client_port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, member.log()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        for member in self.members:
            member.stop()
        shutil.rmtree(self._directory)


@contextmanager
def etcd(members: int = 1, tls: TLSFiles | None = None, flags: tuple[str, ...] = ()) -> Iterator[Etcd]:
    """Started, and gone without trace at the end."""
    cluster = Etcd(members, tls, flags)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


async def leader_of(servers: Etcd) -> Member:
    """Who leads, by what the members say of themselves."""
    while True:
        await asyncio.sleep(0.02)
        for member in servers.members:
            client = Channel(endpoints_of(member.url), None)
            try:
                answer = dict(fields(await client.call(messages.STATUS, b"", seconds=2, repeat=False)))
            except RPCError:
                continue
            finally:
                await client.close()
            header = answer[1]
            assert isinstance(header, bytes)
            if answer.get(4) == dict(fields(header))[2]:
                return member


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, and each another one."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
