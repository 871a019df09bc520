"""managedFields through every kind of write, and applies, on a real store and with real kubectl."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import MERGE, Answered, Api, served
from tests.server_process import Server

JSON = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def config_map(**data: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def deployment(replicas: int | None = 1) -> JSON:
    spec: JSON = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": spec
        | {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }


def scale(replicas: int) -> JSON:
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"replicas": replicas},
    }


async def apply(api: Api, url: str, body: JSON, manager: str, *, force: bool = False) -> Answered:
    query = f"?fieldManager={manager}{'&force=true' if force else ''}"
    return await api.call("PATCH", url + query, body, APPLY)


def owners(obj: JSON) -> dict[tuple[str, ...], JSON]:
    """The field sets by manager, operation and subresource."""
    return {
        tuple(filter(None, (entry["manager"], entry["operation"], entry.get("subresource")))): entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", [])
    }


def test_managers_come_from_the_query_or_the_user_agent(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            agent = {"user-agent": "kubectl-create/v1.36 (linux)"}
            made = await api.call("POST", MAPS, config_map(a="1"), **agent)
            data: JSON = {"f:data": {".": {}, "f:a": {}}}
            assert owners(made.body) == {("kubectl-create", "Update"): data}
            patched = await api.call("PATCH", f"{MAPS}/a?fieldManager=me", {"data": {"b": "1"}}, MERGE)
            assert owners(patched.body) == {
                ("kubectl-create", "Update"): data,
                ("me", "Update"): {"f:data": {"f:b": {}}},
            }
            nothing = await api.call("PATCH", f"{MAPS}/a?fieldManager=you", {"data": {"b": "1"}}, MERGE)
            assert nothing.body == patched.body
            namespace = (await api.call("GET", "/api/v1/namespaces/default")).body
            assert ("kube-apiserver", "Update") in owners(namespace)

    asyncio.run(run())


@pytest.mark.parametrize("wiped", [[], [{}]])
def test_entries_are_wiped_kept_and_replaced(tmp_path: Path, wiped: list[JSON]) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = (await api.call("POST", f"{MAPS}?fieldManager=me", config_map(a="1"))).body
            without = json.loads(json.dumps(made))
            del without["metadata"]["managedFields"]
            kept = (await api.call("PUT", f"{MAPS}/a", without)).body
            assert kept == made
            broken = json.loads(json.dumps(made))
            broken["metadata"]["managedFields"][0]["operation"] = "Nonsense"
            assert (await api.call("PUT", f"{MAPS}/a", broken)).body == made
            renamed = json.loads(json.dumps(made))
            renamed["metadata"]["managedFields"][0]["manager"] = "you"
            assert list(owners((await api.call("PUT", f"{MAPS}/a", renamed)).body)) == [("you", "Update")]
            gone = await api.call("PATCH", f"{MAPS}/a", {"metadata": {"managedFields": wiped}}, MERGE)
            assert "managedFields" not in gone.body["metadata"]
            untracked = await api.call("PATCH", f"{MAPS}/a", {"data": {"b": "1"}}, MERGE)
            assert "managedFields" not in untracked.body["metadata"]
            applied = await apply(api, f"{MAPS}/a", config_map(b="1"), "me")
            assert owners(applied.body) == {
                ("me", "Apply"): {"f:data": {"f:b": {}}},
                ("before-first-apply", "Update"): {"f:data": {".": {}, "f:a": {}, "f:b": {}}},
            }

    asyncio.run(run())


def test_apply_creates_merges_refuses_and_removes(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = await apply(api, f"{MAPS}/a", config_map(a="1", b="1"), "alpha")
            assert (made.code, made.body["data"]) == (201, {"a": "1", "b": "1"})
            again = await apply(api, f"{MAPS}/a", config_map(a="1", b="1"), "alpha")
            assert (again.code, again.body) == (200, made.body)
            refused = await apply(api, f"{MAPS}/a", config_map(a="2"), "beta")
            assert refused.code == 409
            assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "alpha": .data.a'
            assert refused.body["details"]["causes"] == [
                {"reason": "FieldManagerConflict", "message": 'conflict with "alpha"', "field": ".data.a"}
            ]
            forced = await apply(api, f"{MAPS}/a", config_map(a="2"), "beta", force=True)
            assert owners(forced.body) == {
                ("alpha", "Apply"): {"f:data": {"f:b": {}}},
                ("beta", "Apply"): {"f:data": {"f:a": {}}},
            }
            less = await apply(api, f"{MAPS}/a", config_map(), "alpha")
            assert less.body["data"] == {"a": "2"}
            stale = config_map(a="3")
            stale["metadata"]["resourceVersion"] = "1"
            assert (await apply(api, f"{MAPS}/a", stale, "beta")).code == 409
            dry = await api.call("PATCH", f"{MAPS}/a?fieldManager=beta&dryRun=All", config_map(a="9"), APPLY)
            assert dry.body["data"] == {"a": "9"}
            assert (await api.call("GET", f"{MAPS}/a")).body == less.body

    asyncio.run(run())


def test_scaling_takes_the_replicas_from_their_manager(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await apply(api, f"{DEPLOYMENTS}/a", deployment(1), "alpha")
            replicas: JSON = {"f:spec": {"f:replicas": {}}}
            scaled = await api.call("PUT", f"{DEPLOYMENTS}/a/scale?fieldManager=hpa", scale(3))
            assert (scaled.code, scaled.body["spec"]) == (200, {"replicas": 3})
            found = owners((await api.call("GET", f"{DEPLOYMENTS}/a")).body)
            assert found["hpa", "Update", "scale"] == replicas
            assert "f:replicas" not in found["alpha", "Apply"]["f:spec"]
            refused = await apply(api, f"{DEPLOYMENTS}/a", deployment(1), "alpha")
            disputed = 'conflict with "hpa" with subresource "scale" using apps/v1: .spec.replicas'
            assert refused.body["message"] == f"Apply failed with 1 conflict: {disputed}"
            kept = await apply(api, f"{DEPLOYMENTS}/a", deployment(None), "alpha")
            assert kept.body["spec"]["replicas"] == 3
            refused = await apply(api, f"{DEPLOYMENTS}/a/scale", scale(4), "beta")
            assert refused.code == 409
            forced = await apply(api, f"{DEPLOYMENTS}/a/scale", scale(4), "beta", force=True)
            assert (forced.code, forced.body["kind"], forced.body["spec"]) == (200, "Scale", {"replicas": 4})
            found = owners((await api.call("GET", f"{DEPLOYMENTS}/a")).body)
            assert found["beta", "Apply", "scale"] == replicas
            assert ("hpa", "Update", "scale") not in found

    asyncio.run(run())


def test_status_has_managers_of_its_own(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await apply(api, f"{DEPLOYMENTS}/a", deployment(1) | {"status": {"replicas": 5}}, "alpha")
            status = deployment(7) | {"status": {"replicas": 1}}
            done = await apply(api, f"{DEPLOYMENTS}/a/status", status, "controller")
            assert done.body["spec"]["replicas"] == 1
            found = owners(done.body)
            assert found["controller", "Apply", "status"] == {"f:status": {"f:replicas": {}}}
            assert "f:status" not in found["alpha", "Apply"]

    asyncio.run(run())


OBJECTS = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {color: %s}}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""


def test_kubectl_moves_from_its_own_apply_to_the_servers(tmp_path: Path) -> None:
    server = Server(tmp_path)

    def managers() -> set[tuple[str, ...]]:
        shown = server.kubectl("get", "service", "web", "-o", "json", "--show-managed-fields").stdout
        return set(owners(json.loads(shown)))

    with server.running():
        server.kubectl("apply", "-f", "-", stdin=OBJECTS % "red")
        assert managers() == {("kubectl-client-side-apply", "Update")}
        hidden = server.kubectl("get", "service", "web", "-o", "json").stdout
        assert "managedFields" not in hidden
        server.kubectl("apply", "--server-side", "-f", "-", stdin=OBJECTS % "blue")
        assert managers() == {("kubectl", "Apply"), ("kubectl-last-applied", "Apply")}
        diff = server.kubectl("diff", "--server-side", "-f", "-", stdin=OBJECTS % "green", check=False)
        assert diff.returncode == 1
        assert "+    color: green" in diff.stdout
        server.kubectl("label", "service", "web", "color=white", "--overwrite")
        refused = server.kubectl("apply", "--server-side", "-f", "-", stdin=OBJECTS % "blue", check=False)
        assert 'conflict with "kubectl-label" using v1: .metadata.labels.color' in refused.stderr
        forced = server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=OBJECTS % "blue")
        assert forced.stdout == "service/web serverside-applied\n"
        assert ("kubectl-label", "Update") not in managers()
