"""Pods as their owner sees them: readiness decides about traffic, liveness about life, ports lead in from the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

SERVE = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = open("/etc/config/text").read().encode()
        self.send_response(500 if os.path.exists("/tmp/sick") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
open("/tmp/ready", "w").close()
Server(("::", 80), Handler).serve_forever()
"""


@pytest.fixture
def name(dual: Cluster) -> Iterator[str]:
    """Of a pod, a Service and a ConfigMap."""
    yield "probed"
    dual.kubectl("delete", "pod,service,configmap", "-l", "test=pods", "--grace-period=1")


def make(cluster: Cluster, name: str) -> None:
    meta = {"name": name, "labels": {"test": "pods", "app": name}}
    container: dict[str, Any] = {
        "name": "web",
        "image": "twinstack.local/host",
        "command": ["python3", "-c", SERVE],
        "ports": [{"containerPort": 80, "hostPort": 8091}],
        "readinessProbe": {
            "exec": {"command": ["test", "-e", "/tmp/ready"]},
            "periodSeconds": 1,
            "timeoutSeconds": 30,
            "failureThreshold": 1,
        },
        "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 2},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
    ports = {"ports": [{"port": 80}], "selector": {"app": name}, "ipFamilyPolicy": "RequireDualStack"}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"text": "one"}})
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": ports})
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def test_a_pod_from_start_to_restart(dual: Cluster, name: str) -> None:
    make(dual, name)
    addresses = dual.addresses(name)
    for address in addresses:
        until(lambda address=address: dual.answers(address), "the Service answers")  # type: ignore[misc]
        assert dual.ask(address) == "one"

    # Unready: no traffic, and the events say why.
    dual.kubectl("exec", name, "--", "rm", "/tmp/ready")
    for address in addresses:
        until(lambda address=address: not dual.answers(address), "an unready pod gets no traffic")  # type: ignore[misc]
    dual.kubectl("exec", name, "--", "touch", "/tmp/ready")
    for address in addresses:
        until(lambda address=address: dual.answers(address), "it is back")  # type: ignore[misc]
    described = dual.kubectl("describe", "pod", name)
    assert "Readiness probe failed:" in described
    assert "http-get http://:80/ delay=0s timeout=30s period=1s #success=1 #failure=2" in described

    # Its port on its node, in both families, from beyond the node.
    node = dual.get("pod", name)["spec"]["nodeName"]
    for address in dual.node_addresses(int(node.rpartition("-")[2])):
        assert dual.ask(address, 8091, namespace=dual.paths.switch) == "one"

    # Not alive: stopped for its probe, and started again with files of its own.
    dual.kubectl("exec", name, "--", "touch", "/tmp/sick")
    until(lambda: restarts(dual, name) == 1, "it is restarted")
    dual.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    for address in addresses:
        until(lambda address=address: dual.answers(address), "it is back")  # type: ignore[misc]
    described = dual.kubectl("describe", "pod", name)
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in described
    assert "Container web failed liveness probe, will be restarted" in described


def restarts(cluster: Cluster, name: str) -> int:
    return int(cluster.get("pod", name)["status"]["containerStatuses"][0]["restartCount"])
