"""`twinstack server` as a process: kubectl against it, restarts, a cluster's namespace, failures at start."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from tests.server_process import KUBECTL, Server

from twinstack.ip import Address
from twinstack.linux import addresses, links, namespaces, netlink
from twinstack.pki.ca import CertificateAuthority

NODE_NETWORK = [Address.parse("172.30.0.1"), Address.parse("fd00:30::1")]

OBJECTS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: "%s"}
"""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


needs_kubectl = pytest.mark.skipif(not KUBECTL.exists(), reason="needs kubectl in the virtual environment")


@needs_kubectl
def test_kubectl_works_with_default_validation(server: Server) -> None:
    with server.running():
        assert server.kubectl("apply", "-f", "-", stdin=OBJECTS % "red").stdout == (
            "service/web created\nconfigmap/settings created\n"
        )
        assert server.kubectl("apply", "-f", "-", stdin=OBJECTS % "blue").stdout == (
            "service/web unchanged\nconfigmap/settings configured\n"
        )
        service = json.loads(server.kubectl("get", "service", "web", "-o", "json").stdout)
        assert service["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        assert len(service["spec"]["clusterIPs"]) == 2
        typo = server.kubectl("create", "-f", "-", stdin=(OBJECTS % "x").replace("ports:", "portz:"), check=False)
        assert 'strict decoding error: unknown field "spec.portz"' in typo.stderr
        assert server.kubectl("create", "namespace", "team").stdout == "namespace/team created\n"
        listed = server.kubectl("get", "svc", "-A", "--no-headers").stdout.split()
        assert {"web", "kubernetes"} <= set(listed)
        for _ in range(2):  # the second time by what kubectl has kept, and a 304
            assert "ipaddresses" in server.kubectl("api-resources", "-o", "name").stdout
        deleted = server.kubectl("delete", "svc/web", "cm/settings").stdout
        assert deleted.count("deleted") == 2


@needs_kubectl
def test_a_kubectl_watch_sees_changes_and_ends_with_the_server(server: Server) -> None:
    with server.running() as process:
        flags = ["--server", f"https://127.0.0.1:{server.port}", "--token", "sesame"]
        flags += ["--certificate-authority", str(server.certificate), "--cache-dir", str(server.directory / "cache")]
        words = [str(KUBECTL), *flags, "get", "configmaps", "-w", "-o", "name"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            time.sleep(0.5)
            server.kubectl("create", "configmap", "one", "--from-literal=a=b")
            assert watch.stdout.readline() == "configmap/one\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
            assert watch.wait(5) == 0, "a clean end of the stream"


def test_what_was_stored_survives_and_versions_go_on(server: Server) -> None:
    with server.running() as process:
        before = server.json("/api/v1/namespaces/default/services/kubernetes")
        process.kill()
        process.wait()
    with server.running() as process:
        after = server.json("/api/v1/namespaces/default/services/kubernetes")
        assert after == before
        listed = server.json("/api/v1/services")
        assert int(listed["metadata"]["resourceVersion"]) >= int(before["metadata"]["resourceVersion"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert "AlwaysAllow" not in server.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_listens_inside_a_clusters_namespace(tmp_path: Path) -> None:
    path = namespaces.RUN_DIRECTORY / f"tt-a-p{os.getpid()}"
    authority = CertificateAuthority.create("cluster")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    client, key = authority.issue("twin", ["system:masters"], client=True)
    (tmp_path / "client.pem").write_bytes(client + key)

    def setup() -> None:
        route = netlink.NetlinkSocket(netlink.ROUTE)
        route.request([links.link_up(1), *(links.add_address(1, each, each.family.bits) for each in NODE_NETWORK)])
        addresses.settle(route, NODE_NETWORK)
        route.close()

    namespaces.create(path, setup)
    try:
        advertised = ",".join(map(str, NODE_NETWORK))
        server = Server(
            tmp_path,
            *("--network-namespace", str(path), "--advertise-address", advertised),
            *("--client-ca-file", str(tmp_path / "ca.pem")),
        )
        with server.running():
            for address in NODE_NETWORK:
                review = namespaces.inside(path, lambda address=address: _ask(server, address, tmp_path))  # type: ignore[misc]
                assert b'"kind":"ServiceList"' in review
    finally:
        namespaces.remove(path)


def _ask(server: Server, address: Address, directory: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(server.certificate))
    context.load_cert_chain(directory / "client.pem")
    with (
        socket.create_connection((str(address), server.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=str(address)) as wrapped,
    ):
        wrapped.sendall(b"GET /api/v1/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := wrapped.recv(1 << 16):
            answer += data
        return answer


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--service-cluster-ip-range", "10.96.0.0/16,10.97.0.0/16"], "must be of different IP family"),
        (["--authorization-mode", "ABAC"], 'authorization-mode "ABAC" is not a valid mode'),
        (["--token-auth-file", "/nonexistent"], "/nonexistent"),
        (["--rbac-manifest", "/dev/null"], "/dev/null: not a List of roles and bindings in JSON"),
        (["--anonymous-auth=perhaps"], 'invalid argument "perhaps" for "--anonymous-auth" flag'),
        (["--network-namespace", "/nonexistent", "--advertise-address", "172.30.0.1"], "/nonexistent"),
        (
            ["--tls-cert-file", "/nonexistent", "--tls-private-key-file", "/nonexistent"],
            "server certificate /nonexistent",
        ),
    ],
)
def test_says_why_it_does_not_start(server: Server, flags: list[str], words: str) -> None:
    server.flags = tuple(flags)
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_says_which_port_is_taken(server: Server) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        done = subprocess.run(server.command(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"listen on 127.0.0.1:{server.port}: Address already in use" in done.stderr
