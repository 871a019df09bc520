"""A real cluster as its user handles it: the `twinstack` program, kubectl, and HTTP from inside its namespaces."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from twinstack.cluster.state import ClusterPaths
from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EXAMPLES = ROOT / "examples"
SOAK = 10 if os.environ.get("TWINSTACK_TESTS") == "soak" else 1  # how many times as much as usual
CONNECTING = 2.0  # seconds for a connection, which is the kernels' work alone: a longer gap in the way shows
ANSWERING = 30.0  # seconds for an answer, on a machine that has other things to do
PATIENCE = 60.0  # seconds for what must come


class Cluster:
    """One cluster in a state directory of its own; `down` removes it."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home
        self.paths = ClusterPaths(name, home / name)
        self.prefix: tuple[str, ...] = ()  # of each command: where it runs
        self.environment = {**os.environ, "TWINSTACK_HOME": str(home), "KUBECONFIG": str(self.paths.kubeconfig)}

    def up(self, *flags: str, expect: int = 0) -> str:
        """Run `twinstack up`; returns what it printed, standard error included."""
        return self.twinstack("up", "--name", self.name, "--wait", "60s", *flags, expect=expect)

    def down(self) -> str:
        return self.twinstack("down", "--name", self.name)

    def told_secrets(self) -> list[str]:
        """Keys and tokens of the cluster that stand in its logs, each with the log; for the end of a run."""
        state = self.home / self.name
        logs = [path for path in (state / "logs").glob("*") if path.is_file()]
        files = [path for path in state.rglob("*") if path.is_file() and path not in logs]
        secrets = {found for path in files for found in _secrets(path)}
        return [
            f"{path.name}: {secret[:6]}…"
            for path in logs
            for secret in secrets
            if secret in path.read_text(errors="replace")
        ]

    def twinstack(self, *words: str, expect: int = 0) -> str:
        return self._run([str(BIN / "twinstack"), *words], expect=expect)

    def status(self) -> Any:
        done = subprocess.run(
            [str(BIN / "twinstack"), "status", "--name", self.name, "-o", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return json.loads(done.stdout)

    def kubectl(self, *words: str, stdin: str | None = None, expect: int = 0) -> str:
        return self._run([str(BIN / "kubectl"), *words], stdin=stdin, expect=expect)

    def get(self, *words: str) -> Any:
        """`kubectl get WORDS -o json`."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, manifest: dict[str, Any]) -> Any:
        return json.loads(self.kubectl("apply", "-f", "-", "-o", "json", stdin=json.dumps(manifest)))

    def _run(self, words: list[str], *, stdin: str | None = None, expect: int = 0) -> str:
        done = subprocess.run(
            [*self.prefix, *words],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        out = done.stdout + done.stderr if expect or words[0].endswith("twinstack") else done.stdout
        assert done.returncode == expect, f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return out

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of all who lay a cluster's files."""
        descriptor = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # -- what is in it

    def addresses(self, service: str) -> list[Address]:
        """The cluster addresses of a Service, primary first."""
        texts = self.get("service", service)["spec"].get("clusterIPs") or []
        return [Address.parse(text) for text in texts if text != "None"]

    def node_port(self, service: str) -> int:
        return int(self.get("service", service)["spec"]["ports"][0]["nodePort"])

    def node_addresses(self, index: int) -> list[Address]:
        status = self.get("node", f"{self.name}-{index}")["status"]
        return [Address.parse(a["address"]) for a in status["addresses"] if a["type"] == "InternalIP"]

    def pods(self, label: str = "app=hello") -> list[Any]:
        items = self.get("pods", "-l", label)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def pod_namespaces(self) -> list[Path]:
        """The network namespaces of the example's pods; those of pods that are gone may stay for a moment."""
        found = {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in self.pods()}
        digests = {uid: sha256(f"{node}/{uid}".encode()).hexdigest() for uid, node in found.items()}
        return [namespaces.RUN_DIRECTORY / f"{node}-{digests[uid][:8]}" for uid, node in found.items()]

    def run_hello(self) -> None:
        """Apply the example and wait until all of its pods are ready."""
        self.kubectl("apply", "-f", str(EXAMPLES / "dual-stack.yaml"))
        self.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")

    # -- traffic

    def ask(self, address: Address, port: int = 80, *, namespace: Path | None = None) -> str:
        """Who answers an HTTP request from node 1 (or a namespace). Raises OSError."""
        return namespaces.inside(namespace or self.paths.node(1), lambda: http(address, port)).strip()

    def ask_many(self, address: Address, port: int = 80, *, count: int, namespace: Path | None = None) -> Counter[str]:
        """How often each pod answered."""
        return namespaces.inside(
            namespace or self.paths.node(1),
            lambda: Counter(http(address, port).strip() for _ in range(count)),
        )

    def answers(self, address: Address, port: int = 80, *, namespace: Path | None = None) -> bool:
        try:
            self.ask(address, port, namespace=namespace)
        except OSError:
            return False
        return True

    def is_silent(self, address: Address, port: int = 80) -> bool:
        """Whether node 1 gets no connection, at once or for a moment: who is there takes it within a millisecond."""
        try:
            namespaces.inside(self.paths.node(1), lambda: http(address, port, connecting=0.3))
        except OSError:
            return True
        return False


def _secrets(path: Path) -> list[str]:
    """Lines of private keys, and the keys and tokens of kubeconfigs."""
    if path.suffix == ".key":
        return [line for line in path.read_text().splitlines() if not line.startswith("-----")]
    if "kubeconfig" in str(path):
        return re.findall(r"""(?:client-key-data|token)"?: ?"?([\w+/=.-]{16,})""", path.read_text())
    return []


def http(address: Address, port: int, *, connecting: float = CONNECTING) -> str:
    """The body of an HTTP/1.1 answer. Raises OSError, also for an answer that is not 200."""
    with socket.socket(address.family.af) as connection:
        connection.settimeout(connecting)
        connection.connect((str(address), port))
        connection.settimeout(ANSWERING)
        host = f"[{address}]" if address.family is IPFamily.IPV6 else str(address)
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"not an answer of HTTP: {head[:60]!r}")
    return body.decode()


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE, *, every: float = 0.02) -> T:
    """Wait for a true value and return it; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)


def host_network() -> str:
    """What of the host's network must never change: addresses, routes of both families, firewall."""
    commands = ["ip addr", "ip route show table all", "ip -6 route show table all", "nft list ruleset"]
    texts = [subprocess.run(c.split(), capture_output=True, text=True, check=True).stdout for c in commands]
    return "\n".join(_without_times(text) for text in texts)


def _without_times(text: str) -> str:
    """Lifetimes and expiry of learned addresses count down by themselves."""
    return "\n".join(line for line in text.splitlines() if "valid_lft" not in line)
