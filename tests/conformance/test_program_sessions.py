"""Sessions of real programs, replayed command by command against server and controllers.

They were recorded with a real kube-apiserver and kube-controller-manager 1.36, two Nodes made by hand, no scheduler
and no kubelet. Exit codes, warnings and output must be the same but for what a cluster chooses freely: addresses,
ports, times, versions and generated names (tests/conformance/terminal.py). Reading is tried again for a moment,
because the controllers work beside it. The programs come with `make clients`.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from tests.conformance.terminal import comparable
from tests.integration.controllers.bed import Bed, connected, empty_bed

SESSIONS = Path(__file__).with_name("sessions")
CHART = Path(__file__).with_name("demo-chart")
PROGRAMS = {
    "kubectl-1.36": Path(sys.executable).with_name("kubectl"),
    "kubectl-1.29": Path(sys.executable).parent.parent / "clients" / "kubectl-1.29",
    "helm-4.2": Path(sys.executable).parent.parent / "clients" / "helm",
}
PATIENCE = 30.0  # seconds in which what is read may come to be as recorded
READING = ("get", "describe", "logs", "diff", "cluster-info", "api-resources", "top", "wait", "status")
READING_ROLLOUTS = ("history", "status")

FILES = {
    "demo.yaml": """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  ipFamilies: [IPv6, IPv4]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: registry.k8s.io/e2e-test-images/agnhost:2.53
        args: [netexec]
        ports: [{containerPort: 8080}]
""",
    "cidr.yaml": """
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: extra}
spec: {cidrs: [10.97.0.0/24, "fd00:97::/120"]}
""",
    "bad.yaml": """
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {ipFamilyPolicyy: PreferDualStack, ports: [{port: "80"}]}
""",
    "dual.yaml": "\n---\n".join(
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]{more}}}\n"
        for name, more in (
            ("d1", ""),
            ("d2", ", ipFamilyPolicy: PreferDualStack"),
            ("d3", ", ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]"),
            ("d4", ", ipFamilies: [IPv6]"),
            ("d5", ", clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {a: b}"),
            ("d6", ", clusterIP: None"),
        )
    ),
}


class Step(NamedTuple):
    number: int
    args: list[str]
    exit: int
    output: str


def steps(session: str) -> Iterator[Step]:
    with lzma.open(SESSIONS / f"{session}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            recorded = json.loads(line)
            yield Step(number, recorded["args"], recorded["exit"], recorded["output"])


class Desk:
    """Where commands are typed: a directory with manifests, and access to the cluster."""

    def __init__(self, cluster: Bed) -> None:
        self.cluster = cluster
        self.directory = cluster.directory
        own = {"HOME": str(cluster.directory), "KUBECONFIG": cluster.kubeconfig, "TERM": "xterm"}  # for its colours
        self._environment = os.environ | own
        for name, text in FILES.items():
            (self.directory / name).write_text(text)
        shutil.copytree(CHART, self.directory / "demo")

    def run(self, program: str, *args: str) -> tuple[int, str]:
        missing = str(self.directory / "nonexistent")
        done = subprocess.run(
            [PROGRAMS[program], *(missing if arg == "/nonexistent" else arg for arg in args)],
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.decode().replace(missing, "/nonexistent")

    def replay(self, program: str, step: Step) -> str:
        """Empty when the answer is as recorded, else what it was."""
        expected = f"exit {step.exit}\n{comparable(step.args, step.output)}"
        end = time.monotonic() + PATIENCE
        while True:
            code, output = self.run(program, *step.args)
            got = f"exit {code}\n{comparable(step.args, output, port=self.cluster.port)}"
            if got == expected:
                return ""
            if not _only_reads(step.args) or time.monotonic() > end:
                lines = unified_diff(expected.splitlines(), got.splitlines(), "recorded", "here", lineterm="", n=2)
                return "\n".join([f"{step.number}: {program} {' '.join(step.args)}", *lines, ""])
            time.sleep(0.1)

    def differences(self, session: str) -> list[str]:
        return [told for step in steps(session) if (told := self.replay(session, step))]


def _only_reads(args: list[str]) -> bool:
    return (
        args[0] in READING
        or (args[:2] == ["-n", "team"] and args[2] == "get")
        or (args[0] == "rollout" and args[1] in READING_ROLLOUTS)
    )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with empty_bed(tmp_path) as cluster:
        cluster.start(
            "server",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            f"--secure-port={cluster.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=10.9.9.9",
            f"--sqlite={tmp_path / 'db'}",
            f"--token-auth-file={tmp_path / 'tokens.csv'}",
            f"--cert-dir={tmp_path}",
        )
        cluster.start_controllers("--leader-elect=true")
        uvloop.run(is_up(cluster))
        desk = Desk(cluster)
        for number in (1, 2):
            make_node(desk, f"n{number}", number)
        yield desk


async def is_up(cluster: Bed) -> None:
    async with connected(cluster):
        pass


def make_node(desk: Desk, name: str, number: int) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
    path = desk.directory / f"{name}.json"
    path.write_text(json.dumps(node))
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    addresses = [("InternalIP", f"172.30.0.1{number}"), ("InternalIP", f"fd00:30::1{number}"), ("Hostname", name)]
    status = {"conditions": conditions, "addresses": [{"type": t, "address": a} for t, a in addresses]}
    assert desk.run("kubectl-1.36", "create", "-f", path.name)[0] == 0
    patch = ["--subresource=status", "-p", json.dumps({"status": status})]
    done = desk.run("kubectl-1.36", "patch", "node", name, *patch)
    assert done[0] == 0, done


def test_kubectl(desk: Desk) -> None:
    """The older one comes second, to what the newer one has left behind."""
    different = desk.differences("kubectl-1.36") + desk.differences("kubectl-1.29")
    assert not different, f"{len(different)} differ\n" + "\n".join(different)


def test_helm(desk: Desk) -> None:
    different = desk.differences("helm-4.2")
    assert not different, f"{len(different)} differ\n" + "\n".join(different)
