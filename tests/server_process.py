"""`twinstack server` as a process, and clients that talk to it as plainly as can be."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JSON = dict[str, Any]

KUBECTL = Path(sys.executable).with_name("kubectl")
DEADLINE = 60.0  # seconds until a server must be ready
TOKEN = "sesame"
HOST = "127.0.0.1"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """A server with its state in one directory; starts and ends as often as wanted."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.flags = flags
        self.prefix: list[str] = []  # words before the command
        tokens = directory / "tokens.csv"
        tokens.write_text(f'{TOKEN},admin,1,"system:masters"\n')
        self.certificate = directory / "certificates" / "apiserver.crt"

    def command(self) -> list[str]:
        return [
            *self.prefix,
            *(sys.executable, "-m", "twinstack.cli.main", "server"),
            *("--sqlite", str(self.directory / "state.db"), "--secure-port", str(self.port)),
            *("--service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112", "--bind-address", HOST),
            *("--token-auth-file", str(self.directory / "tokens.csv"), "--cert-dir", str(self.certificate.parent)),
            *("--disable-admission-plugins", "ServiceAccount"),  # there is no controller that makes accounts
            *self.flags,
        ]

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.directory / "log").open("ab") as log, subprocess.Popen(self.command(), stderr=log) as process:
            try:
                self._wait(process)
                yield process
            finally:
                process.kill()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and process.poll() is None:
            try:
                if self.get("/readyz") == b"ok":
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"not ready:\n{self.log()}")

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self.certificate)) if self.certificate.exists() else None

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(f"https://{HOST}:{self.port}{path}", headers=AUTHORIZED)
        with urllib.request.urlopen(request, timeout=DEADLINE, context=self.context()) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> JSON:
        decoded: JSON = json.loads(self.get(path))
        return decoded

    @contextmanager
    def client(self) -> Iterator[Client]:
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=DEADLINE, context=self.context())
        try:
            connection.connect()
            yield Client(connection)
        finally:
            connection.close()

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        flags = ["--server", f"https://{HOST}:{self.port}", "--token", TOKEN]
        flags += ["--certificate-authority", str(self.certificate), "--cache-dir", str(self.directory / "cache")]
        environment = os.environ | {"KUBECONFIG": "/dev/null"}
        return subprocess.run(
            [KUBECTL, *flags, *words], input=stdin, env=environment, capture_output=True, text=True, check=check
        )


class Client:
    """One connection that is kept. Raises OSError or http.client.HTTPException when it breaks."""

    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        self._connection = connection
        self.port = int(connection.sock.getsockname()[1])  # of its own end

    def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, JSON]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, AUTHORIZED | {"Content-Type": content_type})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def lines(self, path: str) -> Iterator[JSON]:
        """The events of a watch, until its connection ends."""
        self._connection.request("GET", path, headers=AUTHORIZED)
        answer = self._connection.getresponse()
        assert answer.status == 200, answer.read()
        while line := answer.readline():
            yield json.loads(line)
