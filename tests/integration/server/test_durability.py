"""What was acknowledged is there: after a kill in the middle of writes, and by the order of system calls.

Killing a process loses nothing that it has handed to the kernel, so it proves that a restart finds everything
and gives nothing twice, but not that a power cut would spare it. The trace of system calls does.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import systemcalls
from tests.server_process import JSON, Client, Server

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
CREATES, KILLS = (2000, 5) if SOAK else (400, 1)
CLIENTS = 16
SERVICES = "/api/v1/namespaces/default/services"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
BROKEN = (OSError, http.client.HTTPException)
MERGE = "application/merge-patch+json"


def service(name: str) -> JSON:
    spec = {
        "type": "NodePort",
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"port": 80}],
        "selector": {"app": name},
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


class Ledger:
    """What clients were told, kept by all of them."""

    def __init__(self, creates: int) -> None:
        self.left = deque(f"s{number}" for number in range(creates))
        self.services: dict[str, JSON] = {}  # name -> as last acknowledged
        self.deleted: set[str] = set()
        self.unknown: set[str] = set()  # asked for and not answered: it may have happened or not
        self.enough = threading.Event()
        self.wanted = 0  # acknowledged objects until `enough`

    @property
    def acknowledged(self) -> int:
        return len(self.services) + len(self.deleted)

    def work(self, server: Server) -> None:
        """One client: creates; changes every third of its own and deletes every seventh, until the server is gone."""
        try:
            with server.client() as client:
                while (name := self._next()) is not None:
                    self._create(client, name)
                    number = int(name[1:])
                    if number % 3 == 0:
                        self._change(client, name)
                    if number % 7 == 0:
                        self._delete(client, name)
                    if self.acknowledged >= self.wanted:
                        self.enough.set()
        except BROKEN:
            return

    def _next(self) -> str | None:
        try:
            return self.left.popleft()
        except IndexError:
            return None

    def _create(self, client: Client, name: str) -> None:
        again = name in self.unknown
        self.unknown.add(name)
        code, answer = client.call("POST", SERVICES, service(name))
        if again and code == 409:
            code, answer = client.call("GET", f"{SERVICES}/{name}")
            assert code == 200, answer.get("message")
        else:
            assert code == 201, answer.get("message")
        self.services[name] = answer
        self.unknown.discard(name)

    def _change(self, client: Client, name: str) -> None:
        patch = {"metadata": {"annotations": {"changed": "yes"}}}
        code, answer = client.call("PATCH", f"{SERVICES}/{name}", patch, MERGE)
        assert code == 200, answer.get("message")
        self.services[name] = answer

    def _delete(self, client: Client, name: str) -> None:
        self.unknown.add(name)
        code, answer = client.call("DELETE", f"{SERVICES}/{name}")
        assert code == 200, answer.get("message")
        self.deleted.add(name)
        del self.services[name]
        self.unknown.discard(name)

    def check(self, listed: dict[str, JSON]) -> None:
        """Compare with what the server has."""
        for name in self.services.keys() - self.unknown:
            told, found = self.services[name], listed[name]
            assert found["spec"] == told["spec"]
            assert found["metadata"]["uid"] == told["metadata"]["uid"]
            assert version(found) >= version(told), "not older than what was acknowledged"
        assert not (self.deleted & listed.keys())


def version(obj: JSON) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Watching:
    """A client that follows all Services as informers do: watch, resume from the last revision, relist on 410."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.seen: dict[str, tuple[str, int]] = {}  # name -> uid, revision
        self.revision = 0
        self.lists = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _list(self) -> None:
        found = self._server.json(SERVICES)
        self.lists += 1
        self.seen = {item["metadata"]["name"]: identity(item) for item in found["items"]}
        self.revision = version(found)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
            except BROKEN:
                self._ended.wait(0.05)

    def _follow(self) -> None:
        if not self.lists:
            self._list()
        query = f"?watch=1&resourceVersion={self.revision}&allowWatchBookmarks=true&timeoutSeconds=2"
        with self._server.client() as client:
            for event in client.lines(SERVICES + query):
                obj = event["object"]
                if event["type"] == "ERROR":
                    assert obj["code"] == 410, obj
                    self._list()
                    return
                self.revision = version(obj)
                if event["type"] == "DELETED":
                    del self.seen[obj["metadata"]["name"]]
                elif event["type"] != "BOOKMARK":
                    self.seen[obj["metadata"]["name"]] = identity(obj)

    def reaches(self, revision: int) -> None:
        end = threading.Event()
        for _ in range(1000):
            if self.revision >= revision:
                return
            end.wait(0.01)
        raise AssertionError(f"the watch stands at {self.revision}, not {revision}")


