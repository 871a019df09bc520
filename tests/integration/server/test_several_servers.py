"""Three servers on one etcd: nothing is given twice, watches miss nothing while a server or a member dies."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop
from tests.etcd_servers import Etcd, etcd, leader_of

from twinstack.api.core import Service
from twinstack.api.errors import StatusError
from twinstack.api.kinds import ENDPOINT_SLICES, SERVICES
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client

T = TypeVar("T")

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
WRITERS = 16
KILLS = 20 if SOAK else 1
WRITES = 150  # acknowledged by all before and after something is killed
HELD = 3  # Services that a writer has at most: 48 of 60 ports
TOKEN = "sesame"
REFUSED_IN_PASSING = (409, 422, 500, 503, 504)  # a lost race, a full range, etcd without a leader


class Servers:
    """Three processes on 127.0.0.1 to 127.0.0.3 with one port, as three machines have it."""

    def __init__(self, directory: Path, store: Etcd) -> None:
        self._directory = directory
        self._store = store
        self._port = _common_port()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        (directory / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')

    def start(self, number: int) -> None:
        flags = {
            "etcd-servers": self._store.servers,
            "bind-address": f"127.0.0.{number}",
            "advertise-address": f"192.0.2.{number}",
            "secure-port": self._port,
            "service-cluster-ip-range": "10.96.0.0/24,fd00:96::/112",
            "service-node-port-range": "30000-30059",
            "token-auth-file": self._directory / "tokens.csv",
            "cert-dir": self._directory / f"certificates{number}",
            "disable-admission-plugins": "ServiceAccount",
        }
        command = [
            sys.executable,
            "-m",
            "twinstack.cli.main",
            "server",
            *(f"--{key}={value}" for key, value in flags.items()),
        ]
        with (self._directory / f"log{number}").open("ab") as log:
            self._processes[number] = subprocess.Popen(command, stdout=log, stderr=log)

    def end(self, number: int, signal_number: int) -> None:
        process = self._processes.pop(number)
        process.send_signal(signal_number)
        process.wait(30)

    def stop(self) -> None:
        for number in list(self._processes):
            self.end(number, signal.SIGKILL)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._directory.glob("log*")))

    @asynccontextmanager
    async def client(self, number: int) -> AsyncIterator[Client]:
        url = f"https://127.0.0.{number}:{self._port}"
        client = Client(ClusterAccess(server=url, token=TOKEN, insecure=True), user_agent="test")
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def three(directory: Path, store: Etcd) -> AsyncIterator[tuple[Servers, dict[int, Client]]]:
    """Started, ready, and a client of each."""
    servers = Servers(directory, store)
    async with AsyncExitStack() as stack:
        stack.callback(servers.stop)
        for number in (1, 2, 3):
            servers.start(number)
        clients = {number: await stack.enter_async_context(servers.client(number)) for number in (1, 2, 3)}
        for client in clients.values():
            await ready(client)
        yield servers, clients


async def ready(client: Client) -> None:
    await eventually(lambda: client.request("GET", "/readyz"), lambda answer: answer == b"ok")


async def eventually(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    while True:
        try:
            answer = await read()
            if holds(answer):
                return answer
        except (OSError, StatusError):
            pass
        await asyncio.sleep(0.02)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(250 if not SOAK else 1500):
            await work()

    uvloop.run(main())


class Load:
    """Writers that make and delete Services at whichever server answers, and what they were told."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self._clients = clients
        self._random = random.Random()
        self.known: dict[str, str] = {}  # name → uid of what was acknowledged
        self.unknown: set[str] = set()  # asked for, without an answer
        self.acknowledged = 0
        self._stop = False

    async def more(self, count: int) -> None:
        """Until so many more writes have been acknowledged."""
        wanted = self.acknowledged + count
        while self.acknowledged < wanted:
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._stop = True

    async def run(self) -> None:
        await asyncio.gather(*(self._write(number) for number in range(WRITERS)))

    async def _write(self, number: int) -> None:
        held: list[str] = []
        for turn in itertools.count():
            if self._stop:
                return
            client = self._random.choice(list(self._clients.values()))
            try:
                if len(held) < HELD and (not held or self._random.random() < 0.6):
                    await self._create(client, f"w{number}-{turn}", held)
                else:
                    await self._delete(client, self._random.choice(held), held)
            except OSError:
                await asyncio.sleep(0.02)
            except StatusError as error:
                if error.code not in REFUSED_IN_PASSING:
                    raise
                await asyncio.sleep(0.02)

    async def _create(self, client: Client, name: str, held: list[str]) -> None:
        spec = {"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]}
        self.unknown.add(name)
        held.append(name)
        made = await client.create(SERVICES, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
        self.unknown.discard(name)
        self.known[name] = made.metadata.uid
        self.acknowledged += 1

    async def _delete(self, client: Client, name: str, held: list[str]) -> None:
        acknowledged = self.known.pop(name, "")
        self.unknown.add(name)
        try:
            await client.delete(SERVICES, name, "default")
        except StatusError as error:
            if error.code != 404 or acknowledged:  # one that was never made may be missing, or whose end is not known
                raise
        held.remove(name)
        self.unknown.discard(name)
        self.acknowledged += 1

    def check(self, found: dict[str, Service]) -> None:
        """What was acknowledged is there, and nothing that nobody asked for."""
        assert {name: found[name].metadata.uid for name in self.known} == self.known
        assert found.keys() - self.unknown - {"kubernetes"} == self.known.keys()


class Follower:
    """A watch that goes to another server when its own is gone, from the revision where it stood."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}  # name → resourceVersion
        self.revision = 0
        self.restarts = 0

    async def run(self, clients: dict[int, Client]) -> None:
        order = itertools.cycle(clients.values())
        items, revision = await next(order).list(SERVICES, "default")
        self.state = {item.metadata.name: item.metadata.resource_version for item in items}
        self.revision = int(revision)
        for client in order:
            try:
                await self._follow(client)
            except OSError:
                await asyncio.sleep(0.02)
            self.restarts += 1

    async def _follow(self, client: Client) -> None:
        async with aclosing(client.watch(SERVICES, "default", resource_version=str(self.revision))) as events:
            async for event in events:
                meta = event.object.metadata
                revision, name = int(meta.resource_version), meta.name
                if event.type == "BOOKMARK":
                    self.revision = max(self.revision, revision)
                    continue
                assert revision >= self.revision, "told again"
                assert (event.type == "ADDED") == (name not in self.state), "something was left out"
                self.revision = revision
                if event.type == "DELETED":
                    del self.state[name]
                else:
                    self.state[name] = meta.resource_version


async def listed(client: Client) -> dict[str, Service]:
    items, _ = await client.list(SERVICES, "default")
    return {item.metadata.name: item for item in items}


def check_allocations(services: dict[str, Service]) -> None:
    addresses = [ip for service in services.values() for ip in service.spec.cluster_ips]
    ports = [port.node_port for service in services.values() for port in service.spec.ports if port.node_port]
    assert len(addresses) == len(set(addresses))
    assert len(ports) == len(set(ports))
    assert len(ports) == len(services) - 1  # all but the Service kubernetes


async def settle(clients: dict[int, Client], load: Load, followers: list[Follower]) -> None:
    """The writers have ended: all servers show the same, which is what was told and what was watched."""
    states = [await listed(client) for client in clients.values()]
    versions = [{name: service.metadata.resource_version for name, service in state.items()} for state in states]
    assert versions[0] == versions[1] == versions[2]
    load.check(states[0])
    check_allocations(states[0])
    for follower in followers:
        while follower.state != versions[0]:
            await asyncio.sleep(0.02)


async def under_load(clients: dict[int, Client], trouble: Callable[[Load], Awaitable[None]]) -> None:
    """Sixteen writers and six watches, while `trouble` happens."""
    load, followers = Load(clients), [Follower() for _ in range(6)]
    orders = [dict(random.sample(list(clients.items()), 3)) for _ in followers]
    async with asyncio.TaskGroup() as group:  # who fails ends all
        following = [group.create_task(each.run(order)) for each, order in zip(followers, orders, strict=True)]
        writing = group.create_task(load.run())
        await load.more(WRITES)
        await trouble(load)
        load.stop()
        await writing
        await settle(clients, load, followers)
        for task in following:
            task.cancel()


@pytest.mark.parametrize("members", [1, 3] if SOAK else [1])
def test_what_dies_under_load_loses_and_doubles_nothing(tmp_path: Path, members: int) -> None:
    """Servers are killed in turn; of three members the leader, too. At the end one server goes in order."""

    async def work() -> None:
        with etcd(members, flags=("--heartbeat-interval=50", "--election-timeout=500")) as store:
            async with three(tmp_path, store) as (servers, clients):

                async def kill(load: Load) -> None:
                    for number in itertools.islice(itertools.cycle((2, 3, 1)), KILLS):
                        servers.end(number, signal.SIGKILL)
                        await load.more(WRITES)
                        servers.start(number)
                        await ready(clients[number])
                        if members > 1:
                            leader = await leader_of(store)
                            await asyncio.to_thread(leader.stop)
                            await load.more(WRITES)
                            store.start_member(leader)
                            await asyncio.to_thread(store.wait_for, leader)
                        await load.more(WRITES)

                await under_load(clients, kill)
                await eventually(lambda: endpoints(clients[1]), lambda found: len(found) == 3)
                servers.end(3, signal.SIGTERM)
                assert await endpoints(clients[1]) == ["192.0.2.1", "192.0.2.2"]
                assert "Traceback" not in servers.log()

    run(work)


async def endpoints(client: Client) -> list[str]:
    """Of the Service kubernetes."""
    found = await client.get(ENDPOINT_SLICES, "kubernetes", "default")
    return sorted(address for endpoint in found.endpoints or [] for address in endpoint.addresses)


def _common_port() -> int:
    """A port that is free on all three addresses."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
            try:
                for number in (2, 3):
                    socket.create_server((f"127.0.0.{number}", port)).close()
            except OSError:
                continue
            return port
