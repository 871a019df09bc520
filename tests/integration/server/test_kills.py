"""Killed at any moment under writers, again and again: nothing acknowledged is lost, nothing is given twice."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

from tests.integration.server.test_durability import BROKEN, MERGE, SERVICES, check_allocations, service, services_of
from tests.server_process import JSON, Client, Server

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
KILLS = 1000 if SOAK else 30
WRITERS = 16
MOST = 40  # Services of a writer: node ports are few
RUN_SECONDS = 0.15  # the longest run of the writers before a kill
START_SECONDS = 0.4  # about as long as a server needs to start


class Writer:
    """One client and the Services of its own, as it was last told of them."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._made = 0
        self._random = random.Random(number)
        self.known: dict[str, JSON] = {}
        self.unknown: set[str] = set()  # asked for and not answered
        self.acknowledged = 0

    def run(self, server: Server, ended: threading.Event) -> None:
        try:
            with server.client() as client:
                while not ended.is_set():
                    self._write(client)
        except BROKEN:
            return

    def _write(self, client: Client) -> None:
        choice = self._random.random()
        if not self.known or (choice < 0.5 and len(self.known) < MOST):
            self._made += 1
            name = f"w{self._number}-{self._made}"
            self.unknown.add(name)
            self.known[name] = self._ask(client, "POST", SERVICES, service(name), 201)
        elif choice < 0.7:
            name = self._random.choice(list(self.known))
            self.unknown.add(name)
            patch = {"metadata": {"annotations": {"turn": str(self.acknowledged)}}}
            self.known[name] = self._ask(client, "PATCH", f"{SERVICES}/{name}", patch, 200)
        else:
            name = self._random.choice(list(self.known))
            self.unknown.add(name)
            self._ask(client, "DELETE", f"{SERVICES}/{name}", None, 200)
            del self.known[name]
        self.unknown.discard(name)
        self.acknowledged += 1

    def _ask(self, client: Client, method: str, path: str, body: JSON | None, wanted: int) -> JSON:
        code, answer = client.call(method, path, body, MERGE if method == "PATCH" else "application/json")
        assert code == wanted, answer.get("message")
        return answer

    def check(self, listed: dict[str, JSON]) -> None:
        """What was acknowledged is there, and nothing else; then what was not answered is known, too."""
        prefix = f"w{self._number}-"
        found = {name: item for name, item in listed.items() if name.startswith(prefix)}
        for name in self.known.keys() - self.unknown:
            assert {**self.known[name], **found[name]} == self.known[name], "items of a list have no kind"
        for name in self.unknown & self.known.keys() & found.keys():
            assert found[name]["metadata"]["uid"] == self.known[name]["metadata"]["uid"]
        assert found.keys() - self.unknown == self.known.keys() - self.unknown
        self.known, self.unknown = found, set()


def test_kills_at_random_moments(tmp_path: Path) -> None:
    server, moments = Server(tmp_path), random.Random()
    writers = [Writer(number) for number in range(WRITERS)]
    for number in range(KILLS):
        if number % 6 == 5:
            kill_at_the_start(server, moments.uniform(0, START_SECONDS))
        else:
            run_and_kill(server, writers, moments.uniform(0, RUN_SECONDS))
    with server.running():
        check(server, writers)
    assert sum(writer.acknowledged for writer in writers) > 4 * KILLS
    assert "Traceback" not in server.log()


def check(server: Server, writers: list[Writer]) -> None:
    listed = services_of(server)
    for writer in writers:
        writer.check(listed)
    check_allocations(server, listed)


def run_and_kill(server: Server, writers: list[Writer], seconds: float) -> None:
    with server.running() as process:
        check(server, writers)
        ended = threading.Event()
        threads = [threading.Thread(target=writer.run, args=[server, ended]) for writer in writers]
        for thread in threads:
            thread.start()
        before = sum(writer.acknowledged for writer in writers)
        try:
            deadline = time.monotonic() + 30
            while sum(writer.acknowledged for writer in writers) == before and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(seconds)
        finally:
            process.kill()
            ended.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()


def kill_at_the_start(server: Server, seconds: float) -> None:
    with (server.directory / "log").open("ab") as log, subprocess.Popen(server.command(), stderr=log) as process:
        time.sleep(seconds)
        process.kill()
