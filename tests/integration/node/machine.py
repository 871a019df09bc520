"""A node agent beside a real API server, both processes in one namespace; tests bind pods and give podCIDRs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from twinstack.api.core import Container, Pod, PodSpec
from twinstack.api.errors import StatusError
from twinstack.api.kinds import EVENTS, NODES, PODS, Kind
from twinstack.api.meta import ObjectMeta
from twinstack.client import kubeconfig
from twinstack.client.rest import MERGE, Client
from twinstack.cluster.policy import ADMINS, manifest
from twinstack.ip import Address
from twinstack.linux import addresses, links, namespaces, netlink
from twinstack.node.cleanup import remove_everything
from twinstack.pki.ca import CertificateAuthority
from twinstack.pki.signatures import new_key

PREFIX = f"tt-F-{os.getpid()}"
NODE, NODE_IPS, SERVER_IPS = "n1", ("172.30.0.11", "fd00:30::11"), ("172.30.0.1", "fd00:30::1")
POD_CIDRS = ["10.244.1.0/24", "fd00:10:244:1::/64"]
IMAGE = "twinstack.local/host"
SOON = 60.0  # seconds that anything may take on a busy machine
LOOP = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"

T = TypeVar("T")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Machine:
    """An API server and a node agent as processes, and a client of the server."""

    def __init__(self, directory: Path, family: str = "dual") -> None:
        self.directory = directory
        self.pod_cidrs = [POD_CIDRS[1]] if family == "ipv6" else POD_CIDRS
        self.node_ips = NODE_IPS[1:] if family == "ipv6" else NODE_IPS
        self.server_ip = SERVER_IPS[family == "ipv6"]
        self.service_cidr = "fd00:10:96::/112" if family == "ipv6" else "10.96.0.0/16,fd00:10:96::/112"
        self.namespace = namespaces.RUN_DIRECTORY / f"{PREFIX}-node"
        self.port = free_port()
        self.server: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.agent_flags: list[str] = []

    def start(self) -> None:
        namespaces.create(self.namespace, _addresses)
        self._certificates()
        files = {name: str(self.directory / name) for name in ("ca.crt", "server.crt", "server.key")}
        self.server = self._run(
            "server",
            *(f"--service-cluster-ip-range={self.service_cidr}", f"--secure-port={self.port}"),
            *(f"--network-namespace={self.namespace}", f"--advertise-address={self.server_ip}"),
            *(f"--sqlite={self.directory / 'db'}", f"--client-ca-file={files['ca.crt']}"),
            *(f"--tls-cert-file={files['server.crt']}", f"--tls-private-key-file={files['server.key']}"),
            *(f"--kubelet-client-certificate={self.directory / 'apiserver.crt'}",),
            *(f"--kubelet-client-key={self.directory / 'apiserver.key'}",),
            f"--kubelet-certificate-authority={files['ca.crt']}",
            f"--service-account-signing-key-file={self.directory / 'sa.key'}",
            f"--rbac-manifest={self.directory / 'policy.json'}",
            "--disable-admission-plugins=ServiceAccount",  # there is no controller that makes accounts
        )
        self.start_agent()

    def start_agent(self) -> None:
        self.agent = self._run(
            "node",
            *(f"--kubeconfig={self.directory / 'node.json'}", f"--node-ip={','.join(self.node_ips)}"),
            *(f"--hostname-override={NODE}", f"--root-dir={self.root}", f"--runtime-dir={self.directory / 'run'}"),
            *(f"--netns-prefix={PREFIX}", "--sync-frequency=1", "--non-masquerade-cidr=10.244.0.0/16,fd00:10:244::/56"),
            *(f"--tls-cert-file={self.directory / 'kubelet.crt'}",),
            *(f"--tls-private-key-file={self.directory / 'kubelet.key'}",),
            f"--client-ca-file={self.directory / 'ca.crt'}",
            *self.agent_flags,
            inside=self.namespace,
        )

    def stop(self) -> None:
        for process in (self.agent, self.server):
            if process is not None:
                process.kill()
                process.wait()
        assert remove_everything(self.root, PREFIX) == 0
        namespaces.remove(self.namespace)
        with suppress(FileNotFoundError):
            assert [name for name in os.listdir(namespaces.RUN_DIRECTORY) if name.startswith(PREFIX)] == []

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def kill_agent(self, number: signal.Signals) -> None:
        assert self.agent is not None
        self.agent.send_signal(number)
        self.agent.wait()

    def client(self) -> Client:
        return Client(kubeconfig.load(str(self.directory / "admin.json")), user_agent="test")

    def do(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        async def main() -> T:
            client = self.client()
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(main())

    def wait(self, look: Callable[[Client], Coroutine[Any, Any, T | None]], what: str) -> T:
        """Look until it finds something."""

        async def main(client: Client) -> T:
            until = time.monotonic() + SOON
            while time.monotonic() < until:
                with suppress(OSError):
                    found = await look(client)
                    if found is not None:
                        return found
                await asyncio.sleep(0.02)
            raise AssertionError(f"{what} did not come; {(self.directory / 'node.log').read_text()[-2000:]}")

        return self.do(main)

    def pod(self, name: str, good: Callable[[Pod], bool], what: str) -> Pod:
        async def look(client: Client) -> Pod | None:
            pod = await client.get(PODS, name, "default")
            return pod if good(pod) else None

        return self.wait(look, f"pod {name}: {what}")

    def gone(self, name: str) -> None:
        async def look(client: Client) -> bool | None:
            try:
                await client.get(PODS, name, "default")
            except StatusError as error:
                return True if error.code == 404 else None
            return None

        self.wait(look, f"the end of pod {name}")

    def make(self, name: str, script: str, image: str = IMAGE, **spec: Any) -> Pod:
        container = Container(name="c", image=image, command=["sh", "-c", script])
        pod = Pod(
            metadata=ObjectMeta(name=name, namespace="default"),
            spec=PodSpec(node_name=NODE, containers=[container], **spec),
        )
        return self.do(lambda client: client.create(PODS, pod))

    def create(self, name: str, *containers: dict[str, Any], init: Sequence[dict[str, Any]] = (), **spec: Any) -> Pod:
        """A pod of containers in the API's own spelling; what they all have is filled in."""
        usual = {"image": IMAGE}
        body = {
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {
                "nodeName": NODE,
                "containers": [{"name": f"c{i}" if i else "c"} | usual | c for i, c in enumerate(containers)],
                "initContainers": [{"name": f"i{i}" if i else "i"} | usual | c for i, c in enumerate(init)],
                **spec,
            },
        }
        return self.do(lambda client: client.create(PODS, body, "default"))

    def put(self, kind: Kind[Any], name: str, **fields: Any) -> None:
        """Make an object, or change these fields of it."""

        async def work(client: Client) -> None:
            try:
                await client.create(kind, {"metadata": {"name": name, "namespace": "default"}, **fields}, "default")
            except StatusError as error:
                if error.code != 409:
                    raise
                await client.patch(kind, name, "default", fields, content_type=MERGE)

        self.do(work)

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """Reason, part and message of a pod's events, in the order in which they began."""
        selector = f"involvedObject.name={name}"
        items, _ = self.do(lambda client: client.list(EVENTS, "default", field_selector=selector))
        items.sort(key=lambda event: event.metadata.name)
        return [(event.reason, event.involved_object.field_path, event.message) for event in items]

    def told(self, name: str, *wanted: tuple[str, str, str]) -> None:
        """Wait for all of these events; they are sent beside a pod's status, not before it."""

        async def look(client: Client) -> bool | None:
            items, _ = await client.list(EVENTS, "default", field_selector=f"involvedObject.name={name}")
            return {(e.reason, e.involved_object.field_path, e.message) for e in items} >= set(wanted) or None

        self.wait(look, f"the events {wanted} of {name}")

    def event(self, name: str, reason: str, part: str = "") -> str:
        """The message of such an event, once it has come."""

        async def look(client: Client) -> str | None:
            items, _ = await client.list(
                EVENTS, "default", field_selector=f"involvedObject.name={name},reason={reason}"
            )
            return next((e.message for e in items if part in e.message), None)

        return self.wait(look, f"the event {reason} of {name}")

    def end(self, *names: str, grace: int | None = None) -> None:
        for name in names:
            self.delete(name, grace)
        for name in names:
            self.gone(name)

    def delete(self, name: str, grace: int | None = None) -> None:
        self.do(lambda client: client.delete(PODS, name, "default", grace_period=grace))

    def log(self, name: str, query: str = "") -> str:
        path = f"/api/v1/namespaces/default/pods/{name}/log{query}"
        return self.do(lambda client: client.request("GET", path, accept="*/*")).decode()

    def logged(self, name: str, text: str, query: str = "") -> str:
        """The log once there is `text` in it: a pod is ready before its program has said anything."""

        async def look(client: Client) -> str | None:
            path = f"/api/v1/namespaces/default/pods/{name}/log{query}"
            try:
                found = (await client.request("GET", path, accept="*/*")).decode()
            except StatusError:
                return None  # it has not started
            return found if text in found else None

        return self.wait(look, f"{text!r} in the log of {name}")

    def _run(self, *arguments: str, inside: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "twinstack.cli.main", *arguments]
        if inside is not None:
            command = ["nsenter", f"--net={inside}", "--", *command]
        with (self.directory / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _certificates(self) -> None:
        authority = CertificateAuthority.create("test")
        (self.directory / "sa.key").write_bytes(new_key())
        policy = {"kind": "List", "apiVersion": "v1", "items": manifest()}
        (self.directory / "policy.json").write_text(json.dumps(policy))
        (self.directory / "ca.crt").write_bytes(authority.certificate_pem)
        loopback = [Address.parse("127.0.0.1"), Address.parse(self.server_ip)]
        pairs = {
            "server": authority.issue("kube-apiserver", [], ["localhost"], loopback, server=True),
            "kubelet": authority.issue("kubelet", [], [NODE], [Address.parse(ip) for ip in self.node_ips], server=True),
            "apiserver": authority.issue("kube-apiserver-kubelet-client", [ADMINS], client=True),
            "node": authority.issue(f"system:node:{NODE}", ["system:nodes"], client=True),
            "admin": authority.issue("admin", ["system:masters"], client=True),
        }
        for name, (certificate, key) in pairs.items():
            (self.directory / f"{name}.crt").write_bytes(certificate)
            (self.directory / f"{name}.key").write_bytes(key)
        of_server = f"[{self.server_ip}]" if self.server_ip == SERVER_IPS[1] else self.server_ip
        for name, host in (("node", of_server), ("admin", "127.0.0.1")):
            access = _access(f"https://{host}:{self.port}", authority.certificate_pem, *pairs[name])
            (self.directory / f"{name}.json").write_text(json.dumps(access))


def _access(server: str, authority: bytes, certificate: bytes, key: bytes) -> dict[str, Any]:
    encoded = [base64.b64encode(data).decode() for data in (authority, certificate, key)]
    user = {"client-certificate-data": encoded[1], "client-key-data": encoded[2]}
    cluster = {"server": server, "certificate-authority-data": encoded[0]}
    return {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def _addresses() -> None:
    """The node's and the server's addresses, on the loopback of the namespace."""
    route = netlink.NetlinkSocket(netlink.ROUTE)
    parsed = [Address.parse(text) for text in (*NODE_IPS, *SERVER_IPS)]
    route.request([links.link_up(1), *(links.add_address(1, ip, ip.family.bits) for ip in parsed)])
    addresses.settle(route, parsed)
    route.close()


def ready_node(machine: Machine) -> None:
    async def registered(client: Client) -> bool | None:
        try:
            node = await client.get(NODES, NODE)
        except StatusError:
            return None
        assert all(c.status != "True" for c in node.status.conditions)  # nothing can run yet
        patch = {"spec": {"podCIDR": machine.pod_cidrs[0], "podCIDRs": machine.pod_cidrs}}
        await client.patch(NODES, NODE, "", patch)
        return True

    async def is_ready(client: Client) -> bool | None:
        node = await client.get(NODES, NODE)
        return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions) or None

    machine.wait(registered, "the Node")
    machine.wait(is_ready, "readiness")


def is_running(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def waiting_reason(pod: Pod) -> str:
    states = [status.state.waiting for status in pod.status.container_statuses]
    return states[0].reason if states and states[0] is not None else ""
