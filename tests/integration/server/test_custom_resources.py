"""Kinds that CustomResourceDefinitions define, through the handlers of a real registry: every verb, and their end."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import definitions
from tests.api_client import MERGE, Answered, Api, served

from twinstack.server.customresources.controller import DefinitionController

JSON = dict[str, Any]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROUTES = "/apis/gateway.example.com/v1/namespaces/default/webroutes"
BETA = "/apis/gateway.example.com/v1beta1/namespaces/default/webroutes"
POOLS = "/apis/pools.example.com/v1/namespaces/default/workerpools"
APPLY = "application/apply-patch+yaml"
PATIENCE = 30  # seconds

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def defined(path: Path, *crds: JSON) -> AsyncIterator[Api]:
    """A registry with its controller of definitions, and definitions that are established."""
    async with served(path) as api:
        controller = asyncio.create_task(DefinitionController(api.registry).run())
        try:
            for crd in crds:
                answer = await api.call("POST", CRDS, crd)
                assert answer.code == 201, answer.body
                await until(lambda name=crd["metadata"]["name"]: established(api, name))  # type: ignore[misc]
            yield api
        finally:
            controller.cancel()
            await asyncio.gather(controller, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.002)


def established(api: Api, name: str) -> bool:
    return bool(api.registry.catalogue.rows_of(name))


def run(work: Callable[[], Any]) -> None:
    asyncio.run(work())


def route(name: str = "a", **spec: Any) -> JSON:
    return {"apiVersion": "gateway.example.com/v1", "kind": "WebRoute", "metadata": {"name": name}, "spec": spec}


def pool(size: Any = 1, name: str = "p", **more: Any) -> JSON:
    meta = {"name": name}
    return {"apiVersion": "pools.example.com/v1", "kind": "WorkerPool", "metadata": meta, "spec": {"size": size} | more}


def message(answer: Answered) -> str:
    return str(answer.body["message"])


def test_a_definition_is_served_once_its_names_are_accepted(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.routes()) as api:
            crd = (await api.call("GET", f"{CRDS}/webroutes.gateway.example.com")).body
            conditions = {each["type"]: each for each in crd["status"]["conditions"]}
            assert {kind: (c["status"], c["reason"]) for kind, c in conditions.items()} == {
                "NamesAccepted": ("True", "NoConflicts"),
                "Established": ("True", "InitialNamesAccepted"),
            }
            assert crd["status"]["acceptedNames"] == {
                "kind": "WebRoute", "plural": "webroutes", "singular": "webroute", "listKind": "WebRouteList",
                "categories": ["gateway"],
            }  # fmt: skip
            assert crd["status"]["storedVersions"] == ["v1"]
            assert crd["spec"]["conversion"] == {"strategy": "None"}
            second = copy.deepcopy(definitions.routes())
            second["metadata"]["name"] = "others.gateway.example.com"
            second["spec"]["names"] = {"plural": "others", "kind": "WebRoute", "listKind": "OtherList"}
            await api.call("POST", CRDS, second)

            def refused() -> bool:
                status = api.registry.reader.get(definition_row(), "", "others.gateway.example.com")
                assert status is not None
                return any(c["reason"] == "KindConflict" for c in status["status"].get("conditions", []))

            await until(refused)
            assert not established(api, "others.gateway.example.com")
            await api.call("DELETE", f"{CRDS}/webroutes.gateway.example.com")
            await until(lambda: established(api, "others.gateway.example.com"))

    run(work)


def definition_row() -> Any:
    from twinstack.server.customresources.catalogue import DEFINITIONS

    return DEFINITIONS


def test_objects_are_defaulted_pruned_and_judged(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.routes()) as api:
            made = await api.call("POST", ROUTES, route(parentRefs=[{"name": "gw"}], odd=1))
            assert made.code == 201
            assert made.warnings == ['unknown field "spec.odd"']
            assert made.body["spec"] == {
                "parentRefs": [{"name": "gw", "group": "gateway.example.com", "kind": "Gateway"}],
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
            }
            assert made.body["metadata"]["generation"] == 1
            strict = await api.call(
                "POST", f"{ROUTES}?fieldValidation=Strict", route("b", odd=1, parentRefs=[{"x": 1, "name": "g"}])
            )
            assert message(strict) == (
                'WebRoute in version "v1" cannot be handled as a WebRoute: strict decoding error: '
                'unknown field "spec.odd", unknown field "spec.parentRefs[0].x"'
            )
            ignored = await api.call("POST", f"{ROUTES}?fieldValidation=Ignore&dryRun=All", route("b", odd=1))
            assert (ignored.code, ignored.warnings) == (201, [])
            wrong = await api.call(
                "POST", ROUTES, route("b", hostnames=["A"], rules=[{"backendRefs": [{"name": "s"}]}])
            )
            assert wrong.code == 422
            causes = {each["field"]: each["reason"] for each in wrong.body["details"]["causes"]}
            assert causes == {
                "spec.hostnames[0]": "FieldValueInvalid",
                "spec.rules[0].backendRefs[0]": "FieldValueInvalid",
            }
            assert "Must have port for Service reference" in message(wrong)
            blocked = await api.call("POST", ROUTES, route("b", hostnames="x"))
            assert message(blocked).endswith(
                '<nil>: Invalid value: "null": some validation rules were not checked because the object was invalid; '
                "correct the existing errors to complete validation]"
            )

    run(work)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({"metadata": {"name": "x"}}, 400, "Object 'Kind' is missing in"),
        ({"kind": "WebRoute", "apiVersion": "gateway.example.com/v2"}, 400, "the API version in the data (gateway.example.com/v2) does not match the expected API version (gateway.example.com/v1)"),
        ({"kind": "Other", "apiVersion": "gateway.example.com/v1", "metadata": {"name": "x"}}, 422, 'kind: Invalid value: "Other": must be WebRoute'),
        (route("UPPER"), 422, "a lowercase RFC 1123 subdomain must consist of"),
    ],
)  # fmt: skip
def test_bodies_of_another_kind(tmp_path: Path, body: JSON, code: int, text: str) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.routes()) as api:
            answer = await api.call("POST", ROUTES, body)
            assert (answer.code, text in message(answer)) == (code, True), message(answer)

    run(work)


def test_every_version_shows_the_same_object(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.routes()) as api:
            beta = route("b", hostnames=["b.example.com"]) | {"apiVersion": "gateway.example.com/v1beta1"}
            made = await api.call("POST", BETA, beta)
            assert (made.code, made.warnings) == (201, ["v1beta1 of webroutes is about to go"])
            assert made.body["apiVersion"] == "gateway.example.com/v1beta1"
            watch = await api.watch(f"{BETA}?watch=1")
            shown = await api.call("GET", f"{ROUTES}/b")
            assert shown.body["apiVersion"] == "gateway.example.com/v1"
            assert (shown.body["spec"], shown.version) == (made.body["spec"], made.version)
            listed = await api.call("GET", ROUTES)
            assert listed.body["kind"] == "WebRouteList"
            assert listed.body["items"][0]["kind"] == "WebRoute"
            await api.call("PATCH", f"{ROUTES}/b", {"metadata": {"labels": {"a": "b"}}}, MERGE)
            events = await watch.until(2)
            assert {obj["apiVersion"] for _, obj in events} == {"gateway.example.com/v1beta1"}
            watch.hang_up()
            await watch.task
            entries = (await api.call("GET", f"{BETA}/b")).body["metadata"]["managedFields"]
            assert {entry["apiVersion"] for entry in entries} == {
                "gateway.example.com/v1beta1",
                "gateway.example.com/v1",
            }

    run(work)


def test_status_and_scale_have_doors_of_their_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.workers()) as api:
            made = await api.call("POST", POOLS, pool(2) | {"status": {"size": 9}})
            assert "status" not in made.body
            told = await api.call(
                "PATCH", f"{POOLS}/p/status", {"status": {"size": 2, "selector": "a=b"}, "spec": {"size": 7}}, MERGE
            )
            assert (told.body["spec"]["size"], told.body["status"]["size"], told.body["metadata"]["generation"]) == (
                2,
                2,
                1,
            )
            kept = await api.call("PATCH", f"{POOLS}/p", {"status": {"size": 5}, "spec": {"size": 3}}, MERGE)
            assert (kept.body["spec"]["size"], kept.body["status"]["size"], kept.body["metadata"]["generation"]) == (
                3,
                2,
                2,
            )
            scale = await api.call("GET", f"{POOLS}/p/scale")
            assert (scale.body["kind"], scale.body["spec"], scale.body["status"]) == (
                "Scale",
                {"replicas": 3},
                {"replicas": 2, "selector": "a=b"},
            )
            scaled = await api.call("PATCH", f"{POOLS}/p/scale", {"spec": {"replicas": 6}}, MERGE)
            assert scaled.body["spec"] == {"replicas": 6}
            assert (await api.call("GET", f"{POOLS}/p")).body["spec"]["size"] == 6
            odd = await api.call("PATCH", f"{POOLS}/p/scale", {"spec": {"replicas": 11}}, MERGE)
            assert "spec: Invalid value: large pools are even, not 11" in message(odd)
            below = await api.call("POST", POOLS, pool(-1, "q"))
            assert ".spec.size: Invalid value: -1: should be a non-negative integer" in message(below)

    run(work)


def test_patches_and_puts(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.workers()) as api:
            made = await api.call("POST", POOLS, pool(2, image="i"))
            strategic = await api.call("PATCH", f"{POOLS}/p", {"spec": {}}, "application/strategic-merge-patch+json")
            assert (strategic.code, message(strategic)) == (
                415,
                (
                    "the body of the request was in an unknown format - accepted media types include: "
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
                ),
            )
            patch = [{"op": "replace", "path": "/spec/size", "value": 4}]
            assert (await api.call("PATCH", f"{POOLS}/p", patch, "application/json-patch+json")).body["spec"][
                "size"
            ] == 4
            unconditional = await api.call("PUT", f"{POOLS}/p", pool(5, image="i"))
            assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in message(
                unconditional
            )
            stale = pool(5, image="i")
            stale["metadata"]["resourceVersion"] = made.version
            assert (await api.call("PUT", f"{POOLS}/p", stale)).code == 409
            removed = await api.call("PATCH", f"{POOLS}/p", {"spec": {"image": None}}, MERGE)
            assert "spec.image: Forbidden: image cannot be removed" in message(removed)
            assert (await api.call("PUT", f"{POOLS}/none", pool(1, "none"))).code == 404

    run(work)


def test_applied_fields_follow_the_list_types_of_the_schema(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.issuers()) as api:
            url = "/apis/certs.example.com/v1/namespaces/default/issuers/i"

            def issuer(secret: str, manager: str, force: bool = False) -> tuple[str, JSON]:
                spec = {"ca": {"secretName": "s", "ocspServers": [secret]}}
                body = {"apiVersion": "certs.example.com/v1", "kind": "Issuer", "metadata": {"name": "i"}, "spec": spec}
                return f"{url}?fieldManager={manager}&force={str(force).lower()}", body

            target, body = issuer("a", "one")
            assert (await api.call("PATCH", target, body, APPLY)).code == 201
            target, body = issuer("b", "two")
            refused = await api.call("PATCH", target, body, APPLY)
            assert message(refused) == 'Apply failed with 1 conflict: conflict with "one": .spec.ca.ocspServers'
            target, body = issuer("b", "two", force=True)
            assert (await api.call("PATCH", target, body, APPLY)).body["spec"]["ca"]["ocspServers"] == ["b"]
            status = {"apiVersion": "certs.example.com/v1", "kind": "Issuer", "metadata": {"name": "i"}}
            when = "2026-01-01T00:00:00Z"
            for kind, manager in (("Ready", "x"), ("Healthy", "y")):
                condition = {"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": when}
                told = await api.call(
                    "PATCH",
                    f"{url}/status?fieldManager={manager}",
                    status | {"status": {"conditions": [condition]}},
                    APPLY,
                )
                assert told.code == 200, told.body
            assert [each["type"] for each in told.body["status"]["conditions"]] == ["Ready", "Healthy"]
            odd = await api.call("PATCH", f"{url}?fieldManager=z", status | {"spec": {"zzz": 1}}, APPLY)
            assert ".spec.zzz: field not declared in schema" in message(odd)

    run(work)


def test_lists_pages_selectors_and_watches(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.certificates()) as api:
            base = "/apis/certs.example.com/v1/namespaces/default/certificates"
            for name in ("a", "b", "c"):
                spec = {"secretName": f"s-{name}", "issuerRef": {"name": "i"}}
                meta = {"name": name, "labels": {"at": name}}
                body = {"apiVersion": "certs.example.com/v1", "kind": "Certificate", "metadata": meta, "spec": spec}
                assert (await api.call("POST", base, body)).code == 201
            first = await api.call("GET", f"{base}?limit=2")
            assert first.names == ["a", "b"]
            rest = await api.call("GET", f"{base}?limit=2&continue={first.body['metadata']['continue']}")
            assert rest.names == ["c"]
            assert (await api.call("GET", f"{base}?labelSelector=at%3Db")).names == ["b"]
            assert (await api.call("GET", f"{base}?fieldSelector=spec.secretName%3Ds-c")).names == ["c"]
            odd = await api.call("GET", f"{base}?fieldSelector=spec.other%3D1")
            assert message(odd).endswith("field label not supported: spec.other")
            initial = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
            watch = await api.watch(f"{base}?watch=1&{initial}&fieldSelector=spec.secretName%3Ds-a")
            await watch.until(2)
            assert watch.kinds == ["ADDED", "BOOKMARK"]
            await api.call("PATCH", f"{base}/a", {"spec": {"secretName": "other"}}, MERGE)
            await watch.until(3)
            assert watch.kinds[2] == "DELETED"
            watch.hang_up()
            await watch.task
            table = await api.call("GET", base, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
            assert [column["name"] for column in table.body["columnDefinitions"]] == [
                "Name",
                "Ready",
                "Secret",
                "Issuer",
                "Age",
            ]
            assert table.body["rows"][1]["cells"][:4] == ["b", None, "s-b", "i"]
            assert (await api.call("DELETE", f"{base}?labelSelector=at%21%3Da")).code == 200
            assert (await api.call("GET", base)).names == ["a"]

    run(work)


def test_a_changed_definition_ends_watches_and_judges_anew(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.workers()) as api:
            await api.call("POST", POOLS, pool(8))
            watch = await api.watch(f"{POOLS}?watch=1")
            await watch.until(1)
            crd = (await api.call("GET", f"{CRDS}/workerpools.pools.example.com")).body
            spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            spec["properties"]["size"]["maximum"] = 5
            spec["properties"]["zone"] = {"type": "string", "default": "z1"}
            before = api.registry.catalogue.rows_of("workerpools.pools.example.com")
            assert (await api.call("PUT", f"{CRDS}/workerpools.pools.example.com", crd)).code == 200
            async with asyncio.timeout(PATIENCE):
                await watch.task
            assert api.registry.catalogue.rows_of("workerpools.pools.example.com") != before
            assert (await api.call("GET", f"{POOLS}/p")).body["spec"] == {"size": 8, "zone": "z1"}
            labelled = await api.call("PATCH", f"{POOLS}/p", {"metadata": {"labels": {"a": "b"}}}, MERGE)
            assert labelled.code == 200, "what was valid before may stay"
            worse = await api.call("PATCH", f"{POOLS}/p", {"spec": {"size": 9}}, MERGE)
            assert "spec.size in body should be less than or equal to 5" in message(worse)

    run(work)


def test_objects_outlive_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s.db"
        async with defined(path, definitions.workers()) as api:
            made = await api.call("POST", POOLS, pool(2))
        async with served(path) as api:
            again = await api.call("GET", f"{POOLS}/p")
            assert again.body == made.body
            assert (await api.call("PATCH", f"{POOLS}/p", {"spec": {"size": 3}}, MERGE)).code == 200

    run(work)


def test_a_definition_takes_its_objects_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db", definitions.workers()) as api:
            for i in range(120):
                await api.call("POST", POOLS, pool(1, f"p{i}"))
            held = pool(1, "held")
            held["metadata"]["finalizers"] = ["example.com/hold"]
            await api.call("POST", POOLS, held)
            url = f"{CRDS}/workerpools.pools.example.com"
            going = await api.call("DELETE", url)
            assert going.body["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
            collection = api.registry.cache.collection(
                api.registry.catalogue.rows_of("workerpools.pools.example.com")[0]
            )
            await until(lambda: len(collection) == 1)
            late = await api.call("POST", POOLS, pool(1, "late"))
            assert (late.code, message(late)) == (
                405,
                "create not allowed while custom resource definition is terminating",
            )
            await api.call("PATCH", f"{POOLS}/held", {"metadata": {"finalizers": None}}, MERGE)
            await until(lambda: not established(api, "workerpools.pools.example.com"))
            assert (await api.call("GET", url)).code == 404
            assert (await api.call("POST", CRDS, definitions.workers())).code == 201
            await until(lambda: established(api, "workerpools.pools.example.com"))
            assert (await api.call("GET", POOLS)).names == []

    run(work)


def test_quick_churn_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with defined(tmp_path / "s.db") as api:
            for _ in range(5):
                assert (await api.call("POST", CRDS, definitions.workers())).code == 201
                await until(lambda: established(api, "workerpools.pools.example.com"))
                assert (await api.call("POST", POOLS, pool())).code == 201
                await api.call("DELETE", f"{CRDS}/workerpools.pools.example.com")
                await until(
                    lambda: api.registry.reader.get(definition_row(), "", "workerpools.pools.example.com") is None
                )
            assert api.registry.catalogue.custom == []

    run(work)
