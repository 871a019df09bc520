"""Discovery documents against what kube-apiserver 1.36 says of the same kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twinstack.api.resources import RESOURCES
from twinstack.server.discovery import Discovery
from twinstack.server.messages import Request, Response, UserInfo

JSON = dict[str, Any]

RECORDED = Path(__file__).parents[2] / "conformance" / "discovery.json"
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
KUBECTL = f"{V2},{V2BETA1},application/json"


def ask(path: str, accept: str = "application/json", **headers: str) -> Response:
    answer = Discovery("10.0.0.1:6443").answer(
        Request(
            method="GET",
            path=path,
            query={},
            headers={"accept": accept} | {name.replace("_", "-"): value for name, value in headers.items()},
            body=b"",
            user=UserInfo(name="u"),
        )
    )
    assert answer is not None
    return answer


def document(path: str, accept: str = "application/json") -> JSON:
    body = ask(path, accept).body
    assert isinstance(body, bytes)
    decoded: JSON = json.loads(body)
    return decoded


def recorded() -> dict[str, JSON]:
    """By group, the aggregated entry of kube-apiserver."""
    documents = json.loads(RECORDED.read_text())
    items = documents["api"]["items"] + documents["apis"]["items"]
    return {item["metadata"].get("name", ""): item for item in items}


def test_aggregated_entries_equal_upstreams() -> None:
    theirs = recorded()
    items = document("/api", KUBECTL)["items"] + document("/apis", KUBECTL)["items"]
    seen = 0
    for item in items:
        other = theirs[item["metadata"].get("name", "")]
        assert item["metadata"] == other["metadata"]
        versions = {version["version"]: version for version in other["versions"]}
        for version in item["versions"]:
            rows = {row["resource"]: row for row in versions[version["version"]]["resources"]}
            for row in version["resources"]:
                expected = rows[row["resource"]]
                served = {sub["subresource"] for sub in row.get("subresources", ())}
                subresources = [sub for sub in expected.pop("subresources", ()) if sub["subresource"] in served]
                if subresources:
                    expected["subresources"] = subresources
                assert row == expected
                assert list(row) == [name for name in expected if name in row]  # the order too
                seen += 1
    assert seen == len(RESOURCES)


def test_groups_come_in_upstreams_order() -> None:
    """An ambiguous short name goes to the first group that has it."""
    order = list(recorded())
    mine = [item["metadata"]["name"] for item in document("/apis", KUBECTL)["items"]]
    assert mine == sorted(mine, key=order.index)


@pytest.mark.parametrize("path", ["/api", "/api/", "/apis", "/apis/"])
def test_forms_are_chosen_by_accept(path: str) -> None:
    answer = ask(path, KUBECTL)
    assert answer.content_type == V2
    assert document(path, KUBECTL)["apiVersion"] == "apidiscovery.k8s.io/v2"
    old = f"{V2BETA1},application/json"
    assert ask(path, old).content_type == V2BETA1
    assert document(path, old)["apiVersion"] == "apidiscovery.k8s.io/v2beta1"
    assert document(path, f"{V2};profile=nopeer,{V2}")["apiVersion"] == "apidiscovery.k8s.io/v2"
    for accept in ("application/json", "*/*", "", f"application/json,{V2}", "application/json;g=x;v=v9;as=Other"):
        assert ask(path, accept).content_type == "application/json"
        assert document(path, accept)["kind"] in ("APIVersions", "APIGroupList")


def test_an_unchanged_document_is_304() -> None:
    first = ask("/apis", KUBECTL)
    headers = dict(first.headers)
    assert headers["Cache-Control"] == "public"
    assert headers["Vary"] == "Accept"
    again = ask("/apis", KUBECTL, if_none_match=headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert ask("/apis", KUBECTL, if_none_match='"other"').status == 200


def test_older_forms() -> None:
    assert document("/api") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443"}],
    }
    version = {"groupVersion": "apps/v1", "version": "v1"}
    group = {"name": "apps", "versions": [version], "preferredVersion": version}
    assert group in document("/apis")["groups"]
    assert document("/apis/apps") == {"kind": "APIGroup", "apiVersion": "v1"} | group
    core, apps = document("/api/v1"), document("/apis/apps/v1/")
    assert "apiVersion" not in core
    assert (apps["apiVersion"], apps["groupVersion"]) == ("v1", "apps/v1")
    rows = {row["name"]: row for row in core["resources"] + apps["resources"]}
    assert rows["configmaps"] == {
        "name": "configmaps",
        "singularName": "configmap",
        "namespaced": True,
        "kind": "ConfigMap",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["cm"],
        "storageVersionHash": "qFsyl6wFWjQ=",
    }
    assert rows["deployments/scale"] == {
        "name": "deployments/scale",
        "singularName": "",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    }


def test_other_paths_are_not_discovery() -> None:
    for path in ("/", "/apis/nosuch.io", "/apis/apps/v2", "/api/v1/pods"):
        request = Request(method="GET", path=path, query={}, headers={}, body=b"", user=UserInfo(name="u"))
        assert Discovery("h:1").answer(request) is None
