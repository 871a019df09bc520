"""What the server says of itself: its APIServices, flow control and the health of components."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import MERGE, served

from twinstack.api.resources import RESOURCES
from twinstack.server import flow_control, local_services
from twinstack.server.customresources.controller import DefinitionController
from twinstack.server.flow_control import _schema

JSON = dict[str, Any]

API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
FLOW_CONTROL = "/apis/flowcontrol.apiserver.k8s.io/v1"
STATUSES = "/api/v1/componentstatuses"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OWN = f"{DEFINITIONS}/crontabs.example.com"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "crontabs.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


def names(answer: Any) -> list[str]:
    return [item["metadata"]["name"] for item in answer.body["items"]]


def test_every_group_and_version_has_its_local_service(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await local_services.ensure(api.registry)
            revision = api.registry.cache.revision
            await local_services.ensure(api.registry)
            assert api.registry.cache.revision == revision
            found = (await api.call("GET", API_SERVICES)).body["items"]
            listed = {(item["spec"].get("group", ""), item["spec"]["version"]) for item in found}
            assert listed == {(row.group, row.version) for row in RESOURCES} - {("apiregistration.k8s.io", "v1")}
            for item in found:
                assert item["metadata"]["name"] == f"{item['spec']['version']}.{item['spec'].get('group', '')}"
                condition = item["status"]["conditions"][0]
                assert (condition["type"], condition["status"], condition["reason"]) == ("Available", "True", "Local")

    asyncio.run(run())


def test_services_of_definitions_come_and_go_with_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            controller = asyncio.create_task(DefinitionController(api.registry).run())
            try:
                for code, method, path, body in ((201, "POST", DEFINITIONS, DEFINITION), (200, "DELETE", OWN, None)):
                    assert (await api.call(method, path, body)).code == code
                    async with asyncio.timeout(30):
                        while bool(api.registry.catalogue.custom) != (method == "POST"):
                            await asyncio.sleep(0.002)
                    await local_services.ensure(api.registry)
                    listed = names(await api.call("GET", API_SERVICES))
                    assert ("v1.example.com" in listed) == (method == "POST")
            finally:
                controller.cancel()
                await asyncio.gather(controller, return_exceptions=True)

    asyncio.run(run())


def test_a_service_of_others_says_that_nothing_is_passed_on(tmp_path: Path) -> None:
    body = {
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": "kube-system", "name": "metrics-server"},
        },
    }

    async def run() -> None:
        async with served(tmp_path / "db") as api:
            answer = await api.call("POST", API_SERVICES, body)
            assert answer.code == 201
            says = "APIService is stored, but this server passes no requests on to other API servers"
            assert answer.warnings == [says]
            assert answer.body["spec"]["service"]["port"] == 443
            condition = answer.body["status"]["conditions"][0]
            assert (condition["status"], condition["reason"]) == ("False", "NotProxied")
            await local_services.ensure(api.registry)  # and nobody takes it away
            assert "v1beta1.metrics.k8s.io" in names(await api.call("GET", API_SERVICES))

    asyncio.run(run())


def test_flow_control_has_upstreams_objects_and_says_that_it_does_not_act(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await flow_control.ensure(api.registry)
            levels = names(await api.call("GET", f"{FLOW_CONTROL}/prioritylevelconfigurations"))
            assert len(levels) == 8
            schemas = (await api.call("GET", f"{FLOW_CONTROL}/flowschemas")).body["items"]
            assert len(schemas) == 13
            for item in schemas:
                assert item["spec"]["priorityLevelConfiguration"]["name"] in levels
                assert item["status"]["conditions"][0]["status"] == "False"  # does not dangle
            spec = {"priorityLevelConfiguration": {"name": "nosuch"}}
            answer = await api.call("POST", f"{FLOW_CONTROL}/flowschemas", {"metadata": {"name": "a"}, "spec": spec})
            assert answer.body["spec"]["matchingPrecedence"] == 1000
            assert answer.body["status"]["conditions"][0]["status"] == "True"
            assert answer.warnings == ["FlowSchema is stored but not enforced by this cluster"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "field", "first"),
    [
        (
            "exempt",
            "resourceRules",
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]},
        ),
        ("probes", "nonResourceRules", {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}),
        (
            "system-node-high",
            "resourceRules",
            {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": True},
        ),
    ],
)
def test_rules_of_flow_schemas(name: str, field: str, first: JSON) -> None:
    assert _schema(name)["rules"][0][field][0] == first


def test_component_statuses_are_made_when_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            answer = await api.call("GET", STATUSES)
            assert answer.warnings == ["v1 ComponentStatus is deprecated in v1.19+"]
            assert names(answer) == ["controller-manager", "etcd-0", "scheduler"]
            api.registry.watching["system:kube-scheduler"] += 1
            assert (await api.call("GET", f"{STATUSES}/scheduler")).body["conditions"][0]["status"] == "True"
            spec = {"holderIdentity": "a", "leaseDurationSeconds": 3600, "renewTime": "2026-01-01T00:00:00.000000Z"}
            await api.call("POST", LEASES, {"metadata": {"name": "kube-scheduler"}, "spec": spec})
            scheduler = (await api.call("GET", f"{STATUSES}/scheduler")).body["conditions"][0]
            assert scheduler["status"] == "False"
            assert "has not renewed" in scheduler["message"]
            spec |= {"leaseDurationSeconds": 2**31 - 1}
            await api.call("PATCH", f"{LEASES}/kube-scheduler", {"spec": spec}, MERGE)
            scheduler = (await api.call("GET", f"{STATUSES}/scheduler")).body["conditions"][0]
            assert (scheduler["status"], scheduler["message"]) == ("True", "ok")
            missing = await api.call("GET", f"{STATUSES}/none")
            assert missing.body["message"] == 'componentstatus "none" not found'
            assert (await api.call("POST", STATUSES, {"metadata": {"name": "a"}})).code == 405

    asyncio.run(run())
