"""A real API server as a subprocess, with controllers and a scheduler beside it, for tests without nodes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twinstack.api.apps import Deployment
from twinstack.api.core import Pod
from twinstack.api.discovery import EndpointSlice
from twinstack.api.kinds import DEPLOYMENTS, ENDPOINT_SLICES, NODES, PODS
from twinstack.api.times import now
from twinstack.client import kubeconfig
from twinstack.client.rest import Client

T = TypeVar("T")

TOKEN = "bed"
WITHOUT_ACCOUNTS = ("--disable-admission-plugins=ServiceAccount",)  # where no controller makes them
CLUSTER_CIDR = "10.244.0.0/16,fd00:10:244::/56"
SERVICE_CIDR = "10.96.0.0/16,fd00:10:96::/112"


class Bed:
    """Processes by name, each with a log file in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = str(directory / "kubeconfig")
        self.port = _free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (directory / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        (directory / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n…\n", "utf-8")
        cluster = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        document = {
            "current-context": "bed",
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": "bed", "user": {"token": TOKEN}}],
        }
        Path(self.kubeconfig).write_text(json.dumps(document))

    def start(self, name: str, *flags: str) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        program = [sys.executable, "-m", "twinstack.cli.main", name, *flags]
        with log:
            self.processes[name] = subprocess.Popen(program, stdout=log, stderr=log)

    def start_server(self, *flags: str) -> None:
        self.start(
            "server",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--sqlite={self.directory / 'db'}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            f"--cert-dir={self.directory}",
            *flags,
        )

    def start_controllers(self, *flags: str) -> None:
        root = self.directory / "root.pem"
        root.write_text("PEM")
        self.start(
            "controllers",
            f"--kubeconfig={self.kubeconfig}",
            f"--cluster-cidr={CLUSTER_CIDR}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--root-ca-file={root}",
            "--leader-elect=false",
            *flags,
        )

    def start_scheduler(self) -> None:
        self.start("scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false")

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.processes.pop(name)
        process.send_signal(number)
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def client(self) -> Client:
        return Client(kubeconfig.load(self.kubeconfig), user_agent="bed")


@contextmanager
def bed(directory: Path, *, server_only: bool = False) -> Iterator[Bed]:
    """A server with controllers and scheduler, started together as a cluster starts them."""
    with empty_bed(directory) as it:
        it.start_server(*(WITHOUT_ACCOUNTS if server_only else ()))
        if not server_only:
            it.start_controllers()
            it.start_scheduler()
        yield it


@contextmanager
def empty_bed(directory: Path) -> Iterator[Bed]:
    """Nothing runs yet; at the end nothing does any more."""
    it = Bed(directory)
    try:
        yield it
    finally:
        for process in it.processes.values():
            process.kill()
        for process in it.processes.values():
            process.wait()


@asynccontextmanager
async def connected(it: Bed) -> AsyncIterator[Client]:
    """A client, once the server is ready."""
    client = it.client()
    try:
        await eventually(lambda: client.request("GET", "/readyz"), lambda _: True)
        yield client
    finally:
        await client.close()


async def eventually(
    read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], timeout: float = 60, pause: float = 0.01
) -> T:
    """Read until the answer holds; gives it. A refusal counts as not yet."""
    end = time.monotonic() + timeout
    last: object = None
    while time.monotonic() < end:
        try:
            last = answer = await read()
            if holds(answer):
                return answer
        except Exception as error:  # noqa: BLE001 (whatever it is, the time-out will show it)
            last = error
        await asyncio.sleep(pause)
    raise AssertionError(f"not within {timeout} s; last: {last}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def make_node(client: Client, name: str, **spec: Any) -> None:
    """A Node as a kubelet would register it, ready."""
    await client.create(NODES, {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec})
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now()}]
    status = {"conditions": conditions, "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}}
    await client.patch(NODES, name, "", {"status": status}, subresource="status")


async def turn_ready(client: Client, pod: Pod, *ips: str, ready: bool = True) -> None:
    """What a kubelet reports of a Pod whose containers run and answer."""
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now()}
    pod_ips = [{"ip": ip} for ip in ips] + [{"$patch": "replace"}]  # else the merge would add to what is there
    status = {"phase": "Running", "podIP": ips[0], "podIPs": pod_ips, "conditions": [condition]}
    meta = pod.metadata
    await client.patch(PODS, meta.name, meta.namespace, {"status": status}, subresource="status")


def deployment(name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "twinstack.local/host"}], "terminationGracePeriodSeconds": 0},
    }
    fields = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template} | spec
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": fields}


async def pods_of(client: Client, app: str) -> list[Pod]:
    return (await client.list(PODS, "default", label_selector=f"app={app}"))[0]


async def slices_of(client: Client, service: str) -> list[EndpointSlice]:
    selector = f"kubernetes.io/service-name={service}"
    return (await client.list(ENDPOINT_SLICES, "default", label_selector=selector))[0]


async def deployment_of(client: Client, name: str) -> Deployment:
    return await client.get(DEPLOYMENTS, name, "default")


def memory(pid: int) -> int:
    """Proportional set size in KB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError(pid)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
