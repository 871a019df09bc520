"""The OpenAPI v3 documents: what kubectl reads from them, and that they agree with the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from twinstack.api.patches import strategic
from twinstack.api.resources import RESOURCES, resource
from twinstack.api.schema_table import get_type, reachable, type_of_kind
from twinstack.server import routing
from twinstack.server.messages import Request, Response, UserInfo
from twinstack.server.openapi_v3 import answer, documents
from twinstack.server.openapi_v3.descriptions import DESCRIPTIONS
from twinstack.server.openapi_v3.schemas import component_name

JSON = dict[str, Any]

GROUP_VERSIONS = sorted({("apis/" if row.group else "api/") + row.group_version for row in RESOURCES})
PROTOBUF = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
STRATEGIC = "application/strategic-merge-patch+json"
KIND = "x-kubernetes-group-version-kind"
PREFIX = "#/components/schemas/"


def ask(target: str, accept: str = "application/json", etag: str = "") -> Response:
    path, _, query = target.partition("?hash=")
    headers = {"accept": accept} | ({"if-none-match": etag} if etag else {})
    parameters = {"hash": [query]} if query else {}
    found = answer(
        Request(method="GET", path=path, query=parameters, headers=headers, body=b"", user=UserInfo(name="u"))
    )
    assert found is not None
    return found


def read(target: str) -> JSON:
    found = ask(target)
    assert (found.status, found.content_type) == (200, "application/json")
    assert isinstance(found.body, bytes)
    decoded: JSON = json.loads(found.body)
    return decoded


def operations(document: JSON) -> Iterator[tuple[str, str, JSON]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def schema(document: JSON, type_name: str) -> JSON:
    found: JSON = document["components"]["schemas"][component_name(type_name)]
    return found


# --- how documents are asked for


def test_the_root_names_every_group_and_version_with_its_hash() -> None:
    paths = read("/openapi/v3")["paths"]
    assert sorted(paths) == GROUP_VERSIONS
    for name, where in paths.items():
        url = where["serverRelativeURL"]
        assert url.startswith(f"/openapi/v3/{name}?hash=")
        headers = dict(ask(url).headers)
        assert headers["ETag"] == f'"{url.partition("?hash=")[2]}"'


def test_the_right_hash_may_be_kept_for_ever() -> None:
    url = read("/openapi/v3")["paths"]["api/v1"]["serverRelativeURL"]
    headers = dict(ask(url).headers)
    assert (headers["Cache-Control"], headers["Vary"]) == ("public, immutable", "Accept")
    expires = parsedate_to_datetime(headers["Expires"])
    assert 364 < (expires - expires.now(expires.tzinfo)).total_seconds() / 86400 <= 365
    assert "Cache-Control" not in dict(ask("/openapi/v3/api/v1").headers)


def test_another_hash_is_sent_to_the_right_one() -> None:
    url = read("/openapi/v3")["paths"]["apis/apps/v1"]["serverRelativeURL"]
    moved = ask("/openapi/v3/apis/apps/v1?hash=OLD")
    assert (moved.status, dict(moved.headers)["Location"]) == (301, url)


@pytest.mark.parametrize("path", ["/openapi/v3", "/openapi/v3/api/v1"])
def test_an_unchanged_document_is_304(path: str) -> None:
    etag = dict(ask(path).headers)["ETag"]
    unchanged = ask(path, etag=etag)
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert ask(path, etag='"other"').status == 200


def test_only_json_is_there() -> None:
    assert ask("/openapi/v3/api/v1", PROTOBUF).status == 406
    for accept in ("application/json, */*", f"{PROTOBUF},application/json;q=0.5", ""):
        assert ask("/openapi/v3/api/v1", accept).status == 200


@pytest.mark.parametrize("name", ["api/v2", "apis/apps", "apis/nosuch.io/v1", "api"])
def test_what_is_not_served_has_no_document(name: str) -> None:
    request = Request(method="GET", path=f"/openapi/v3/{name}", query={}, headers={}, body=b"", user=UserInfo(name="u"))
    assert answer(request) is None


def test_few_documents_are_kept_and_built_anew_they_are_the_same() -> None:
    first = documents.document("api/v1")
    for name in GROUP_VERSIONS:
        documents.document(name)
    assert documents.document.cache_info().currsize <= 4
    again = documents.document("api/v1")
    assert again is not first
    assert again == first


# --- what is in them


@pytest.mark.parametrize("name", GROUP_VERSIONS)
def test_every_reference_leads_somewhere_and_names_are_unique(name: str) -> None:
    document = read(f"/openapi/v3/{name}")
    schemas = document["components"]["schemas"]
    assert {each.removeprefix(PREFIX) for each in references(document)} <= set(schemas)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, item in document["paths"].items():
        braces = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert braces == {each["name"] for each in item["parameters"] if each["in"] == "path"}


@pytest.mark.parametrize("name", GROUP_VERSIONS)
def test_operations_are_the_verbs_that_the_server_routes(name: str) -> None:
    listed = {(path, method) for path, method, _ in operations(read(f"/openapi/v3/{name}"))}
    served = set()
    for row in RESOURCES:
        if name != ("apis/" if row.group else "api/") + row.group_version:
            continue
        paths = [row.path(), row.path("{namespace}"), row.path("{namespace}", "{name}")]
        for sub in row.subresources:
            paths.append(row.path("{namespace}", "{name}", sub.name))
            if sub.name == "proxy":
                paths.append(f"{paths[-1]}/{{path}}")
        for path in paths:
            route = routing.parse(path)
            assert route is not None
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                if routing.verb_for(method, route, watching=False):
                    served.add((path, method.lower()))
    assert listed == served


@pytest.mark.parametrize("row", [row for row in RESOURCES if "patch" in row.verbs], ids=lambda row: row.prefix)
def test_every_kind_has_what_kubectl_looks_for(row: Any) -> None:
    document = read(f"/openapi/v3/{'apis' if row.group else 'api'}/{row.group_version}")
    kind = {"group": row.group, "kind": row.kind, "version": row.version}
    patches = [each for _, method, each in operations(document) if method == "patch" and each[KIND] == kind]
    assert patches
    for each in patches:
        assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= {one["name"] for one in each["parameters"]}
        assert STRATEGIC in each["requestBody"]["content"]
    read_it = document["paths"][row.path("{namespace}", "{name}")]["get"]
    assert (read_it["x-kubernetes-action"], read_it[KIND]) == ("get", kind)
    [described] = [each for each in document["components"]["schemas"].values() if kind in each.get(KIND, ())]
    assert described is not None


def test_subresources_of_another_kind_say_so() -> None:
    paths = read("/openapi/v3/apis/apps/v1")["paths"]
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"]
    assert scale[KIND] == {"group": "autoscaling", "kind": "Scale", "version": "v1"}
    assert scale["requestBody"]["content"]["*/*"]["schema"] == {"$ref": f"{PREFIX}io.k8s.api.autoscaling.v1.Scale"}
    pods = read("/openapi/v3/api/v1")["paths"]
    run = pods["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]
    assert (run["x-kubernetes-action"], run[KIND]["kind"]) == ("connect", "PodExecOptions")
    assert list(pods["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]["responses"]["200"]["content"]) == [
        "text/plain"
    ]


def test_a_services_fields() -> None:
    document = read("/openapi/v3/api/v1")
    spec = schema(document, "core.v1.ServiceSpec")["properties"]
    assert spec["ipFamilyPolicy"]["enum"] == ["PreferDualStack", "RequireDualStack", "SingleStack"]
    assert "RequireDualStack" in spec["ipFamilyPolicy"]["description"]
    assert spec["ipFamilies"]["items"] == {"type": "string", "enum": ["", "IPv4", "IPv6"]}
    assert spec["selector"]["additionalProperties"] == {"type": "string"}
    ports = spec["ports"]
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    assert (ports["x-kubernetes-patch-strategy"], ports["x-kubernetes-patch-merge-key"]) == ("merge", "port")
    port = schema(document, "core.v1.ServicePort")
    assert port["required"] == ["port"]
    assert port["properties"]["protocol"]["default"] == "TCP"
    assert port["properties"]["port"]["format"] == "int32"


def test_what_a_reference_says_about_itself_stands_beside_allof() -> None:
    document = read("/openapi/v3/apis/apps/v1")
    strategy = schema(document, "apps.v1.DeploymentSpec")["properties"]["strategy"]
    assert strategy == {
        "x-kubernetes-patch-strategy": "retainKeys",
        "allOf": [{"$ref": f"{PREFIX}io.k8s.api.apps.v1.DeploymentStrategy"}],
    }
    for each in document["components"]["schemas"].values():
        for field in each.get("properties", {}).values():
            assert "$ref" not in field or len(field) == 1


def test_patch_extensions_are_those_that_the_server_patches_by() -> None:
    """Clients make strategic patches from the schemas, and the server applies them by the table."""
    seen = 0
    for row in RESOURCES:
        document = read(f"/openapi/v3/{'apis' if row.group else 'api'}/{row.group_version}")
        for type_name in reachable((row.schema,)):
            properties = schema(document, type_name).get("properties", {})
            fields = get_type(type_name).fields
            assert sorted(properties) == sorted(fields)
            for name, field in fields.items():
                shown = properties[name]
                assert shown.get("x-kubernetes-patch-strategy", "") == field.patch_strategy
                assert shown.get("x-kubernetes-patch-merge-key", "") == field.merge_key
                seen += bool(field.merge_key)
    assert seen > 100
    old = {"spec": {"ports": [{"port": 80}, {"port": 81}]}}
    patch = {"spec": {"ports": [{"port": 81, "name": "b"}]}}
    merged = strategic.apply_strategic_merge(old, patch, resource("", "services").schema)
    assert merged == {"spec": {"ports": [{"port": 80}, {"port": 81, "name": "b"}]}}


def test_descriptions_are_of_fields_that_exist() -> None:
    for type_name, texts in DESCRIPTIONS.items():
        fields = get_type(type_name).fields
        assert set(texts) - {""} <= set(fields), type_name
        assert all(text.endswith(".") for text in texts.values())
    dual_stack = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    assert set(dual_stack) <= set(DESCRIPTIONS["core.v1.ServiceSpec"])


def test_kinds_that_are_only_created_have_nothing_else() -> None:
    document = read("/openapi/v3/apis/authentication.k8s.io/v1")
    assert [(path, method) for path, method, _ in operations(document)] == [
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", "post"),
        ("/apis/authentication.k8s.io/v1/tokenreviews", "post"),
    ]
    assert type_of_kind("authentication.k8s.io/v1", "SelfSubjectReview") == "authentication.v1.SelfSubjectReview"
