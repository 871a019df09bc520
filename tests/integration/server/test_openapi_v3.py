"""kubectl and what it makes of the OpenAPI v3 documents: explain, validation, patches; and whoami."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from tests.server_process import KUBECTL, Server

pytestmark = pytest.mark.skipif(not KUBECTL.exists(), reason="needs kubectl in the virtual environment")

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80}, {name: metrics, port: 9090%s}]
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  strategy: %s
  template:
    metadata: {labels: {app: web}}
    spec:
      volumes: [{name: scratch, %s}]
      containers: [{name: web, image: web}, {name: log, image: "log:%s"}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("openapi"))
    with server.running():
        yield server


def patch_sent(server: Server, manifest: str) -> dict[str, object]:
    """Apply, and show the body of the PATCH that kubectl sends."""
    applied = server.kubectl("apply", "-v=9", "-f", "-", stdin=manifest)
    assert "strategic-merge-patch+json" in applied.stderr
    assert "warning" not in applied.stderr, "kubectl falls back to its own types when the schemas do not do"
    [body] = re.findall(r'"Request Body" body="(\{.*(?:spec|\$).*\})"$', applied.stderr, re.MULTILINE)
    sent: dict[str, object] = json.loads(json.loads(f'"{body}"'))
    return sent


def test_explain(server: Server) -> None:
    policy = server.kubectl("explain", "service.spec.ipFamilyPolicy").stdout
    assert "FIELD: ipFamilyPolicy <string>" in policy
    assert {"PreferDualStack", "RequireDualStack", "SingleStack"} <= set(policy.split())
    assert "How many families the Service has." in policy
    strategy = server.kubectl("explain", "deployment.spec.strategy", "--recursive").stdout
    assert re.search(r"rollingUpdate\s+<RollingUpdateDeployment>\n\s+maxSurge\s+<IntOrString>", strategy)
    assert "enum: Recreate, RollingUpdate" in strategy
    assert "VERSION:    v2" in server.kubectl("explain", "hpa").stdout
    unknown = server.kubectl("explain", "service.spec.nosuch", check=False)
    assert 'field "nosuch" does not exist' in unknown.stderr


@pytest.mark.parametrize("command", ["create", "apply"])
def test_a_typo_is_refused(server: Server, command: str) -> None:
    typo = (SERVICE % "").replace("selector", "selektor").replace("name: web", "name: typo")
    refused = server.kubectl(command, "-f", "-", stdin=typo, check=False)
    assert refused.returncode == 1
    assert 'strict decoding error: unknown field "spec.selektor"' in refused.stderr


def test_a_changed_service_is_patched_at_the_port_that_changed(server: Server) -> None:
    assert server.kubectl("apply", "-f", "-", stdin=SERVICE % "").stdout == "service/web created\n"
    sent = patch_sent(server, SERVICE % ", targetPort: prom")
    assert sent["spec"] == {
        "$setElementOrder/ports": [{"port": 80}, {"port": 9090}],
        "ports": [{"port": 9090, "targetPort": "prom"}],
    }
    ports = json.loads(server.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports}").stdout)
    assert [(port["name"], port["targetPort"]) for port in ports] == [("http", 80), ("metrics", "prom")]


def test_a_changed_deployment_keeps_only_the_keys_that_belong_together(server: Server) -> None:
    server.kubectl("apply", "-f", "-", stdin=DEPLOYMENT % ("{type: RollingUpdate}", "emptyDir: {}", 1))
    sent = patch_sent(server, DEPLOYMENT % ("{type: Recreate}", "configMap: {name: c}", 2))
    spec = sent["spec"]
    assert isinstance(spec, dict)
    assert spec["strategy"]["$retainKeys"] == ["type"]
    pod = spec["template"]["spec"]
    assert pod["containers"] == [{"image": "log:2", "name": "log"}]
    assert pod["volumes"][0]["$retainKeys"] == ["configMap", "name"]
    stored = server.json("/apis/apps/v1/namespaces/default/deployments/web")["spec"]
    assert stored["strategy"] == {"type": "Recreate"}
    assert [each["image"] for each in stored["template"]["spec"]["containers"]] == ["web", "log:2"]
    assert "emptyDir" not in stored["template"]["spec"]["volumes"][0]


def test_whoami(server: Server) -> None:
    assert re.search(r"Username\s+admin\n", server.kubectl("auth", "whoami").stdout)
    review = json.loads(server.kubectl("auth", "whoami", "--as", "bob", "-o", "json").stdout)
    assert review["status"]["userInfo"] == {"username": "bob", "groups": ["system:authenticated"]}
    with server.client() as client:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        status, review = client.call("POST", path, {})
        assert (status, review["kind"]) == (201, "SelfSubjectReview")
        assert review["status"]["userInfo"] == {
            "username": "admin",
            "uid": "1",
            "groups": ["system:masters", "system:authenticated"],
        }
        assert client.call("GET", path)[0] == 405