def identity(obj: JSON) -> tuple[str, int]:
    return obj["metadata"]["uid"], version(obj)


@contextmanager
def clients(server: Server, ledger: Ledger) -> Iterator[None]:
    threads = [threading.Thread(target=ledger.work, args=[server]) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(60)


def services_of(server: Server) -> dict[str, JSON]:
    return {item["metadata"]["name"]: item for item in server.json(SERVICES)["items"]}


def check_allocations(server: Server, services: dict[str, JSON]) -> None:
    """No address and no port twice, and exactly one record an address."""
    addresses = Counter(ip for item in services.values() for ip in item["spec"]["clusterIPs"])
    ports = Counter(
        port["nodePort"] for item in services.values() for port in item["spec"]["ports"] if "nodePort" in port
    )
    assert [each for counter in (addresses, ports) for each, count in counter.items() if count > 1] == []
    records = server.json("/apis/networking.k8s.io/v1/ipaddresses")["items"]
    owners = {item["metadata"]["name"]: item["spec"]["parentRef"]["name"] for item in records}
    assert owners == {ip: name for name, item in services.items() for ip in item["spec"]["clusterIPs"]}


def check(server: Server, ledger: Ledger, shown: dict[str, tuple[str, int]]) -> None:
    """What was acknowledged, and what a watch has shown, is there."""
    listed = services_of(server)
    ledger.check(listed)
    for name in shown.keys() - ledger.unknown - ledger.deleted:
        uid, revision = identity(listed[name])
        assert uid == shown[name][0]
        assert revision >= shown[name][1]
    check_allocations(server, listed)


def test_a_kill_loses_nothing_and_gives_nothing_twice(tmp_path: Path) -> None:
    server, ledger = Server(tmp_path), Ledger(CREATES)
    with Watching(server) as watching:
        for kill in range(1, KILLS + 1):
            with server.running() as process:
                check(server, ledger, dict(watching.seen))
                ledger.enough.clear()
                ledger.wanted = CREATES * kill // (KILLS + 1)
                with clients(server, ledger):
                    assert ledger.enough.wait(60), ledger.acknowledged
                    process.kill()
            ledger.left.extendleft(ledger.unknown.difference(ledger.left))
        with server.running():
            check(server, ledger, dict(watching.seen))
            highest = max(version(each) for each in ledger.services.values())
            old = set(ledger.services)
            with clients(server, ledger):
                pass
            assert len(ledger.services) + len(ledger.deleted) >= CREATES
            assert not ledger.unknown
            assert all(version(ledger.services[name]) > highest for name in ledger.services.keys() - old)
            check(server, ledger, {})
            watching.reaches(max(version(each) for each in ledger.services.values()))
            assert watching.seen == {name: identity(item) for name, item in services_of(server).items()}
            assert watching.lists <= 1 + KILLS, "it was resumed, or told that it must list again"
    assert "Traceback" not in server.log()


LOG = "/state.db-wal"
WRITES = 40 if SOAK else 4  # of each client
TRACED_CLIENTS = 6


@pytest.mark.skipif(not systemcalls.tracing_works(), reason="needs strace, and leave to trace")
def test_a_sync_of_the_log_stands_before_every_answer_to_a_write(tmp_path: Path) -> None:
    server, output = Server(tmp_path), tmp_path / "trace"
    server.prefix = systemcalls.command(output)
    asked: dict[int, list[str]] = {}  # port of a client -> the objects that it wrote, one a request
    done = threading.Barrier(TRACED_CLIENTS + 1)

    def write(number: int) -> None:
        with server.client() as client:
            client.call("GET", f"{SERVICES}/kubernetes")
            asked[client.port] = [
                name for turn in range(WRITES) for name in write_all_ways(client, f"d{number}-{turn}")
            ]
            done.wait(60)  # connections stay open until the server ends

    threads = [threading.Thread(target=write, args=[number]) for number in range(TRACED_CLIENTS)]
    with server.running() as process:
        for thread in threads:
            thread.start()
        try:
            while done.n_waiting < TRACED_CLIENTS and all(thread.is_alive() for thread in threads):
                time.sleep(0.02)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            done.abort() if done.n_waiting < TRACED_CLIENTS else done.wait(5)
            for thread in threads:
                thread.join(60)
    trace = systemcalls.Trace(systemcalls.finished(output), str(tmp_path) + LOG)
    assert len(asked) == TRACED_CLIENTS
    for port, names in asked.items():
        exchanges = trace.exchanges(port)[-len(names) :]
        assert len(exchanges) == len(names)
        assert [name for name, each in zip(names, exchanges, strict=True) if not trace.is_durable(name, each)] == []


def write_all_ways(client: Client, name: str) -> list[str]:
    """Every verb, and every kind of patch; returns the names in the order of the requests."""
    path, written = f"{CONFIG_MAPS}/{name}", []

    def write(method: str, url: str, body: Any = None, content_type: str = "application/json") -> JSON:
        code, answer = client.call(method, url, body, content_type)
        assert code in (200, 201), answer.get("message")
        written.append(f"{name}-s" if url.startswith(SERVICES) else name)
        return answer

    write("POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": {"of": name}}})
    write("PATCH", path, {"data": {"a": "b"}}, MERGE)
    write("PATCH", path, {"data": {"a": "c"}}, "application/strategic-merge-patch+json")
    changed = write("PATCH", path, [{"op": "add", "path": "/data/b", "value": "d"}], "application/json-patch+json")
    write("PUT", path, changed | {"data": {"c": "d"}})
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"e": "f"}}
    write("PATCH", f"{path}?fieldManager=x", config, "application/apply-patch+yaml")
    write("DELETE", path)
    write("POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": {"of": name}}})
    write("DELETE", f"{CONFIG_MAPS}?labelSelector=of%3D{name}")
    write("POST", SERVICES, service(f"{name}-s"))
    status = {"status": {"conditions": [{"type": "A", "status": "True", "reason": "B", "message": ""}]}}
    write("PATCH", f"{SERVICES}/{name}-s/status", status, MERGE)
    write("DELETE", f"{SERVICES}/{name}-s")
    return written


