"""Lists, pages, watches and the forms of both, on a real store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.api_client import MERGE, Api, served

from twinstack.server import watchcache
from twinstack.server.handlers import listing

JSON = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
WATCH_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


async def create(api: Api, name: str, namespace: str = "default", **labels: str) -> str:
    body = {"metadata": {"name": name, "labels": labels}, "data": {"n": "0"}}
    made = await api.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert made.code == 201
    return made.version


async def relabel(api: Api, name: str, **labels: str | None) -> str:
    return (await api.call("PATCH", f"{MAPS}/{name}", {"metadata": {"labels": labels}}, MERGE)).version


def test_lists_are_ordered_scoped_and_selected(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            for name, namespace in (("b", "default"), ("a", "kube-system"), ("a-b", "default"), ("a", "default")):
                await create(api, name, namespace, app=name)
            everywhere = await api.call("GET", "/api/v1/configmaps")
            found = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in everywhere.body["items"]]
            assert found == [("default", "a"), ("default", "a-b"), ("default", "b"), ("kube-system", "a")]
            assert everywhere.body["kind"] == "ConfigMapList"
            assert (await api.call("GET", f"{MAPS}?labelSelector=app+in+(a,b)")).names == ["a", "b"]
            assert (await api.call("GET", f"{MAPS}?fieldSelector=metadata.name%3Da")).names == ["a"]
            assert (await api.call("GET", "/api/v1/configmaps?fieldSelector=metadata.name%3Da")).names == ["a", "a"]
            other = await api.call("GET", f"{MAPS}?fieldSelector=metadata.namespace%3Dkube-system")
            assert other.names == []
            empty = await api.call("GET", "/api/v1/namespaces/kube-public/configmaps")
            assert (empty.body["items"], empty.version) == ([], everywhere.version)
            bad = await api.call("GET", f"{MAPS}?fieldSelector=spec.x%3Da")
            assert bad.code == 400

    asyncio.run(run())


def test_pages_are_one_snapshot(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            for name in "abcdefg":
                await create(api, name)
            first = await api.call("GET", f"{MAPS}?limit=3")
            assert (first.names, first.body["metadata"]["remainingItemCount"]) == (["a", "b", "c"], 4)
            await create(api, "ca")
            await api.call("DELETE", f"{MAPS}/e")
            await relabel(api, "f", new="1")
            token = first.body["metadata"]["continue"]
            second = await api.call("GET", f"{MAPS}?limit=3&continue={token}")
            assert (second.names, second.version) == (["d", "e", "f"], first.version)
            assert "labels" not in second.body["items"][2]["metadata"]
            rest = await api.call("GET", f"{MAPS}?continue={second.body['metadata']['continue']}")
            assert (rest.names, rest.version) == (["g"], first.version)
            assert "continue" not in rest.body["metadata"]
            exact = await api.call("GET", f"{MAPS}?resourceVersion={first.version}&resourceVersionMatch=Exact")
            assert exact.names == list("abcdefg")
            assert (await api.call("GET", MAPS)).names == ["a", "b", "c", "ca", "d", "f", "g"]
            selected = await api.call("GET", f"{MAPS}?limit=1&labelSelector=!new")
            assert "remainingItemCount" not in selected.body["metadata"]
            everything = await api.call("GET", f"{MAPS}?limit=2&resourceVersion=0")
            assert len(everything.names) == 7

    asyncio.run(run())


def test_a_snapshot_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchcache, "HISTORY_CHANGES", 3)

    async def run() -> None:
        async with served(tmp_path / "db") as api:
            for name in "abcd":
                await create(api, name)
            first = await api.call("GET", f"{MAPS}?limit=2")
            for i in range(5):
                await relabel(api, "d", n=str(i))
            gone = await api.call("GET", f"{MAPS}?limit=2&continue={first.body['metadata']['continue']}")
            assert (gone.code, gone.body["reason"]) == (410, "Expired")
            assert gone.body["message"].startswith("The provided continue parameter is too old")
            onwards = await api.call("GET", f"{MAPS}?limit=2&continue={gone.body['metadata']['continue']}")
            assert onwards.names == ["c", "d"]
            exact = await api.call("GET", f"{MAPS}?resourceVersion={first.version}&resourceVersionMatch=Exact")
            assert (exact.code, exact.body["reason"]) == (410, "Expired")
            watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={first.version}")
            await watch.task
            ((kind, status),) = watch.events
            assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
            assert status["message"].startswith(f"too old resource version: {first.version} (")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("continue=e30", "continue key is not valid: server does not recognize this encoded version "),
        ("continue=garbage", r"continue key is not valid: invalid character '\u0081' looking for beginning of value"),
        ("continue=a!", "continue key is not valid: illegal base64 data at input byte 1"),
        (
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0&resourceVersion=7",
            "specifying resource version is not allowed when using continue",
        ),
    ],
)
def test_bad_continue_tokens(tmp_path: Path, query: str, message: str) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            refused = await api.call("GET", f"{MAPS}?{query}")
            assert refused.code == 400
            assert message in refused.body["message"]

    asyncio.run(run())


def test_a_version_of_the_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FRESHNESS_SECONDS", 0.05)

    async def run() -> None:
        async with served(tmp_path / "db") as api:
            current = api.registry.cache.revision
            late = await api.call("GET", f"{MAPS}?resourceVersion={current + 5}")
            assert (late.code, late.body["reason"]) == (504, "Timeout")
            assert late.body["message"] == f"Timeout: Too large resource version: {current + 5}, current: {current}"
            assert late.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
            assert late.body["details"]["retryAfterSeconds"] == 1
            waiting = asyncio.ensure_future(api.call("GET", f"{MAPS}?resourceVersion={current + 1}"))
            await asyncio.sleep(0)
            await create(api, "a")
            assert (await waiting).names == ["a"]

    asyncio.run(run())


def test_watch_list_on_nothing_and_on_something(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            empty = await api.watch(f"{MAPS}?{WATCH_LIST}")
            ((kind, bookmark),) = await empty.until(1)
            assert kind == "BOOKMARK"
            assert bookmark["kind"] == "ConfigMap"
            assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            await create(api, "a")
            await empty.until(2)
            assert empty.kinds == ["BOOKMARK", "ADDED"]
            full = await api.watch(f"{MAPS}?{WATCH_LIST}")
            await full.until(2)
            assert full.kinds == ["ADDED", "BOOKMARK"]
            assert full.writes == 1
            resumed = await api.watch(f"{MAPS}?watch=1&resourceVersion={bookmark['metadata']['resourceVersion']}")
            await resumed.until(1)
            assert resumed.kinds == ["ADDED"]
            quiet = await api.watch(f"{MAPS}?{WATCH_LIST.replace('&allowWatchBookmarks=true', '')}")
            legacy = await api.watch(f"{MAPS}?watch=1")
            await relabel(api, "a", x="1")
            await quiet.until(2)
            assert quiet.kinds == ["ADDED", "MODIFIED"]
            await legacy.until(2)
            assert legacy.kinds == ["ADDED", "MODIFIED"]
            for watch in (empty, full, resumed, quiet, legacy):
                watch.hang_up()
                await watch.task
            assert len(api.registry.cache.collection(api_resource()).watches) == 0

    asyncio.run(run())


def api_resource() -> Any:
    from twinstack.api.resources import resource

    return resource("", "configmaps")


def test_many_initial_events_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twinstack.server.handlers import watching

    monkeypatch.setattr(watching, "_BATCH_BYTES", 500)

    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await asyncio.gather(*(create(api, f"m{i:02}") for i in range(20)))
            watch = await api.watch(f"{MAPS}?{WATCH_LIST}")
            changed = await relabel(api, "m19", during="1")  # while the first batches are on their way
            await watch.until(22)
            assert watch.kinds[:21] == ["ADDED"] * 20 + ["BOOKMARK"]
            assert watch.events[21][1]["metadata"]["resourceVersion"] == changed
            assert watch.writes > 5
            watch.hang_up()
            await watch.task

    asyncio.run(run())


def test_watches_resume_and_follow_selectors(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            start = await create(api, "a", app="x")
            await relabel(api, "a", app="y")
            await create(api, "b", app="x")
            selector = quote("app=x")
            watch = await api.watch(f"{MAPS}?watch=1&labelSelector={selector}&resourceVersion={start}")
            await relabel(api, "a", app="x")
            left = await relabel(api, "b", app="z")
            await api.call("DELETE", f"{MAPS}/b")
            events = await watch.until(4)
            seen = [(kind, obj["metadata"]["name"]) for kind, obj in events]
            assert seen == [("DELETED", "a"), ("ADDED", "b"), ("ADDED", "a"), ("DELETED", "b")]
            gone = events[3][1]["metadata"]
            assert (gone["labels"], gone["resourceVersion"]) == ({"app": "x"}, left)
            one = await api.watch(f"{MAPS}?watch=1&fieldSelector=metadata.name%3Da&resourceVersion={left}")
            await relabel(api, "a", app=None)
            await create(api, "ab")
            await one.until(1)
            await asyncio.sleep(0.02)
            assert one.kinds == ["MODIFIED"]
            for each in (watch, one):
                each.hang_up()
                await each.task

    asyncio.run(run())


def test_a_watch_ends_in_time_after_a_bookmark(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            start = await create(api, "a")
            url = f"{MAPS}?watch=1&resourceVersion={start}"
            plain = await api.watch(f"{url}&timeoutSeconds=1")
            marked = await api.watch(f"{url}&timeoutSeconds=3&allowWatchBookmarks=true")
            other = await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
            began = asyncio.get_running_loop().time()
            await asyncio.gather(plain.task, marked.task)
            assert asyncio.get_running_loop().time() - began < 30
            assert plain.kinds == []
            ((kind, bookmark),) = marked.events
            assert kind == "BOOKMARK"
            assert bookmark["metadata"] == {"resourceVersion": other.version}

    asyncio.run(run())


def test_tables_and_metadata(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            start = await create(api, "a", app="x")
            table = await api.call("GET", MAPS, accept=TABLE)
            assert (table.body["kind"], table.body["apiVersion"]) == ("Table", "meta.k8s.io/v1")
            assert [column["name"] for column in table.body["columnDefinitions"]] == ["Name", "Data", "Age"]
            (row,) = table.body["rows"]
            assert row["cells"][0] == "a"
            assert row["object"]["kind"] == "PartialObjectMetadata"
            whole = await api.call("GET", f"{MAPS}/a?includeObject=Object", accept=TABLE)
            assert whole.body["rows"][0]["object"]["data"] == {"n": "0"}
            part = await api.call("GET", f"{MAPS}/a", accept=PARTIAL)
            assert (part.body["kind"], set(part.body)) == ("PartialObjectMetadata", {"kind", "apiVersion", "metadata"})
            parts = await api.call("GET", MAPS, accept=PARTIAL_LIST)
            assert parts.body["kind"] == "PartialObjectMetadataList"
            watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={start}", accept=f"{TABLE},application/json")
            metadata = await api.watch(f"{MAPS}?{WATCH_LIST}", accept=PARTIAL)
            await relabel(api, "a", app="y")
            await relabel(api, "a", app="z")
            (_, first), (_, second) = await watch.until(2)
            assert first["columnDefinitions"]
            assert not second["columnDefinitions"]
            assert second["rows"][0]["object"]["metadata"]["labels"] == {"app": "z"}
            await metadata.until(4)
            assert metadata.kinds == ["ADDED", "BOOKMARK", "MODIFIED", "MODIFIED"]
            assert {obj["kind"] for _, obj in metadata.events} == {"PartialObjectMetadata"}
            for each in (watch, metadata):
                each.hang_up()
                await each.task

    asyncio.run(run())


def test_what_is_not_acceptable(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            await create(api, "a")
            html = await api.call("GET", f"{MAPS}/a", accept="text/html")
            assert (html.code, html.body["reason"]) == (406, "NotAcceptable")
            assert html.body["message"].startswith("406: Not Acceptable\n\nAvailable representations: ")
            future = await api.call("GET", MAPS, accept=TABLE.replace("v=v1", "v=v2"))
            assert future.body["message"].startswith("only the following media types are accepted: ")
            choosy = await api.call("GET", MAPS, accept="application/vnd.kubernetes.protobuf, */*")
            assert choosy.code == 200
            single = await api.call("GET", f"{MAPS}/a", accept=PARTIAL_LIST)
            assert single.body["message"].endswith("but the requested object is not a list (*core.ConfigMap)")
            yaml = await api.call("GET", f"{MAPS}/a", accept="application/yaml")
            assert (yaml.content_type, yaml.text.splitlines()[0]) == ("application/yaml", "apiVersion: v1")
            include = await api.call("GET", f"{MAPS}?includeObject=Bogus", accept=TABLE)
            assert include.code == 400

    asyncio.run(run())


def test_watches_resume_over_a_restart_where_nothing_was_missed(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path / "store.db") as api:
            await api.call("POST", MAPS, {"metadata": {"name": "a"}})
            seen = (await api.call("GET", MAPS)).version
            await api.call("POST", SECRETS, {"metadata": {"name": "b"}})
        async with served(tmp_path / "store.db") as api:
            watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={seen}")
            await api.call("DELETE", f"{MAPS}/a")
            assert [kind for kind, _ in await watch.until(1)] == ["DELETED"]
            late = await api.watch(f"{SECRETS}?watch=1&resourceVersion={seen}")
            ((kind, status),) = await late.until(1)
            assert (kind, status["code"]) == ("ERROR", 410), "what was missed is not known any more"
            for each in (watch, late):
                each.hang_up()
                await each.task
        async with served(tmp_path / "store.db") as api:
            gone = await api.watch(f"{MAPS}?watch=1&resourceVersion={seen}")
            ((kind, status),) = await gone.until(1)
            assert (kind, status["code"]) == ("ERROR", 410), "a deletion was missed"
            gone.hang_up()
            await gone.task

    asyncio.run(main())
