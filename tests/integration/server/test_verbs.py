"""The verbs on a real store: create, update, patch, delete and their races."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import ADMIN, CONFIG, MERGE, Api, served

from twinstack.api.resources import resource
from twinstack.api.times import format_time
from twinstack.server import event_expiry
from twinstack.server.kubernetes_service import DefaultRanges
from twinstack.server.messages import Route
from twinstack.server.objectmeta import generated_name

JSON = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
CONFIG_MAPS = resource("", "configmaps")


def config_map(name: str, data: dict[str, str] | None = None, **meta: Any) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} | meta, "data": data or {"a": "1"}}


def service(name: str, **spec: Any) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}]} | spec,
    }


def test_every_cluster_has_four_namespaces(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            listed = await api.call("GET", "/api/v1/namespaces")
            assert listed.names == ["default", "kube-node-lease", "kube-public", "kube-system"]
            first = (await api.call("GET", "/api/v1/namespaces/default")).body
            assert first["spec"] == {"finalizers": ["kubernetes"]}
            assert first["status"] == {"phase": "Active"}
            assert first["metadata"]["labels"] == {"kubernetes.io/metadata.name": "default"}
        async with served(tmp_path / "db") as api:
            assert await api.call("GET", "/api/v1/namespaces") is not None
            again = await api.call("GET", "/api/v1/namespaces/default")
            assert again.body == first

    asyncio.run(run())


def test_create_read_update_delete(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = await api.call("POST", MAPS, config_map("a", labels={"x": "1"}))
            assert made.code == 201
            meta = made.body["metadata"]
            assert meta["namespace"] == "default"
            assert meta["uid"]
            assert meta["creationTimestamp"].endswith("Z")
            read = await api.call("GET", f"{MAPS}/a")
            assert read.body == made.body
            taken = await api.call("POST", MAPS, config_map("a"))
            assert (taken.code, taken.body["message"]) == (409, 'configmaps "a" already exists')
            changed = await api.call("PUT", f"{MAPS}/a", read.body | {"data": {"a": "2"}})
            assert changed.code == 200
            assert int(changed.version) > int(made.version)
            stale = await api.call("PUT", f"{MAPS}/a", read.body)
            assert (stale.code, stale.body["reason"]) == (409, "Conflict")
            forced = await api.call("PUT", f"{MAPS}/a", config_map("a"))
            assert forced.body["metadata"]["uid"] == meta["uid"]
            assert forced.body["metadata"]["creationTimestamp"] == meta["creationTimestamp"]
            gone = await api.call("DELETE", f"{MAPS}/a")
            assert (gone.code, gone.body["status"]) == (200, "Success")
            assert gone.body["details"] == {"name": "a", "kind": "configmaps", "uid": meta["uid"]}
            missing = await api.call("GET", f"{MAPS}/a")
            assert (missing.code, missing.body["message"]) == (404, 'configmaps "a" not found')

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        ("POST", "/api/v1/namespaces/nope/configmaps", config_map("a"), 404, 'namespaces "nope" not found'),
        ("PUT", f"{MAPS}/absent", config_map("absent"), 404, 'configmaps "absent" not found'),
        (
            "PUT",
            f"{MAPS}/a",
            config_map("other"),
            400,
            "the name of the object (other) does not match the name on the URL (a)",
        ),
        (
            "PUT",
            f"{MAPS}/a",
            {"apiVersion": "v1", "kind": "ConfigMap"},
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            "POST",
            MAPS,
            config_map("b", namespace="kube-system"),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "POST",
            MAPS,
            config_map("b", resourceVersion="7"),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "PUT",
            f"{MAPS}/a",
            config_map("a", uid="other"),
            409,
            (
                'Operation cannot be fulfilled on configmaps "a": StorageError: invalid object, Code: 4, Key: '
                "/registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in "
                "precondition: other, UID in object meta: "
            ),
        ),
        ("DELETE", "/api/v1/namespaces/default", None, 403, 'namespaces "default" is forbidden: this namespace may'),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/default/leases/l",
            {"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}},
            422,
            'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified',
        ),
    ],
)
def test_refusals(tmp_path: Path, method: str, path: str, body: JSON, code: int, message: str) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await api.call("POST", MAPS, config_map("a"))
            lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}}
            made = await api.call("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/l", lease)
            assert made.code == 201
            refused = await api.call(method, path, body)
            assert refused.code == code
            assert refused.body["message"].startswith(message)

    asyncio.run(run())


def test_a_write_without_effect_is_no_write(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = await api.call("POST", MAPS, config_map("a"))
            watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={made.version}")
            before = api.registry.cache.revision
            assert (await api.call("PUT", f"{MAPS}/a", made.body)).body == made.body
            assert (await api.call("PUT", f"{MAPS}/a", config_map("a"))).body == made.body
            assert (await api.call("PATCH", f"{MAPS}/a", {"data": {"a": "1"}}, MERGE)).body == made.body
            assert api.registry.cache.revision == before
            await api.call("PATCH", f"{MAPS}/a", {"data": {"a": "2"}}, MERGE)
            await watch.until(1)
            assert watch.kinds == ["MODIFIED"]
            watch.hang_up()
            await watch.task

    asyncio.run(run())


def test_generated_names_are_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}
            random.seed(7)
            names = [generated_name("x-") for _ in range(8)]
            for name in names[:-1]:
                await api.call("POST", MAPS, config_map(name))
            random.seed(7)
            made = await api.call("POST", MAPS, body)
            assert (made.code, made.body["metadata"]["name"]) == (201, names[-1])
            random.seed(7)
            taken = await api.call("POST", MAPS, body)
            assert (taken.code, taken.body["reason"]) == (409, "AlreadyExists")
            assert taken.body["details"]["retryAfterSeconds"] == 1

    asyncio.run(run())


def test_racing_changes_all_count(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await api.call("POST", MAPS, config_map("a", {"n": "0"}))

            def increment(obj: JSON) -> tuple[JSON, list[str]]:
                obj["data"]["n"] = str(int(obj["data"]["n"]) + 1)
                return obj, []

            route = Route(CONFIG_MAPS, "default", "a")
            await asyncio.gather(*(api.registry.change(route, increment, ADMIN) for _ in range(30)))
            keys = [{"data": {f"k{i}": "1"}} for i in range(30)]
            answers = await asyncio.gather(*(api.call("PATCH", f"{MAPS}/a", key, MERGE) for key in keys))
            assert {answer.code for answer in answers} == {200}
            data = (await api.call("GET", f"{MAPS}/a")).body["data"]
            assert data["n"] == "30"
            assert len(data) == 31
            creations = await asyncio.gather(*(api.call("POST", MAPS, config_map("same")) for _ in range(10)))
            assert sorted(answer.code for answer in creations) == [201] + [409] * 9
            assert {answer.body.get("reason") for answer in creations} == {None, "AlreadyExists"}

    asyncio.run(run())


def test_patches_hold_and_break_the_optimistic_lock(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = await api.call("POST", MAPS, config_map("a"))
            lock = {"metadata": {"resourceVersion": made.version}, "data": {"a": "2"}}
            assert (await api.call("PATCH", f"{MAPS}/a", lock, MERGE)).code == 200
            assert (await api.call("PATCH", f"{MAPS}/a", lock, MERGE)).code == 409
            uid = {"metadata": {"uid": "other"}}
            refused = await api.call("PATCH", f"{MAPS}/a", uid, MERGE)
            assert refused.code == 422
            assert "metadata.uid: Invalid value" in refused.body["message"]
            renamed = await api.call("PATCH", f"{MAPS}/a", {"metadata": {"name": "b"}}, MERGE)
            assert renamed.code == 400
            json_patch = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "remove", "path": "/data/a"}]
            done = await api.call("PATCH", f"{MAPS}/a", json_patch, "application/json-patch+json")
            assert "data" not in done.body
            unknown = await api.call("PATCH", f"{MAPS}/a", {}, "application/foo")
            assert (unknown.code, unknown.body["message"]) == (415, "415: Unsupported Media Type")
            apply = await api.call("PATCH", f"{MAPS}/a?fieldManager=x", {}, "application/apply-patch+yaml")
            assert (apply.code, apply.body["message"]) == (400, "invalid object type: /, Kind=")

    asyncio.run(run())


def test_unknown_fields(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            body = config_map("a") | {"datum": 1}
            strict = await api.call("POST", f"{MAPS}?fieldValidation=Strict", body)
            assert strict.code == 400
            assert strict.body["message"].endswith('strict decoding error: unknown field "datum"')
            warned = await api.call("POST", MAPS, body)
            assert (warned.code, warned.warnings) == (201, ['unknown field "datum"'])
            assert "datum" not in warned.body
            patch = await api.call("PATCH", f"{MAPS}/a", {"nope": 1}, MERGE)
            assert (patch.code, patch.warnings) == (200, ['unknown field "nope"'])
            silent = await api.call("PATCH", f"{MAPS}/a?fieldValidation=Ignore", {"nope": 1}, MERGE)
            assert (silent.code, silent.warnings) == (200, [])
            strictly = await api.call("PATCH", f"{MAPS}/a?fieldValidation=Strict", {"nope": 1}, MERGE)
            assert strictly.code == 422

    asyncio.run(run())


def test_dry_runs_store_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = await api.call("POST", MAPS, config_map("a"))
            before = api.registry.cache.revision
            tried = await api.call("POST", f"{MAPS}?dryRun=All", config_map("b"))
            assert tried.code == 201
            assert "resourceVersion" not in tried.body["metadata"]
            assert tried.body["metadata"]["uid"]
            assert (await api.call("POST", f"{MAPS}?dryRun=All", config_map("a"))).code == 409
            patched = await api.call("PATCH", f"{MAPS}/a?dryRun=All", {"data": {"a": "2"}}, MERGE)
            assert (patched.body["data"], patched.version) == ({"a": "2"}, made.version)
            assert (await api.call("DELETE", f"{MAPS}/a?dryRun=All")).code == 200
            assert (await api.call("DELETE", f"{MAPS}?dryRun=All")).names == ["a"]
            assert api.registry.cache.revision == before
            assert (await api.call("GET", f"{MAPS}/a")).body == made.body

    asyncio.run(run())


def test_finalizers(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            made = await api.call("POST", MAPS, config_map("a", finalizers=["x.y/z", "x.y/w"]))
            watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={made.version}")
            held = await api.call("DELETE", f"{MAPS}/a")
            assert held.body["metadata"]["deletionGracePeriodSeconds"] == 0
            again = await api.call("DELETE", f"{MAPS}/a")
            assert again.body == held.body
            added = await api.call("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": ["x.y/new", "x.y/z"]}}, MERGE)
            assert added.code == 422
            assert "no new finalizers can be added if the object is being deleted" in added.body["message"]
            fewer = await api.call("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": ["x.y/z"]}}, MERGE)
            assert fewer.body["metadata"]["deletionTimestamp"] == held.body["metadata"]["deletionTimestamp"]
            last = await api.call("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, MERGE)
            assert (last.code, last.version) == (200, fewer.version)
            assert (await api.call("GET", f"{MAPS}/a")).code == 404
            await watch.until(3)
            assert watch.kinds == ["MODIFIED", "MODIFIED", "DELETED"]
            watch.hang_up()
            await watch.task

    asyncio.run(run())


def test_deletion_with_options_and_answers(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await DefaultRanges(api.registry, CONFIG).ensure()
            for name in ("a", "b"):
                await api.call("POST", SERVICES, service(name))
            made = await api.call("GET", f"{SERVICES}/a")
            wrong = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "x"}}
            assert (await api.call("DELETE", f"{SERVICES}/a", wrong)).code == 409
            gone = await api.call("DELETE", f"{SERVICES}/a")
            assert gone.body["kind"] == "Service"
            assert int(gone.version) > int(made.version)
            foreground = await api.call("DELETE", f"{SERVICES}/b?propagationPolicy=Foreground")
            assert foreground.body["metadata"]["finalizers"] == ["foregroundDeletion"]
            for i in range(3):
                await api.call("POST", MAPS, config_map(f"m{i}", labels={"app": "x"} if i else {}))
            collected = await api.call("DELETE", f"{MAPS}?labelSelector=app%3Dx")
            assert (collected.body["kind"], collected.names) == ("ConfigMapList", ["m1", "m2"])
            assert (await api.call("GET", MAPS)).names == ["m0"]

    asyncio.run(run())


def test_a_namespace_from_birth_to_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
            going = await api.call("DELETE", "/api/v1/namespaces/n")
            assert going.body["status"]["phase"] == "Terminating"
            assert (await api.call("DELETE", "/api/v1/namespaces/n")).body == going.body
            late = await api.call("POST", "/api/v1/namespaces/n/configmaps", config_map("late"))
            assert (late.code, late.body["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
            condition = {"type": "NamespaceContentRemaining", "status": "False", "reason": "r", "message": "m"}
            body = going.body | {"status": {"phase": "Terminating", "conditions": [condition]}}
            told = await api.call("PUT", "/api/v1/namespaces/n/status", body)
            assert told.body["status"]["conditions"][0]["type"] == "NamespaceContentRemaining"
            stale = await api.call("PUT", "/api/v1/namespaces/n/finalize", going.body | {"spec": {}})
            assert stale.code == 409
            odd = told.body | {"metadata": told.body["metadata"] | {"labels": {"a b": "c"}}}
            assert (await api.call("PUT", "/api/v1/namespaces/n/finalize", odd)).code == 422
            final = await api.call("PUT", "/api/v1/namespaces/n/finalize", told.body | {"spec": {}})
            assert final.code == 200
            assert (await api.call("GET", "/api/v1/namespaces/n")).code == 404

    asyncio.run(run())


def pod(name: str) -> JSON:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "twinstack.local/host"}]}}


def test_pods_are_bound_and_end_in_grace(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            pods = "/api/v1/namespaces/default/pods"
            for name in ("p", "q"):
                assert (await api.call("POST", pods, pod(name))).code == 201
            start = api.registry.cache.revision
            node = await api.watch(f"/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1&resourceVersion={start}")
            binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
            bound = await api.call("POST", f"{pods}/p/binding", binding)
            assert (bound.code, bound.body["status"]) == (201, "Success")
            twice = await api.call("POST", "/api/v1/namespaces/default/bindings", binding)
            assert (twice.code, twice.body["details"]["kind"]) == (409, "pods/binding")
            read = await api.call("GET", f"{pods}/p")
            assert read.body["spec"]["nodeName"] == "n1"
            going = await api.call("DELETE", f"{pods}/p")
            assert going.body["metadata"]["deletionGracePeriodSeconds"] == 30
            end = {"gracePeriodSeconds": 0, "preconditions": {"uid": read.body["metadata"]["uid"]}}
            assert (await api.call("DELETE", f"{pods}/p", end)).code == 200
            assert (await api.call("DELETE", f"{pods}/q")).body["kind"] == "Pod"
            await node.until(4)
            assert node.kinds == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
            assert (await api.call("GET", pods)).names == []
            node.hang_up()
            await node.task

    asyncio.run(run())


def test_scale(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            sets = "/apis/apps/v1/namespaces/default/replicasets"
            template = {"metadata": {"labels": {"app": "x"}}, "spec": pod("x")["spec"]}
            spec = {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": template}
            made = await api.call("POST", sets, {"metadata": {"name": "r"}, "spec": spec})
            assert made.code == 201, made.body
            scale = await api.call("GET", f"{sets}/r/scale")
            assert (scale.body["kind"], scale.body["spec"]) == ("Scale", {"replicas": 2})
            more = await api.call("PUT", f"{sets}/r/scale", scale.body | {"spec": {"replicas": 5}})
            assert more.body["spec"] == {"replicas": 5}
            stale = await api.call("PUT", f"{sets}/r/scale", scale.body | {"spec": {"replicas": 6}})
            assert stale.code == 409
            fewer = await api.call("PATCH", f"{sets}/r/scale", {"spec": {"replicas": 1}}, MERGE)
            assert (fewer.body["kind"], fewer.body["spec"]) == ("Scale", {"replicas": 1})
            read = await api.call("GET", f"{sets}/r")
            assert (read.body["spec"]["replicas"], read.body["metadata"]["generation"]) == (1, 3)

    asyncio.run(run())


def test_events_have_one_storage_and_two_forms(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            new, old = "/apis/events.k8s.io/v1/namespaces/default/events", "/api/v1/namespaces/default/events"
            event = {
                "metadata": {"name": "e"},
                "eventTime": "2026-01-01T00:00:00.000000Z",
                "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
                "note": "hello",
                "type": "Normal",
                "reason": "Started",
                "action": "Start",
                "reportingController": "x.io/y",
                "reportingInstance": "z",
            }
            core = await api.watch(f"{old}?watch=1&fieldSelector=involvedObject.name%3Dp&resourceVersion=4")
            other = await api.watch(f"{new}?watch=1&resourceVersion=4")
            made = await api.call("POST", new, event)
            assert made.code == 201, made.body
            assert (made.body["apiVersion"], made.body["note"]) == ("events.k8s.io/v1", "hello")
            read = await api.call("GET", f"{old}/e")
            assert (read.body["apiVersion"], read.body["message"]) == ("v1", "hello")
            assert read.body["involvedObject"]["name"] == "p"
            listed = await api.call("GET", f"{new}?fieldSelector=regarding.name%3Dp")
            assert listed.body["items"][0]["regarding"]["name"] == "p"
            patched = await api.call("PATCH", f"{new}/e", {"series": None, "note": "again"}, MERGE)
            assert patched.body["note"] == "again", patched.body
            seen = await core.until(2)
            assert [obj["message"] for _, obj in seen] == ["hello", "again"]
            assert [obj["note"] for _, obj in await other.until(2)] == ["hello", "again"]
            for watch in (core, other):
                watch.hang_up()
                await watch.task

    asyncio.run(run())


def test_events_are_forgotten_in_time(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            url = "/api/v1/namespaces/default/events"
            about = {"kind": "Pod", "name": "p", "namespace": "default"}
            for name, last in (("old", 0.0), ("again", 1800.0)):
                event = {
                    "metadata": {"name": name},
                    "involvedObject": about,
                    "firstTimestamp": format_time(time.time()),
                    "lastTimestamp": format_time(time.time() + last),
                }
                assert (await api.call("POST", url, event)).code == 201
            await event_expiry.expire(api.registry, time.time() + event_expiry.EVENT_SECONDS - 60)
            assert (await api.call("GET", url)).names == ["again", "old"]
            await event_expiry.expire(api.registry, time.time() + event_expiry.EVENT_SECONDS + 60)
            assert (await api.call("GET", url)).names == ["again"]

    asyncio.run(run())


async def addresses(api: Api) -> list[str]:
    return (await api.call("GET", "/apis/networking.k8s.io/v1/ipaddresses")).names


def test_addresses_and_ports_come_and_go_with_their_service(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await DefaultRanges(api.registry, CONFIG).ensure()
            wanted = service("w", clusterIP="10.96.0.9", type="NodePort", ipFamilyPolicy="PreferDualStack")
            racers = [wanted | {"metadata": {"name": f"w{i}"}} for i in range(6)]
            answers = await asyncio.gather(*(api.call("POST", SERVICES, racer) for racer in racers))
            assert sorted(answer.code for answer in answers) == [201] + [422] * 5
            assert len(await addresses(api)) == 2
            winner = next(answer for answer in answers if answer.code == 201).body
            assert sorted(winner["spec"]["clusterIPs"]) == sorted(await addresses(api))
            free = await asyncio.gather(*(api.call("POST", SERVICES, service(f"f{i}")) for i in range(20)))
            assert len({answer.body["spec"]["clusterIP"] for answer in free}) == 20
            assert len(await addresses(api)) == 22
            port = winner["spec"]["ports"][0]["nodePort"]
            assert api.registry.reader.exists(f"nodeports/{port}")
            await api.call("DELETE", f"{SERVICES}/{winner['metadata']['name']}")
            assert not api.registry.reader.exists(f"nodeports/{port}")
            await api.call("DELETE", SERVICES)
            assert await addresses(api) == []

    asyncio.run(run())


def test_versions_never_repeat_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        last = 0
        for _ in range(3):
            async with served(tmp_path / "db") as api:
                made = await api.call("POST", MAPS, config_map("a"))
                assert int(made.version) > last
                await api.call("DELETE", f"{MAPS}/a")
                listed = await api.call("GET", MAPS)
                assert int(listed.version) > int(made.version)
                last = int(listed.version)

    asyncio.run(run())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_cannot_be_answered_is_not_done(method: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            kept = (await api.call("POST", MAPS, config_map("kept"))).body
            url, body = (
                (MAPS, config_map("new")) if method == "POST" else (f"{MAPS}/kept", config_map("kept", {"b": "2"}))
            )
            refused = await api.call(
                method,
                url,
                None if method == "DELETE" else body,
                MERGE if method == "PATCH" else "application/json",
                accept="image/png",
            )
            assert refused.code == 406
            assert (await api.call("GET", f"{MAPS}/kept")).body == kept
            assert (await api.call("GET", f"{MAPS}/new")).code == 404

    asyncio.run(run())


def test_questions_have_no_columns(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            url, table = (
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                "application/json;as=Table;v=v1;g=meta.k8s.io",
            )
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            refused = await api.call("POST", url, body, accept=table)
            assert (refused.code, refused.body["reason"]) == (406, "NotAcceptable")
            answered = await api.call("POST", url, body, accept=f"{table},application/json")
            assert (answered.code, answered.body["kind"]) == (201, "SelfSubjectReview")

    asyncio.run(run())
