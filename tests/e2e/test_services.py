"""Services of every family shape, from nodes and from pods, with unmodified kubectl."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster import BIN, EXAMPLES, SOAK, Cluster, until

from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
REQUESTS = 300 * SOAK
TRIES = 3  # at what takes a second, unless the machine has something else to do meanwhile

SHAPES: dict[str, tuple[str, list[IPFamily]]] = {
    "hello": ("SingleStack", [V4]),
    "hello-prefer": ("PreferDualStack", [V4, V6]),
    "hello-prefer-ipv6": ("PreferDualStack", [V6, V4]),
    "hello-require": ("RequireDualStack", [V4, V6]),
    "hello-ipv6": ("SingleStack", [V6]),
    "hello-nodeport": ("PreferDualStack", [V4, V6]),
    "hello-loadbalancer": ("PreferDualStack", [V4, V6]),
}


@pytest.fixture
def service(dual: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a Service that the test may make."""
    name = request.node.name.split("[")[0].replace("_", "-").removeprefix("test-")[:50].rstrip("-")
    yield name
    dual.kubectl("delete", "service", name, "--ignore-not-found")


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "hello"}, "ports": [{"port": 80, "targetPort": "http"}], **spec},
    }


def families(addresses: list[Address]) -> list[IPFamily]:
    return [address.family for address in addresses]


def test_nodes_and_pods_have_addresses_of_both_families(dual: Cluster) -> None:
    for node in dual.get("nodes")["items"]:
        assert families([Address.parse(block.split("/")[0]) for block in node["spec"]["podCIDRs"]]) == [V4, V6]
        internal = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
        assert families([Address.parse(text) for text in internal]) == [V4, V6]
    pods = dual.pods()
    assert len(pods) == 3
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    for pod in pods:
        status = pod["status"]
        assert status["phase"] == "Running"
        assert families([Address.parse(entry["ip"]) for entry in status["podIPs"]]) == [V4, V6]
        assert status["podIP"] == status["podIPs"][0]["ip"]
        assert status["hostIP"] == status["hostIPs"][0]["ip"]


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_its_families_and_answers_from_every_node(dual: Cluster, name: str) -> None:
    policy, expected = SHAPES[name]
    spec = dual.get("service", name)["spec"]
    assert spec["ipFamilyPolicy"] == policy
    assert spec["ipFamilies"] == expected
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    addresses = dual.addresses(name)
    assert families(addresses) == expected
    pods = {pod["metadata"]["name"] for pod in dual.pods()}
    for address in addresses:
        for index in (1, 2):
            assert dual.ask(address, namespace=dual.paths.node(index)) in pods


@pytest.mark.parametrize("name", ["hello-nodeport", "hello-loadbalancer"])
def test_node_ports_answer_on_every_node_in_both_families(dual: Cluster, name: str) -> None:
    port = dual.node_port(name)
    for index in (1, 2):
        for address in dual.node_addresses(index):
            for source in (dual.paths.node(1), dual.paths.node(2), dual.paths.switch):
                assert dual.answers(address, port, namespace=source), f"{address}:{port} from {source.name}"


@pytest.mark.parametrize("family", [V4, V6])
def test_a_single_stack_node_port_answers_in_its_family_and_no_other(
    dual: Cluster, service: str, family: IPFamily
) -> None:
    dual.apply(manifest(service, type="NodePort", ipFamilies=[family]))
    port = dual.node_port(service)
    for address in dual.node_addresses(2):
        if address.family is family:
            until(lambda address=address: dual.answers(address, port), f"{address}:{port} answers")  # type: ignore[misc]
        else:
            assert not dual.answers(address, port)


def test_load_balancers_wait_for_an_address(dual: Cluster) -> None:
    row = dual.kubectl("get", "service", "hello-loadbalancer", "--no-headers").split()
    assert row[1:4] == ["LoadBalancer", str(dual.addresses("hello-loadbalancer")[0]), "<pending>"]


def test_headless_services_have_a_slice_a_family_and_no_address(dual: Cluster) -> None:
    spec = dual.get("service", "hello-headless")["spec"]
    assert spec["clusterIPs"] == ["None"]
    assert spec["ipFamilies"] == [V4, V6]
    slices = dual.get("endpointslices", "-l", "kubernetes.io/service-name=hello-headless")["items"]
    found = {item["addressType"]: {a for e in item["endpoints"] for a in e["addresses"]} for item in slices}
    pods = [[entry["ip"] for entry in pod["status"]["podIPs"]] for pod in dual.pods()]
    assert found == {V4: {ips[0] for ips in pods}, V6: {ips[1] for ips in pods}}
    manual = dual.get("service", "hello-headless-manual")["spec"]
    assert (manual["ipFamilyPolicy"], manual["ipFamilies"]) == ("RequireDualStack", [V4, V6])
    assert dual.get("endpointslices", "-l", "kubernetes.io/service-name=hello-headless-manual")["items"] == []


