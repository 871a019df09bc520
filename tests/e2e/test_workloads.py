"""Jobs, CronJobs, DaemonSets and StatefulSets as people run them with kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until

LABEL = {"test": "workloads"}


@pytest.fixture
def cluster(dual: Cluster) -> Iterator[Cluster]:
    yield dual
    dual.kubectl("delete", "cronjob,job,daemonset,statefulset", "-l", "test=workloads", "--wait=true")
    until(lambda: dual.pods("test=workloads") == [], "nothing is left")


def pod(*command: str, restart: str = "Always") -> dict[str, Any]:
    container = {"name": "c", "image": "twinstack.local/host", "command": list(command)}
    spec = {"containers": [container], "restartPolicy": restart, "terminationGracePeriodSeconds": 0}
    return {"metadata": {"labels": LABEL}, "spec": spec}


def apply(cluster: Cluster, version: str, kind: str, name: str, **spec: Any) -> None:
    """What is applied is acted on: kubectl prints no warning."""
    manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": LABEL}, "spec": spec}
    cluster.kubectl("apply", "--warnings-as-errors", "-f", "-", stdin=json.dumps(manifest))


def keeper(**spec: Any) -> dict[str, Any]:
    """The spec of a kind that keeps Pods running."""
    return {"selector": {"matchLabels": LABEL}, "template": pod("sleep", "1000")} | spec


def nodes_of(cluster: Cluster) -> list[str]:
    return sorted(one["spec"]["nodeName"] for one in cluster.pods("test=workloads"))


def test_jobs_end_and_cronjobs_make_them(cluster: Cluster) -> None:
    said = pod("sh", "-c", 'echo "index $JOB_COMPLETION_INDEX of $(hostname)"', restart="Never")
    apply(cluster, "batch/v1", "Job", "count", completions=3, parallelism=2, completionMode="Indexed", template=said)
    job = {"metadata": {"labels": LABEL}, "spec": {"template": pod("true", restart="Never")}}
    apply(cluster, "batch/v1", "CronJob", "nightly", schedule="0 3 * * *", jobTemplate=job)
    cluster.kubectl("create", "job", "now", "--from=cronjob/nightly")
    cluster.kubectl("wait", "--for=condition=Complete", "job/count", "job/now", "--timeout=60s")
    status = cluster.get("job", "count")["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    logs = cluster.kubectl("logs", "-l", "batch.kubernetes.io/job-name=count")
    assert sorted(logs.splitlines()) == [f"index {number} of count-{number}" for number in range(3)]
    cluster.kubectl("delete", "job", "count")
    until(lambda: cluster.pods("batch.kubernetes.io/job-name=count") == [], "its pods go too")


def test_a_daemonset_has_a_pod_on_each_node_and_goes_back(cluster: Cluster) -> None:
    apply(cluster, "apps/v1", "DaemonSet", "agent", **keeper())
    cluster.kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert nodes_of(cluster) == [f"{cluster.name}-1", f"{cluster.name}-2"]
    cluster.kubectl("set", "env", "daemonset/agent", "VERSION=2")
    cluster.kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert [one["spec"]["containers"][0].get("env") for one in cluster.pods("test=workloads")] == [
        [{"name": "VERSION", "value": "2"}]
    ] * 2
    cluster.kubectl("rollout", "undo", "daemonset/agent")
    cluster.kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    assert [one["spec"]["containers"][0].get("env") for one in cluster.pods("test=workloads")] == [None, None]
    assert nodes_of(cluster) == [f"{cluster.name}-1", f"{cluster.name}-2"]


def test_a_statefulset_is_scaled_and_rolled_in_order(cluster: Cluster) -> None:
    apply(cluster, "apps/v1", "StatefulSet", "db", **keeper(serviceName="db", replicas=2))
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    cluster.kubectl("scale", "statefulset/db", "--replicas=3")
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    before = {one["metadata"]["name"]: one["metadata"]["uid"] for one in cluster.pods("test=workloads")}
    assert sorted(before) == ["db-0", "db-1", "db-2"]
    cluster.kubectl("set", "env", "statefulset/db", "VERSION=2")
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    after = cluster.pods("test=workloads")
    made = {one["metadata"]["name"]: one["metadata"]["creationTimestamp"] for one in after}
    assert made["db-2"] <= made["db-1"] <= made["db-0"]
    assert not {one["metadata"]["uid"] for one in after} & set(before.values())
    assert "VERSION=2" in cluster.kubectl("exec", "db-0", "--", "env")
