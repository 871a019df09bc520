"""How long `twinstack up` takes until the nodes are ready, until a new pod answers, and what each part weighs.

Runs ROUNDS clusters one after the other, prints medians and writes bench/results/time_to_ready.json. Needs root.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.cluster import Cluster, until  # noqa: E402

from twinstack.cluster.status import proportional_size  # noqa: E402
from twinstack.ip import Address  # noqa: E402

ROUNDS = 5
IDLE = 5.0  # seconds over which the processor time of the last cluster is counted
RESULTS = ROOT / "bench" / "results"

SERVER = """
import socket
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection = listener.accept()[0]
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nhello")
    connection.close()
"""
MANIFESTS: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "bench"},
        "spec": {"ipFamilyPolicy": "PreferDualStack", "selector": {"app": "bench"}, "ports": [{"port": 80}]},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bench", "labels": {"app": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "web",
                    "image": "twinstack.local/host",
                    "command": ["python3", "-IS", "-c"],
                    "args": [SERVER],
                }
            ],
        },
    },
]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def pod_answers(cluster: Cluster) -> float:
    """Seconds from the moment that the pod exists in the API until it answers on both cluster addresses."""
    made = cluster.apply(MANIFESTS[0])
    cluster.apply(MANIFESTS[1])
    started = time.perf_counter()
    for text in made["spec"]["clusterIPs"]:
        address = Address.parse(text)
        for index in (1, 2):
            source = cluster.paths.node(index)
            until(lambda a=address, s=source: cluster.answers(a, namespace=s), f"{text} answers", 10, every=0.005)  # type: ignore[misc]
    return time.perf_counter() - started


def weights(cluster: Cluster) -> dict[str, int]:
    """The proportional set size of every part in KiB."""
    sizes = {part["name"]: proportional_size(part["pid"]) or 0 for part in cluster.status()["parts"]}
    found = subprocess.run(
        ["pgrep", "-f", f"supervise --name {cluster.name}$"], capture_output=True, text=True, check=True
    )
    return {"supervisor": proportional_size(int(found.stdout.split()[0])) or 0, **sizes}


def main() -> int:
    rows: list[dict[str, float]] = []
    parts: dict[str, int] = {}
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as home:
            cluster = Cluster(f"tt-bench-{os.getpid()}", Path(home))
            try:
                row = {"up": timed(cluster.up), "pod": pod_answers(cluster)}
                if number == ROUNDS - 1:
                    time.sleep(IDLE)
                    parts = weights(cluster)
            finally:
                row["down"] = timed(cluster.down)
            rows.append(row)
            print(" ".join(f"{name} {seconds:.2f} s" for name, seconds in row.items()), flush=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    print("median:", " ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items()))
    for name, size in parts.items():
        print(f"{name:<12} {size / 1024:6.1f} MiB")
    print(f"{'all':<12} {sum(parts.values()) / 1024:6.1f} MiB")
    RESULTS.mkdir(exist_ok=True)
    report = {"rounds": rows, "medians": medians, "pssKiB": parts}
    (RESULTS / "time_to_ready.json").write_text(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