@pytest.mark.parametrize("family", [V4, V6])
def test_requests_reach_every_pod(dual: Cluster, family: IPFamily) -> None:
    (address,) = [a for a in dual.addresses("hello-prefer") if a.family is family]
    counts = dual.ask_many(address, count=REQUESTS)
    assert set(counts) == {pod["metadata"]["name"] for pod in dual.pods()}
    assert min(counts.values()) > REQUESTS / 3 / 2  # evenly, as chance goes: far out of ten deviations


def test_pods_reach_every_pod_and_themselves(dual: Cluster) -> None:
    names = {pod["metadata"]["name"] for pod in dual.pods()}
    port = dual.node_port("hello-nodeport")
    for namespace in dual.pod_namespaces():
        for address in dual.addresses("hello-prefer"):
            assert set(dual.ask_many(address, count=60, namespace=namespace)) >= names
        for address in [*dual.node_addresses(1), *dual.node_addresses(2)]:
            assert dual.answers(address, port, namespace=namespace), f"{address}:{port} from {namespace.name}"


def test_the_api_server_answers_pods_at_its_service(dual: Cluster) -> None:
    (address,) = dual.addresses("kubernetes")
    command = ["nsenter", f"--net={dual.pod_namespaces()[0]}", "curl", "-sS", "--max-time", "30"]
    command += ["--cacert", str(dual.paths.pki / "ca.crt"), f"https://{address}/readyz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "ok", done.stderr


def test_curl_of_a_node_over_both_families(dual: Cluster) -> None:
    v4, v6 = dual.addresses("hello-prefer")
    for flag, url in (("-4", f"http://{v4}/"), ("-6", f"http://[{v6}]/")):
        words = ["node-exec", "--name", dual.name, f"{dual.name}-2", "--", "curl", flag, "-sS", "--max-time", "30", url]
        assert dual.twinstack(*words).startswith("hello-")


def test_a_pod_asks_in_a_loop_and_its_log_is_read(dual: Cluster) -> None:
    """The example client, then the same for every address and node port that there is."""
    urls = [_url(address, 80) for name in SHAPES for address in dual.addresses(name)]
    for name in ("hello-nodeport", "hello-loadbalancer"):
        port = dual.node_port(name)
        urls += [_url(address, port) for index in (1, 2) for address in dual.node_addresses(index)]
    script = f"for url in {' '.join(urls)}; do echo $url $(curl -gsS --max-time 30 $url); done; echo done"
    container = {"name": "curl", "image": "twinstack.local/host", "command": ["bash", "-c", script]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "curl-all"},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    dual.kubectl("apply", "-f", str(EXAMPLES / "curl-loop.yaml"))
    try:
        dual.apply(pod)
        log = until(lambda: (text := _log(dual, "curl-all")).endswith("done\n") and text, "the pod has asked all")
        answered = dict(line.split(" ", 1) for line in str(log).splitlines()[:-1])
        assert set(answered) == set(urls)
        assert {url: text for url, text in answered.items() if not text.startswith("hello-")} == {}
        wanted = {"http://10.96.0.80", "http://[fd00:10:96::80]"}
        until(
            lambda: {line.split()[0] for line in _log(dual, "curl-loop").splitlines() if " hello-" in line} == wanted,
            "the loop is answered over both families",
        )
    finally:
        dual.kubectl("delete", "-f", str(EXAMPLES / "curl-loop.yaml"), "--ignore-not-found")
        dual.kubectl("delete", "pod", "curl-all", "--ignore-not-found")


def _url(address: Address, port: int) -> str:
    host = f"[{address}]" if address.family is V6 else str(address)
    return f"http://{host}:{port}"


def _log(cluster: Cluster, pod: str) -> str:
    done = subprocess.run(
        [str(BIN / "kubectl"), "logs", pod],
        env={**os.environ, "KUBECONFIG": str(cluster.paths.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_second_family_comes_and_goes_within_a_second(dual: Cluster, service: str) -> None:
    dual.apply(manifest(service))
    (first,) = dual.addresses(service)
    until(lambda: dual.answers(first), "the first address answers")

    def come_and_go() -> Address:
        dual.kubectl("patch", "service", service, "-p", json.dumps({"spec": {"ipFamilyPolicy": "PreferDualStack"}}))
        patched = time.monotonic()
        same, second = dual.addresses(service)
        assert (same, second.family) == (first, V6)
        until(lambda: dual.answers(second), "the second address answers")
        took = time.monotonic() - patched
        dual.kubectl("patch", "service", service, "-p", json.dumps({"spec": {"ipFamilyPolicy": "SingleStack"}}))
        patched = time.monotonic()
        until(lambda: dual.is_silent(second), "the second address is silent")
        times.append(max(took, time.monotonic() - patched))
        assert dual.addresses(service) == [first]
        assert dual.answers(first)
        return second

    times: list[float] = []
    second = come_and_go()
    while times[-1] > 1:
        assert len(times) < TRIES, times
        second = come_and_go()
    again = manifest(f"{service}-again", clusterIP=str(second), ipFamilies=[V6])
    try:
        assert dual.apply(again)["spec"]["clusterIPs"] == [str(second)]
    finally:
        dual.kubectl("delete", "service", f"{service}-again", "--ignore-not-found")


def test_a_new_pod_behind_a_new_service_answers_within_a_second(dual: Cluster, service: str) -> None:
    deployment = dual.get("deployment", "hello")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lonely", "labels": {"app": "lonely"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }

    def come() -> float:
        try:
            spec = dual.apply(manifest(service, selector={"app": "lonely"}, ipFamilyPolicy="RequireDualStack"))["spec"]
            started = time.monotonic()
            dual.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
            for address in map(Address.parse, spec["clusterIPs"]):
                until(lambda address=address: dual.answers(address), f"{address} answers")  # type: ignore[misc]
            return time.monotonic() - started
        finally:
            dual.kubectl("delete", f"service/{service}", "pod/lonely", "--ignore-not-found")

    times = [come()]
    while times[-1] > 1.5:  # half a second of it is kubectl's own
        assert len(times) < TRIES, times
        times.append(come())


UDP_ECHO = """
import os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("::", 5353))
while True:
    data, peer = server.recvfrom(2048)
    server.sendto(data.upper(), peer)
"""


def test_udp_is_answered_in_both_families(dual: Cluster, service: str) -> None:
    container = {"name": "echo", "image": "twinstack.local/host", "command": ["python3", "-IS", "-c", UDP_ECHO]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "udp-echo", "labels": {"app": "udp-echo"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    ports = [{"protocol": "UDP", "port": 53, "targetPort": 5353}]
    spec = {"selector": {"app": "udp-echo"}, "ports": ports, "type": "NodePort", "ipFamilyPolicy": "RequireDualStack"}
    try:
        dual.apply(pod)
        dual.apply(manifest(service, **spec))
        targets = [(address, 53) for address in dual.addresses(service)]
        targets += [(address, dual.node_port(service)) for index in (1, 2) for address in dual.node_addresses(index)]
        for address, port in targets:
            for source in (dual.paths.node(1), dual.paths.node(2), dual.pod_namespaces()[0]):
                until(
                    lambda a=address, p=port, s=source: namespaces.inside(s, lambda: udp(a, p)) == b"HELLO",  # type: ignore[misc]
                    f"UDP {address} port {port} answers {source.name}",
                )
    finally:
        dual.kubectl("delete", "pod", "udp-echo", "--ignore-not-found")


def udp(address: Address, port: int) -> bytes:
    """What comes back for `hello`; empty when nothing does."""
    with socket.socket(address.family.af, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        try:
            client.connect((str(address), port))
            client.send(b"hello")
            return client.recv(2048)
        except OSError:
            return b""


def test_a_service_without_pods_refuses_at_once(dual: Cluster, service: str) -> None:
    dual.apply(manifest(service, type="NodePort", ipFamilyPolicy="RequireDualStack", selector={"app": "nobody"}))
    targets = [(address, 80) for address in dual.addresses(service)]
    targets += [(address, dual.node_port(service)) for address in dual.node_addresses(2)]
    for address, port in targets:
        until(lambda a=address, p=port: refused(dual, a, p), f"{address} port {port} refuses")  # type: ignore[misc]


def refused(cluster: Cluster, address: Address, port: int) -> bool:
    try:
        cluster.ask(address, port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    raise AssertionError(f"{address} port {port} answers")


def test_a_deleted_service_is_silent_and_its_addresses_are_free(dual: Cluster, service: str) -> None:
    spec = dual.apply(manifest(service, ipFamilyPolicy="RequireDualStack"))["spec"]
    addresses = dual.addresses(service)
    for address in addresses:
        until(lambda address=address: dual.answers(address), f"{address} answers")  # type: ignore[misc]
    dual.kubectl("delete", "service", service)
    for address in addresses:
        until(lambda address=address: dual.is_silent(address), f"{address} is silent")  # type: ignore[misc]
    spec = dual.apply(
        manifest(service, ipFamilyPolicy="RequireDualStack", clusterIP=spec["clusterIP"], clusterIPs=spec["clusterIPs"])
    )["spec"]
    assert spec["clusterIPs"] == [str(address) for address in addresses]
