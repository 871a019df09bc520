"""Parts are killed one at a time: traffic goes on, the part comes back and catches up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.e2e.cluster import SOAK, Cluster, http, until
from tests.e2e.test_services import manifest

from twinstack.ip import Address
from twinstack.linux import namespaces


@pytest.fixture(params=range(SOAK), autouse=True)
def again(request: pytest.FixtureRequest) -> int:
    """Each test that many times."""
    return int(request.param)


class Traffic:
    """Asks addresses over and over from node 1, each request on a connection of its own."""

    def __init__(self, cluster: Cluster, addresses: list[Address]) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._addresses = addresses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(cluster,))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, cluster: Cluster) -> None:
        namespaces.enter(cluster.paths.node(1))
        while not self._stop.wait(0.01):
            for address in self._addresses:
                try:
                    http(address, 80)
                    self.answered += 1
                except OSError as error:
                    self.failures.append(f"{address}: {error}")


@pytest.fixture
def traffic(dual: Cluster) -> Iterator[Traffic]:
    """Requests over both families all through a test; none may fail."""
    with Traffic(dual, dual.addresses("hello-prefer")) as running:
        until(lambda: running.answered > 10, "traffic flows")
        yield running
        seen = running.answered
        until(lambda: running.answered > seen + 10, "traffic flows at the end")
    assert running.failures == []


def kill(cluster: Cluster, name: str) -> None:
    """Kill a part and wait until another process has taken its place."""
    before = part(cluster, name)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: part(cluster, name)["pid"] not in (None, before["pid"]), f"{name} is started again")
    after = part(cluster, name)
    assert after["restarts"] == before["restarts"] + 1
    assert after["lastExit"] == "killed by SIGKILL"


def part(cluster: Cluster, name: str) -> Any:
    (found,) = [entry for entry in cluster.status()["parts"] if entry["name"] == name]
    return found


def check_convergence(cluster: Cluster, name: str) -> None:
    """A new Service answers from both nodes."""
    cluster.kubectl("delete", "service", name, "--ignore-not-found")
    made = cluster.apply(manifest(name, ipFamilyPolicy="RequireDualStack"))
    try:
        for text in made["spec"]["clusterIPs"]:
            address = Address.parse(text)
            for index in (1, 2):
                source = cluster.paths.node(index)
                ask: Callable[[], bool] = lambda a=address, s=source: cluster.answers(a, namespace=s)  # type: ignore[misc]  # noqa: E731
                until(ask, f"{text} answers from {source.name}")
    finally:
        cluster.kubectl("delete", "service", name)


@pytest.mark.usefixtures("traffic")
def test_the_server_comes_back_with_all_it_knew(dual: Cluster) -> None:
    before = {item["metadata"]["uid"] for item in dual.get("services,pods,nodes")["items"]}
    kill(dual, "server")
    until(lambda: not dual.status()["apiError"], "the API server answers")
    assert {item["metadata"]["uid"] for item in dual.get("services,pods,nodes")["items"]} == before
    check_convergence(dual, "after-server")


@pytest.mark.usefixtures("traffic")
def test_traffic_goes_on_without_controllers(dual: Cluster) -> None:
    kill(dual, "controllers")
    check_convergence(dual, "after-controllers")


@pytest.mark.usefixtures("traffic")
def test_the_controllers_catch_up_with_what_they_missed(dual: Cluster) -> None:
    kill(dual, "controllers")
    try:
        dual.kubectl("scale", "deployment/hello", "--replicas=4")
        dual.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
        address = dual.addresses("hello")[0]
        until(lambda: len(dual.ask_many(address, count=60)) == 4, "the new pod is asked, too")
    finally:
        dual.kubectl("scale", "deployment/hello", "--replicas=3")
    until(lambda: len(dual.pods()) == 3, "one pod is gone")
    until(lambda: len(dual.ask_many(address, count=60)) == 3, "it is asked no more")


@pytest.mark.usefixtures("traffic")
def test_the_scheduler_comes_back(dual: Cluster) -> None:
    kill(dual, "scheduler")
    run_pod(dual, "after-scheduler")


@pytest.mark.usefixtures("traffic")
def test_the_proxy_catches_up_without_a_gap(dual: Cluster) -> None:
    kill(dual, "proxy-1")
    check_convergence(dual, "after-proxy")


@pytest.mark.usefixtures("traffic")
def test_pods_outlive_their_node_agent(dual: Cluster) -> None:
    before = containers(dual)
    kill(dual, "node-1")
    until(lambda: dual.status()["healthy"], "both nodes are ready")
    run_pod(dual, "after-node", node=f"{dual.name}-1")
    assert containers(dual) == before


def containers(cluster: Cluster) -> dict[str, Any]:
    """Which container of each pod runs, and how often it was started again."""
    return {
        pod["metadata"]["name"]: [(c["containerID"], c["restartCount"]) for c in pod["status"]["containerStatuses"]]
        for pod in cluster.pods()
    }


def run_pod(cluster: Cluster, name: str, node: str = "") -> None:
    """A new pod is scheduled (or bound by hand), and runs."""
    container = {"name": "sleep", "image": "twinstack.local/host", "command": ["sleep", "60"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], **({"nodeName": node} if node else {})}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    try:
        until(lambda: cluster.get("pod", name)["status"]["phase"] == "Running", f"{name} runs")
    finally:
        cluster.kubectl("delete", "pod", name)