@pytest.mark.parametrize(
    ("order", "durable"),
    [
        (["read", "log", "sync", "answer"], True),
        (["read", "log", "sync began", "sync ended", "answer"], True),
        (["read", "log", "answer", "sync"], False),
        (["read", "log", "sync began", "answer", "sync ended"], False),
        (["log", "sync", "read", "answer"], False),
        (["read", "sync began", "log", "sync ended", "answer"], False),
        (["read", "other", "sync", "answer"], False),
    ],
)
def test_the_trace_tells_order(order: list[str], durable: bool) -> None:
    lines = {
        "read": '7 read(9<TCP:[127.0.0.1:6443->127.0.0.1:5000]>, "POST", 65536) = 4',
        "log": '8 pwrite64(5</x/state.db-wal>, "\\0web\\1", 4096, 24) = 4096',
        "other": '8 pwrite64(5</x/state.db-wal>, "\\0map\\1", 4096, 24) = 4096',
        "sync": "8 fdatasync(5</x/state.db-wal>) = 0",
        "sync began": "8 fdatasync(5</x/state.db-wal> <unfinished ...>",
        "sync ended": "8 <... fdatasync resumed>) = 0",
        "answer": '7 write(9<TCP:[127.0.0.1:6443->127.0.0.1:5000]>, "201", 3) = 3',
    }
    trace = systemcalls.Trace([lines[each] for each in order], "/x/state.db-wal")
    (exchange,) = trace.exchanges(5000)
    assert trace.is_durable("web", exchange) is durable
