"""The generic verbs hold for every kind that is served: one manifest each, on a real store."""

from __future__ import annotations

import asyncio
import base64
import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.api_client import CONFIG, MERGE, Api, served

from twinstack.api.resources import RESOURCES, Resource, find_kind
from twinstack.server import unacted
from twinstack.server.kubernetes_service import DefaultRanges

JSON = dict[str, Any]

STRATEGIC, JSON_PATCH = "application/strategic-merge-patch+json", "application/json-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


@functools.cache
def signing_request() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jane")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name)
    pem = csr.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def manifests() -> list[tuple[Resource, JSON]]:
    found = []
    for obj in yaml.safe_load_all(Path(__file__).with_name("every_kind.yaml").read_text()):
        row = find_kind(obj["apiVersion"], obj["kind"])
        assert row is not None, obj
        if obj["kind"] == "CertificateSigningRequest":
            obj["spec"]["request"] = signing_request()
        found.append((row, obj))
    return found


def names(value: tuple[Resource, JSON]) -> str:
    return f"{value[0].group_version}/{value[0].kind}"


def test_there_is_a_manifest_of_every_kind() -> None:
    assert {row for row, _ in manifests()} == {row for row in RESOURCES if "create" in row.verbs and "get" in row.verbs}


@pytest.mark.parametrize("manifest", manifests(), ids=names)
def test_verbs(manifest: tuple[Resource, JSON], tmp_path: Path) -> None:
    row, obj = manifest
    namespace = "default" if row.namespaced else ""
    collection, path = row.path(namespace), row.path(namespace, obj["metadata"]["name"])

    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await DefaultRanges(api.registry, CONFIG).ensure()
            await creates(api, row, obj, collection, path)
            await shows(api, row, collection, path)
            await changes(api, row, path)
            await deletes(api, row, obj, collection, path)

    asyncio.run(run())


async def creates(api: Api, row: Resource, obj: JSON, collection: str, path: str) -> None:
    rehearsed = await api.call("POST", f"{collection}?dryRun=All", obj)
    assert rehearsed.code == 201, rehearsed.body
    assert "resourceVersion" not in rehearsed.body["metadata"]
    assert (await api.call("GET", path)).code == 404
    typed = yaml.safe_dump(obj).encode()
    made = await api.call("POST", f"{collection}?fieldValidation=Strict", typed, "application/yaml")
    assert made.code == 201, made.body
    assert (made.body["kind"], made.body["apiVersion"]) == (row.kind, row.group_version)
    assert made.body["metadata"].get("generation") == (1 if row.generation else None)
    for sentence in unacted.warnings(row, CONFIG.unacted):
        assert sentence in made.warnings
    again = await api.call("POST", collection, obj)
    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    odd = obj | {"nosuch": 1}
    refused = await api.call("POST", f"{collection}?dryRun=All&fieldValidation=Strict", odd)
    assert (refused.code, 'unknown field "nosuch"' in refused.body["message"]) == (400, True)
    warned = await api.call("POST", f"{collection}?dryRun=All", odd | {"metadata": {"name": "another"}})
    assert warned.code != 201 or 'unknown field "nosuch"' in warned.warnings


async def shows(api: Api, row: Resource, collection: str, path: str) -> None:
    got = (await api.call("GET", path)).body
    assert yaml.safe_load((await api.call("GET", path, accept="application/yaml")).text) == got
    table = (await api.call("GET", collection, accept=TABLE)).body
    assert table["kind"] == "Table"
    assert all(isinstance(cell, str | int) for each in table["rows"] for cell in each["cells"])
    partial = (await api.call("GET", path, accept=PARTIAL)).body
    assert (partial["kind"], partial["metadata"]["uid"]) == ("PartialObjectMetadata", got["metadata"]["uid"])
    listed = (await api.call("GET", collection, accept=PARTIAL_LIST)).body
    assert (listed["kind"], listed["items"][0]["kind"]) == ("PartialObjectMetadataList", "PartialObjectMetadata")
    page = (await api.call("GET", f"{collection}?limit=1&fieldSelector=metadata.name%3D{path.rpartition('/')[2]}")).body
    assert page["kind"] == f"{row.kind}List"
    assert [item["metadata"]["uid"] for item in page["items"]] == [got["metadata"]["uid"]]
    odd = await api.call("GET", f"{collection}?fieldSelector=nosuch%3D1")
    assert odd.code == 400


async def changes(api: Api, row: Resource, path: str) -> None:
    got = (await api.call("GET", path)).body
    same = await api.call("PUT", path, got)
    assert (same.code, same.version) == (200, got["metadata"]["resourceVersion"]), same.body
    for content_type, body in (
        (MERGE, {"metadata": {"labels": {"one": "1"}}}),
        (STRATEGIC, {"metadata": {"labels": {"two": "2"}}}),
        (JSON_PATCH, [{"op": "add", "path": "/metadata/labels/three", "value": "3"}]),
    ):
        patched = await api.call("PATCH", path, body, content_type)
        assert patched.code == 200, patched.body
    assert {"one", "two", "three"} <= patched.body["metadata"]["labels"].keys()
    stale = await api.call("PUT", path, got)
    assert (stale.code, stale.body["reason"]) == (409, "Conflict")
    free = {**got, "metadata": {name: got["metadata"][name] for name in ("name",)}}
    unconditional = await api.call("PUT", f"{path}?dryRun=All", free)
    assert unconditional.code == (200 if row.unconditional_update else 422), unconditional.body
    if row.has_status:
        assert (await api.call("GET", f"{path}/status")).code == 200
        marked = await api.call("PATCH", f"{path}/status", {"metadata": {"labels": {"four": "4"}}}, MERGE)
        assert marked.code == 200, marked.body
    if row.subresource("scale"):
        scaled = await api.call("PATCH", f"{path}/scale", {"spec": {"replicas": 7}}, MERGE)
        assert (scaled.code, scaled.body["kind"], scaled.body["spec"]) == (200, "Scale", {"replicas": 7})
        assert (await api.call("GET", path)).body["spec"]["replicas"] == 7


async def deletes(api: Api, row: Resource, obj: JSON, collection: str, path: str) -> None:
    wrong = {"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}}
    assert (await api.call("DELETE", path, wrong)).code == 409
    assert (await api.call("DELETE", f"{path}?dryRun=All")).code == 200
    held = await api.call("PATCH", path, {"metadata": {"finalizers": ["example.com/hold"]}}, MERGE)
    assert held.code == 200
    waiting = (await api.call("DELETE", f"{path}?propagationPolicy=Background")).body
    if row.plural not in ("namespaces", "customresourcedefinitions"):  # which have other finalizers, too
        assert waiting["metadata"]["finalizers"] == ["example.com/hold"]
        assert waiting["metadata"]["deletionTimestamp"]
        assert (await api.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)).code == 200
        assert (await api.call("GET", path)).code == 404
        assert (await api.call("POST", collection, obj)).code == 201
        gone = await api.call("DELETE", f"{collection}?labelSelector=nosuch")
        assert (gone.code, gone.body["items"]) == (200, [])
        assert (await api.call("DELETE", f"{collection}?propagationPolicy=Background")).code == 200
        assert (await api.call("GET", path)).code == 404
