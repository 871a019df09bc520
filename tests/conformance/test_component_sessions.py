"""What the components of Kubernetes 1.36 said to a kube-apiserver, said again byte for byte, and the same answered.

`control-plane` are kube-controller-manager and kube-proxy while somebody works with kubectl, whose writes are
replayed between theirs and not compared (tests/conformance/test_program_sessions.py does that). `node` are
kube-scheduler and kubelet; what others did then, unrecorded, is made up for. Each speaks for itself, with its own
rights. Bodies are JSON or protobuf as they were sent. Answers may come as JSON, since all of them accept it.
Of watches the status is compared, and that one which asks for initial events gets them.
"""

from __future__ import annotations

import http.client
import json
import lzma
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.wire import Chosen, Row, differences
from tests.server_process import HOST, TOKEN, Server

JSON = dict[str, Any]

SESSIONS = Path(__file__).with_name("sessions")
RECORDED_PORTS = {"control-plane-1.36": 16443, "node-1.36": 18443}
USERS = {
    "kube-proxy-1.36": "system:kube-proxy,proxy",
    "kube-scheduler-1.36": "system:kube-scheduler,scheduler",
    "kubelet-1.36": 'system:node:n1,n1,"system:nodes"',
}
UNCOMPARED = ("kubectl", "others")
TIMEOUT = 60.0

AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
TRACKING = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking"

# Named by the host on which a server runs; without the address by which servers reach each other.
LEASE_OF_THE_SERVER = ("item kube-system/apiserver-", "[apiserver-")


def rows(session: str) -> Iterator[Row]:
    with lzma.open(SESSIONS / f"{session}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield Row(**json.loads(line))


class Replay:
    def __init__(self, server: Server, session: str) -> None:
        self._server = server
        self._chosen = Chosen((RECORDED_PORTS[session], server.port))
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(HOST, self._server.port, timeout=TIMEOUT, context=self._server.context())

    def close(self) -> None:
        self._connection.close()

    def play(self, row: Row) -> list[str]:
        """What differs."""
        headers = {
            "Authorization": f"Bearer {row.client if row.client in USERS else TOKEN}",
            "User-Agent": row.agent,
            "Accept": row.accept,
        }
        if row.type:
            headers["Content-Type"] = row.type
        body = row.body_bytes()
        request = (row.method, self._chosen.path(row.path), None if body is None else self._chosen.body(body), headers)
        if row.watch:
            return self._watch(row, request)
        self._connection.request(*request)
        answer = self._connection.getresponse()
        return list(self._compared(row, answer.status, answer.read()))

    def _watch(self, row: Row, request: tuple[str, str, bytes | None, dict[str, str]]) -> list[str]:
        connection = self._connect()
        try:
            connection.request(*request)
            answer = connection.getresponse()
            if answer.status != row.status:
                return [f"status {answer.status} for {row.status}"]
            if "sendInitialEvents=true" not in row.path:
                return []
            return [] if _reaches_the_end_of_initial_events(answer) else ["no end of initial events"]
        finally:
            connection.close()

    def _compared(self, row: Row, status: int, body: bytes) -> Iterator[str]:
        if status != row.status:
            yield f"status {status} for {row.status}: {body[:300].decode()}"
        elif isinstance(row.answer, dict):
            answer = json.loads(body)
            if "metadata" in row.answer:
                self._chosen.learn_name(row.answer, answer)
            yield from differences(self._chosen, row.answer, answer)


def eventually_has(server: Server, path: str) -> None:
    """What a server publishes a moment after it is ready."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            server.get(path)
            return
        except urllib.error.HTTPError as error:
            error.close()
            time.sleep(0.05)
    raise AssertionError(f"{path} is not there:\n{server.log()}")


def _reaches_the_end_of_initial_events(answer: http.client.HTTPResponse) -> bool:
    while line := answer.readline():
        event = json.loads(line)
        if event["type"] == "BOOKMARK":
            return "k8s.io/initial-events-end" in event["object"]["metadata"]["annotations"]
    return False


@pytest.mark.parametrize("session", RECORDED_PORTS)
def test_components_are_answered_as_recorded(session: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    flags = ["--advertise-address=10.9.9.9", "--authorization-mode=Node,RBAC", "--disable-admission-plugins="]
    if session == "node-1.36":
        authority.write_text(next(rows(session)).answer["data"]["client-ca-file"])
        flags.append(f"--client-ca-file={authority}")
    server = Server(tmp_path, *flags)
    with (tmp_path / "tokens.csv").open("a") as tokens:
        tokens.writelines(f"{client},{user}\n" for client, user in USERS.items())
    different: list[str] = []
    with server.running():
        eventually_has(server, AUTHENTICATION if session == "node-1.36" else TRACKING)
        replay = Replay(server, session)
        try:
            for row in rows(session):
                found = [each for each in replay.play(row) if not each.startswith(LEASE_OF_THE_SERVER)]
                if found and row.client not in UNCOMPARED:
                    different.append("\n    ".join([f"{row.client} {row.method} {row.path}", *found[:8]]))
        finally:
            replay.close()
    assert not different, f"{len(different)} differ\n" + "\n".join(different)
