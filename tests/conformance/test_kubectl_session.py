"""One session of kubectl 1.36, replayed command by command against server and controllers.

It was recorded with a real kube-apiserver and kube-controller-manager 1.36, two Nodes made by hand, no scheduler
and no kubelet. Exit codes, warnings and output must be the same but for what a cluster chooses freely: addresses,
ports, times, versions and generated names (tests/conformance/terminal.py). Reading is tried again for a moment,
because the controllers work beside it.
"""

from __future__ import annotations

import json
import lzma
import os
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

RECORDING = Path(__file__).with_name("kubectl-session.jsonl.xz")
KUBECTL = Path(sys.executable).with_name("kubectl")
PATIENCE = 1.5  # seconds in which what is read may come to be as recorded
READING = ("get", "describe", "logs", "diff", "cluster-info", "api-resources", "top", "wait")
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

# What the session also did, and this cluster does not do yet or names otherwise: not replayed.
LEFT_OUT = {
    0: "tells versions",
    8: "explain",
    41: "tokens of service accounts",
    42: "authorization",
    43: "authorization",
    66: "authorization",
    67: "authorization",
    68: "authorization",
    75: "leases of leader election, and of servers that are several",
}


class Step(NamedTuple):
    number: int
    args: list[str]
    exit: int
    output: str


def steps() -> Iterator[Step]:
    with lzma.open(RECORDING, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            recorded = json.loads(line)
            if number not in LEFT_OUT:
                yield Step(number, recorded["args"], recorded["exit"], recorded["output"])


class Session:
    def __init__(self, cluster: Bed) -> None:
        self._cluster = cluster
        self._directory = cluster.directory
        self._environment = os.environ | {"HOME": str(cluster.directory), "KUBECONFIG": cluster.kubeconfig}
        for name, text in FILES.items():
            (self._directory / name).write_text(text)

    def run(self, *args: str) -> tuple[int, str]:
        missing = str(self._directory / "nonexistent")
        done = subprocess.run(
            [KUBECTL, *(missing if arg == "/nonexistent" else arg for arg in args)],
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout.decode().replace(missing, "/nonexistent")

    def replay(self, step: Step) -> str:
        """Empty when the answer is as recorded, else what it was."""
        expected = f"exit {step.exit}\n{comparable(step.args, step.output)}"
        end = time.monotonic() + PATIENCE
        while True:
            code, output = self.run(*step.args)
            got = f"exit {code}\n{comparable(step.args, output, port=self._cluster.port)}"
            if got == expected:
                return ""
            if not _only_reads(step.args) or time.monotonic() > end:
                lines = unified_diff(expected.splitlines(), got.splitlines(), "recorded", "here", lineterm="", n=2)
                return "\n".join([f"{step.number}: kubectl {' '.join(step.args)}", *lines, ""])
            time.sleep(0.1)


def _only_reads(args: list[str]) -> bool:
    return args[0] in READING or (args[0] == "rollout" and args[1] in READING_ROLLOUTS)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
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
        cluster.start_controllers()
        uvloop.run(is_up(cluster))
        session = Session(cluster)
        for number in (1, 2):
            make_node(session, f"n{number}", number)
        yield session


async def is_up(cluster: Bed) -> None:
    async with connected(cluster):
        pass


def make_node(session: Session, name: str, number: int) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
    path = session._directory / f"{name}.json"
    path.write_text(json.dumps(node))
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    addresses = [("InternalIP", f"172.30.0.1{number}"), ("InternalIP", f"fd00:30::1{number}"), ("Hostname", name)]
    status = {"conditions": conditions, "addresses": [{"type": t, "address": a} for t, a in addresses]}
    assert session.run("create", "-f", path.name)[0] == 0
    done = session.run("patch", "node", name, "--subresource=status", "-p", json.dumps({"status": status}))
    assert done[0] == 0, done


def test_every_command_answers_as_recorded(session: Session) -> None:
    different = [told for step in steps() if (told := session.replay(step))]
    assert not different, f"{len(different)} differ\n" + "\n".join(different)
