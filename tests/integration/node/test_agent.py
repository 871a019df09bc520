"""The node agent beside a real API server."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import time
from typing import Any

from tests.integration.node.machine import IMAGE, LOOP, NODE, NODE_IPS, SOON, Machine, is_running, waiting_reason

from twinstack.api.errors import StatusError
from twinstack.api.kinds import CSI_NODES, LEASES, NODES
from twinstack.client.rest import Client
from twinstack.linux import namespaces


def test_the_node_says_what_it_is(machine: Machine) -> None:
    node = machine.do(lambda client: client.get(NODES, NODE))
    assert [(a.type, a.address) for a in node.status.addresses] == [
        ("InternalIP", NODE_IPS[0]),
        ("InternalIP", NODE_IPS[1]),
        ("Hostname", NODE),
    ]
    assert {c.type: c.status for c in node.status.conditions} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "Ready": "True",
    }
    assert node.metadata.labels["kubernetes.io/hostname"] == NODE
    assert node.status.capacity["pods"] == "110"
    assert node.status.capacity.keys() == node.status.allocatable.keys()
    assert [(handler.name, sorted(handler.features)) for handler in node.status.runtime_handlers] == [
        ("", ["recursiveReadOnlyMounts", "userNamespaces"])
    ]
    assert node.status.declared_features == [
        "ExtendWebSocketsToKubelet",
        "InPlacePodLevelResourcesVerticalScaling",
        "InPlacePodVerticalScalingInitContainers",
    ]
    assert node.status.daemon_endpoints.kubelet_endpoint.port == 10250
    owned = machine.do(lambda client: client.get(CSI_NODES, NODE)).metadata.owner_references
    assert [(owner.kind, owner.uid) for owner in owned] == [("Node", node.metadata.uid)]


def test_a_pod_runs_with_an_address_of_each_family(machine: Machine) -> None:
    machine.make("web", f"echo $HOSTNAME; hostname; {LOOP}")
    pod = machine.pod("web", is_running, "running")
    addresses = [entry.ip for entry in pod.status.pod_ips]
    assert [ip.rpartition(".")[0] or ip.rpartition("::")[0] for ip in addresses] == ["10.244.1", "fd00:10:244:1"]
    assert (pod.status.pod_ip, pod.status.host_ip) == (addresses[0], NODE_IPS[0])
    assert [entry.ip for entry in pod.status.host_ips] == list(NODE_IPS)
    assert pod.status.phase == "Running"
    assert machine.logged("web", "up\n").splitlines()[:3] == ["web", "web", "up"]
    assert machine.log("web", "?tailLines=1&timestamps=true").endswith("Z up\n")
    machine.delete("web")
    machine.gone("web")
    assert not (machine.root / "pods" / pod.metadata.uid).exists()
    assert not list((machine.root / "leases").glob(f"{pod.metadata.uid}:*"))


def test_a_pod_that_ends(machine: Machine) -> None:
    machine.make("job", "echo done; exit 0", restart_policy="Never")
    pod = machine.pod("job", lambda pod: pod.status.phase == "Succeeded", "success")
    assert pod.status.container_statuses[0].state.terminated is not None
    assert pod.status.pod_ips
    assert machine.log("job") == "done\n"
    assert not list((machine.root / "leases").glob(f"{pod.metadata.uid}:*"))  # its addresses are free again
    machine.delete("job")
    machine.gone("job")


def test_a_pod_that_crashes(machine: Machine) -> None:
    machine.make("crash", "echo run; exit 3")
    pod = machine.pod("crash", lambda pod: waiting_reason(pod) == "CrashLoopBackOff", "a crash loop")
    status = pod.status.container_statuses[0]
    assert (pod.status.phase, status.restart_count) == ("Running", 1)
    assert status.last_state.terminated is not None
    assert status.last_state.terminated.exit_code == 3
    assert "back-off 10s restarting failed container=c pod=crash_default(" in (status.state.waiting or status).message  # type: ignore[union-attr]
    assert machine.log("crash", "?previous=true") == "run\n"
    machine.delete("crash")
    machine.gone("crash")


def test_what_cannot_run_says_so(machine: Machine) -> None:
    machine.make("image", "true", image="nginx:1")
    pod = machine.pod("image", lambda pod: waiting_reason(pod) == "ImagePullBackOff", "ImagePullBackOff")
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    assert waiting.message.startswith('Back-off pulling image "nginx:1": ErrImagePull: failed to pull and unpack image')
    assert "`twinstack image load FILE`" in waiting.message
    machine.make("volume", "true", volumes=[{"name": "v", "nfs": {"server": "fd00::1", "path": "/"}}])
    pod = machine.pod("volume", lambda pod: bool(waiting_reason(pod)), "waiting")
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting is not None
    assert waiting.reason == "ContainerCreating"
    assert 'volume "v": this node has no nfs volumes' in waiting.message
    assert pod.status.phase == "Pending"
    for name in ("image", "volume"):
        machine.delete(name)
        machine.gone(name)


def test_grace(machine: Machine) -> None:
    machine.make("deaf", "echo up; sleep 100 & sleep 100")
    machine.pod("deaf", is_running, "running")
    begin = time.monotonic()
    machine.delete("deaf", grace=1)
    machine.gone("deaf")
    assert 0.9 < time.monotonic() - begin < 30  # the usual grace


def test_pods_outlive_the_agent_and_are_taken_up(machine: Machine) -> None:
    machine.make("stays", LOOP)
    machine.make("goes", LOOP)
    machine.make("ends", "echo up; sleep 0.5; exit 0", restart_policy="Never")
    before = machine.pod("stays", is_running, "running")
    gone = machine.pod("goes", is_running, "running")
    machine.pod("ends", is_running, "running")
    machine.kill_agent(signal.SIGKILL)
    machine.delete("goes", grace=0)  # the server lets it go at once
    machine.gone("goes")
    time.sleep(0.6)
    machine.start_agent()
    machine.pod("ends", lambda pod: pod.status.phase == "Succeeded", "success seen after the restart")
    after = machine.pod("stays", is_running, "running")
    assert after.status == before.status
    until = time.monotonic() + SOON
    while any(list((machine.root / kind).glob(f"{gone.metadata.uid}*")) for kind in ("pods", "leases")):
        assert time.monotonic() < until, "what is left of a deleted pod stays"
        time.sleep(0.05)
    machine.kill_agent(signal.SIGTERM)
    machine.start_agent()
    machine.delete("stays")
    machine.gone("stays")
    machine.delete("ends")
    machine.gone("ends")


def test_a_crash_of_the_container_is_seen_by_the_next_agent(machine: Machine) -> None:
    machine.make("again", "echo up; sleep 0.4; exit 1")
    machine.pod("again", is_running, "running")
    machine.kill_agent(signal.SIGKILL)
    time.sleep(0.6)
    machine.start_agent()
    pod = machine.pod("again", lambda pod: pod.status.container_statuses[0].restart_count > 0, "a restart")
    assert pod.status.container_statuses[0].last_state.terminated is not None
    machine.delete("again")
    machine.gone("again")


def test_the_lease_is_renewed(machine: Machine) -> None:
    async def look(client: Client) -> bool | None:
        try:
            lease = await client.get(LEASES, NODE, "kube-node-lease")
        except StatusError:
            return None
        assert lease.spec.holder_identity == NODE
        return lease.spec.renew_time is not None or None

    assert machine.wait(look, "the Lease")


def test_the_kubelet_api_asks_the_api_server(machine: Machine) -> None:
    async def token(client: Client) -> str:
        path = "/api/v1/namespaces/default/serviceaccounts"
        await client.request("POST", path, b'{"kind":"ServiceAccount","metadata":{"name":"looks"}}')
        role = {"rules": [{"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]}]}
        subject = {"kind": "ServiceAccount", "name": "looks", "namespace": "default"}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looks"}
        for plural, fields in (
            ("clusterroles", role),
            ("clusterrolebindings", {"roleRef": ref, "subjects": [subject]}),
        ):
            body = json.dumps({"metadata": {"name": "looks"}} | fields).encode()
            await client.request("POST", f"/apis/rbac.authorization.k8s.io/v1/{plural}", body)
        return str(json.loads(await client.request("POST", f"{path}/looks/token", b'{"spec":{}}'))["status"]["token"])

    def ask(target: str, secret: str = "") -> bytes:
        context = ssl.create_default_context(cafile=str(machine.directory / "ca.crt"))
        with (
            socket.create_connection((NODE_IPS[1], 10250), timeout=SOON) as plain,
            context.wrap_socket(plain, server_hostname=NODE_IPS[1]) as secure,
        ):
            secure.settimeout(SOON)
            secure.sendall(f"GET {target} HTTP/1.0\r\nHost: x\r\n{secret}\r\n".encode())
            return secure.makefile("rb").readline()

    def answer(target: str, secret: str = "") -> bytes:
        return namespaces.inside(machine.namespace, lambda: ask(target, secret)).split()[1]

    assert answer("/pods") == b"401"
    assert answer("/pods", "Authorization: Bearer x\r\n") == b"401"
    known = f"Authorization: Bearer {machine.do(token)}\r\n"
    assert answer("/pods", known) == b"403"
    assert answer("/stats/summary", known) == b"200"


def test_last_words(machine: Machine) -> None:
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    script = "for i in $(seq 200); do echo line $i; done; exit 1"
    machine.create("log", {"command": ["sh", "-c", script], **fallback}, restartPolicy="Never")
    machine.create(
        "file",
        {"command": ["sh", "-c", f"echo bye > /dev/termination-log; {script}"], **fallback},
        restartPolicy="Never",
        securityContext={"runAsUser": 1000},
    )
    machine.create("silent", {"command": ["sh", "-c", script]}, restartPolicy="Never")
    messages = {}
    for name in ("log", "file", "silent"):
        pod = machine.pod(name, lambda pod: pod.status.phase == "Failed", "failure")
        ended = pod.status.container_statuses[0].state.terminated
        assert ended is not None
        messages[name] = ended.message
    assert str(messages["log"]).splitlines()[0::79] == ["line 121", "line 200"]
    assert messages["file"] == "bye\n"
    assert not messages["silent"]
    machine.end("log", "file", "silent")


def test_what_a_node_and_its_pods_use(machine: Machine) -> None:
    spins = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; touch /tmp/ready; while :; do sleep 1; done"
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", spins], "readinessProbe": probe}
    machine.create("busy", container | {"resources": {"limits": {"memory": "64Mi"}}})
    uid = machine.pod("busy", is_running, "readiness").metadata.uid

    def told(path: str) -> str:
        return machine.do(lambda client: client.request("GET", f"/api/v1/nodes/{NODE}/proxy/{path}")).decode()

    def summary(query: str = "") -> dict[str, Any]:
        return dict(json.loads(told(f"stats/summary{query}")))

    found = summary()
    pod = next(each for each in found["pods"] if each["podRef"]["uid"] == uid)
    (used,) = pod["containers"]
    assert pod["podRef"] == {"name": "busy", "namespace": "default", "uid": uid}
    for each in (used, pod, found["node"]):
        assert each["cpu"]["usageCoreNanoSeconds"] > 10_000_000
        assert 0 < each["memory"]["workingSetBytes"] <= each["memory"]["usageBytes"]
    assert used["memory"]["availableBytes"] + used["memory"]["workingSetBytes"] == 64 << 20
    assert [each["name"] for each in pod["network"]["interfaces"]] == ["eth0"]
    assert found["node"]["fs"]["capacityBytes"] > found["node"]["fs"]["usedBytes"] > 0
    brief = summary("?only_cpu_and_memory=true")
    assert all("network" not in each for each in (brief["node"], *brief["pods"]))

    labels = 'container="c",namespace="default",pod="busy"'
    assert re.search(rf"^container_cpu_usage_seconds_total{{{labels}}} \S+ \d{{13}}$", told("metrics/resource"), re.M)
    lines = told("metrics/cadvisor")
    assert re.search(rf'^container_memory_working_set_bytes{{container="c",id="/\S+/pod{uid}/\w{{64}}",', lines, re.M)
    assert re.search(r'^container_network_receive_bytes_total{container="",.*interface="eth0",', lines, re.M)
    counted = f'{labels},pod_uid="{uid}",probe_type="Readiness",result="successful"}} '
    assert f"prober_probe_total{{{counted}" in told("metrics/probes")
    shown = json.loads(told("configz"))["kubeletconfig"]
    assert (shown["authorization"]["mode"], shown["syncFrequency"], shown["port"]) == ("Webhook", "1s", 10250)
    machine.end("busy", grace=1)
    assert uid not in told("metrics/probes")
