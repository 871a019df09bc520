"""A chart with hooks, a test, a CustomResourceDefinition and a dual-stack Service, through a release's whole life."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cluster import Cluster

HELM = Path(sys.executable).parent.parent / "clients" / "helm"
CHART = Path(__file__).with_name("chart")
RELEASE = "greet"


def helm(cluster: Cluster, *words: str) -> str:
    environment = cluster.environment | {"HOME": str(cluster.home)}
    done = subprocess.run([HELM, *words], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"helm {' '.join(words)}\n{done.stdout}{done.stderr}\n{cluster.kubectl('get', 'pods')}"
    return done.stdout


@pytest.fixture
def cluster(dual: Cluster) -> Iterator[Cluster]:
    yield dual
    dual.kubectl("delete", "crd", "greetings.example.com", "--ignore-not-found")
    dual.kubectl("delete", "pod", f"{RELEASE}-test", "--ignore-not-found", "--grace-period=1")


def told(cluster: Cluster, *words: str) -> Any:
    return json.loads(helm(cluster, *words, "-o", "json"))


def test_a_release(cluster: Cluster) -> None:
    waiting = ("--wait", "--timeout", "60s")
    assert "hello, twice" in helm(cluster, "install", RELEASE, str(CHART), *waiting)
    service = cluster.get("service", RELEASE)["spec"]
    assert service["ipFamilies"] == ["IPv6", "IPv4"]
    assert "Text" in cluster.kubectl("get", "greetings").splitlines()[0].title()
    assert cluster.get("greeting", RELEASE)["spec"] == {"text": "hello", "times": 1}
    assert "hello" in helm(cluster, "test", RELEASE, "--logs", "--timeout", "60s").splitlines()

    changes = ("--set", "greeting=welcome", "--set", "replicas=2", "--set", "ipFamilyPolicy=RequireDualStack")
    helm(cluster, "upgrade", RELEASE, str(CHART), *changes, *waiting)
    assert cluster.get("deployment", RELEASE)["status"]["readyReplicas"] == 2
    assert cluster.get("service", RELEASE)["spec"]["ipFamilyPolicy"] == "RequireDualStack"
    assert told(cluster, "get", "values", RELEASE)["greeting"] == "welcome"
    assert "text: welcome" in helm(cluster, "get", "manifest", RELEASE)

    helm(cluster, "rollback", RELEASE, "1", *waiting)
    assert cluster.get("configmap", RELEASE)["data"] == {"text": "hello"}
    assert cluster.get("deployment", RELEASE)["spec"]["replicas"] == 1
    assert [each["status"] for each in told(cluster, "history", RELEASE)] == ["superseded", "superseded", "deployed"]
    assert told(cluster, "status", RELEASE)["info"]["status"] == "deployed"
    assert [each["name"] for each in told(cluster, "list")] == [RELEASE]

    helm(cluster, "uninstall", RELEASE, *waiting)
    left = cluster.kubectl("get", "deployment,service,configmap,secret,greeting", "-o", "name")
    assert RELEASE not in left
    assert cluster.get("crd", "greetings.example.com")["status"]["acceptedNames"]["kind"] == "Greeting"
