"""resourceVersion, resourceVersionMatch, limit, continue and sendInitialEvents: what each combination is answered.

The rules are those of the API concepts ("Resource versions", "Semantics for get and list", "Streaming lists") and of
KEP-365, KEP-2340, KEP-3157.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import Answered, Api, served

from twinstack.api.errors import StatusError
from twinstack.server import watchcache
from twinstack.server.handlers import listing

JSON = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"

# What a read may show. The state grows by one object a revision: a, b, … ; `old` is the revision at which c came,
# `gone` one before what is remembered.
NOW = "a b c d e f g h"
OLD = "a b c"
TWO = "a b …"

UNSET_MATCH = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
EXACT_ZERO = 'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
WITH_CONTINUE = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"
ODD_MATCH = 'resourceVersionMatch: Unsupported value: "Bogus": supported values: "Exact", "NotOlderThan", ""'
LIST_INITIAL = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
NEEDS_INITIAL = (
    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
)
NEEDS_MATCH = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
NO_CONTINUE = "continue: Forbidden: continue is forbidden for watch"
ONLY_NEWER = 'resourceVersionMatch: Unsupported value: "{}": supported values: "NotOlderThan"'
TOO_OLD = "410 The resourceVersion for the provided list is too old."
TOO_LARGE = "504 Timeout: Too large resource version: {future}, current: {now}"
TWO_VERSIONS = "400 specifying resource version is not allowed when using continue"


def invalid(*details: str) -> str:
    text = details[0] if len(details) == 1 else f"[{', '.join(details)}]"
    return f'422 ListOptions.meta.k8s.io "" is invalid: {text}'


LISTS = {
    # unset: the present state, consistently
    "": NOW,
    "limit=2": TWO,
    "resourceVersionMatch=NotOlderThan": invalid(UNSET_MATCH),
    "resourceVersionMatch=Exact": invalid(UNSET_MATCH),
    "resourceVersionMatch=Bogus": invalid(UNSET_MATCH, ODD_MATCH),
    # "0": any state; the limit is not heeded
    "resourceVersion=0": NOW,
    "resourceVersion=0&limit=2": NOW,
    "resourceVersion=0&resourceVersionMatch=NotOlderThan": NOW,
    "resourceVersion=0&resourceVersionMatch=Exact": invalid(EXACT_ZERO),
    "resourceVersion=0&resourceVersionMatch=Bogus": invalid(ODD_MATCH),
    # one that is remembered: not older than it, but exactly it with a limit
    "resourceVersion={old}": NOW,
    "resourceVersion={old}&limit=2": f"{TWO} of {OLD}",
    "resourceVersion={old}&limit=100": OLD,
    "resourceVersion={old}&resourceVersionMatch=NotOlderThan": NOW,
    "resourceVersion={old}&resourceVersionMatch=NotOlderThan&limit=2": TWO,
    "resourceVersion={old}&resourceVersionMatch=Exact": OLD,
    "resourceVersion={old}&resourceVersionMatch=Exact&limit=2": f"{TWO} of {OLD}",
    "resourceVersion={old}&resourceVersionMatch=Bogus": invalid(ODD_MATCH),
    # the present one
    "resourceVersion={now}": NOW,
    "resourceVersion={now}&limit=2": TWO,
    "resourceVersion={now}&resourceVersionMatch=Exact": NOW,
    # one that is forgotten
    "resourceVersion={gone}": NOW,
    "resourceVersion={gone}&resourceVersionMatch=NotOlderThan&limit=2": TWO,
    "resourceVersion={gone}&limit=2": TOO_OLD,
    "resourceVersion={gone}&resourceVersionMatch=Exact": TOO_OLD,
    # one of the future
    "resourceVersion={future}": TOO_LARGE,
    "resourceVersion={future}&limit=2": TOO_LARGE,
    "resourceVersion={future}&resourceVersionMatch=NotOlderThan": TOO_LARGE,
    "resourceVersion={future}&resourceVersionMatch=Exact": TOO_LARGE,
    # none
    "resourceVersion=x": '400 invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: '
    'parsing "x": invalid syntax',
    # a later page is of the state of the first
    "continue={token}": f"rest of {OLD}",
    "continue={token}&limit=1": f"rest of {OLD}",
    "continue={token}&resourceVersion=0": f"rest of {OLD}",
    "continue={token}&resourceVersion={old}": TWO_VERSIONS,
    "continue={token}&resourceVersion={old}&resourceVersionMatch=Exact": invalid(WITH_CONTINUE),
    "continue={token}&resourceVersionMatch=NotOlderThan": invalid(UNSET_MATCH, WITH_CONTINUE),
    "continue={stale}": "410 The provided continue parameter is too old",
    # what belongs to watches
    "sendInitialEvents=true": invalid(LIST_INITIAL),
    "sendInitialEvents=false&resourceVersionMatch=NotOlderThan": invalid(UNSET_MATCH, LIST_INITIAL),
    "allowWatchBookmarks=true": NOW,
}

WATCHES = {
    # the state, then what happens; without a match as in the days before streaming lists
    "": f"+ {NOW}",
    "resourceVersion=0": f"+ {NOW}",
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan": f"+ {NOW}",
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true": f"+ {NOW} end",
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&resourceVersion=0": f"+ {NOW} end",
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion={old}": (
        f"+ {NOW} end"
    ),
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion={gone}": (
        f"+ {NOW} end"
    ),
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={future}": TOO_LARGE,
    # only what happens
    "resourceVersion={old}": "+ d e f g h",
    "resourceVersion={now}": "+",
    "resourceVersion={future}": "+",
    "limit=2&resourceVersion={old}": "+ d e f g h",
    "sendInitialEvents=false&resourceVersionMatch=NotOlderThan": "+",
    "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion={old}": "+ d e f g h",
    "resourceVersion={gone}": "ERROR 410",
    "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion={gone}": "ERROR 410",
    # refused
    "resourceVersion=x": '500 resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax',
    "resourceVersionMatch=NotOlderThan": invalid(NEEDS_INITIAL),
    "resourceVersionMatch=NotOlderThan&resourceVersion={old}": invalid(NEEDS_INITIAL),
    "resourceVersionMatch=Exact&resourceVersion={old}": invalid(NEEDS_INITIAL, ONLY_NEWER.format("Exact")),
    "sendInitialEvents=true": invalid(NEEDS_MATCH),
    "sendInitialEvents=false": invalid(NEEDS_MATCH),
    "sendInitialEvents=true&resourceVersionMatch=Exact": invalid(NEEDS_MATCH, ONLY_NEWER.format("Exact")),
    "continue={token}": invalid(NO_CONTINUE),
}

GETS = {
    "": "a",
    "resourceVersion=0": "a",
    "resourceVersion={old}": "a",
    "resourceVersion={gone}": "a",
    "resourceVersion={future}": TOO_LARGE,
    "resourceVersion=x": '500 resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax',
    "resourceVersionMatch=Exact&limit=x&watch=true": "a",
}


class State:
    """A server whose objects came one a revision, and the words for its revisions and tokens."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.words: dict[str, str] = {}

    async def prepare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "FRESHNESS_SECONDS", 0.02)
        monkeypatch.setattr(watchcache, "HISTORY_CHANGES", 6)
        versions = {}
        for name in "abcdefgh":
            made = await self.api.call("POST", MAPS, {"metadata": {"name": name}})
            versions[name] = int(made.version)
            if name in "ac":
                page = await self.api.call("GET", f"{MAPS}?limit={1 if name == 'a' else 2}&labelSelector=!x")
                self.words["stale" if name == "a" else "token"] = page.body["metadata"].get("continue", "")
        now = versions["h"]
        self.words |= {"now": str(now), "old": str(versions["c"]), "gone": str(versions["a"]), "future": str(now + 9)}
        self.words["stale"] = token(versions["a"], "default/a\0")

    def of(self, text: str) -> str:
        """Only the words of this state are replaced: messages have braces of their own."""
        for word, value in self.words.items():
            text = text.replace("{" + word + "}", value)
        return text


def token(revision: int, start: str) -> str:
    body = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start}, separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def refusal(answer: Answered) -> str:
    return f"{answer.code} {answer.body['message']}"


def matches(found: str, wanted: str) -> bool:
    return found.startswith(wanted) if wanted.endswith("too old") else found == wanted


async def listed(state: State, query: str) -> str:
    """In the words of the table."""
    answer = await state.api.call("GET", f"{MAPS}?{query}")
    if answer.code != 200:
        return refusal(answer)
    names = " ".join(answer.names)
    if "continue=" in query:
        return f"rest of {OLD}" if (names, answer.version) == ("c", state.words["old"]) else names
    onwards = answer.body["metadata"].get("continue")
    if not onwards:
        return names
    left = answer.body["metadata"]["remainingItemCount"]
    rest = await state.api.call("GET", f"{MAPS}?continue={onwards}")
    assert (len(rest.names), rest.version) == (left, answer.version), "all pages are of one state"
    whole = " ".join([names, *rest.names])
    return f"{names} …" if whole == NOW else f"{names} … of {whole}"


async def watched(state: State, query: str) -> str:
    try:
        watch = await state.api.watch(f"{MAPS}?watch=1&{query}")
    except StatusError as error:
        return f"{error.code} {error.message}"
    for _ in range(5):
        await asyncio.sleep(0)
    watch.hang_up()
    await watch.task
    words = ["+"]
    for kind, obj in watch.events:
        if kind == "ERROR":
            return f"ERROR {obj['code']}"
        ends = obj["metadata"].get("annotations") == {"k8s.io/initial-events-end": "true"}
        assert kind == ("BOOKMARK" if ends else "ADDED")
        words.append("end" if ends else obj["metadata"]["name"])
    if words[-1] == "end":
        assert watch.events[-1][1]["metadata"]["resourceVersion"] == state.words["now"]
    return " ".join(words)


async def got(state: State, query: str) -> str:
    answer = await state.api.call("GET", f"{MAPS}/a?{query}")
    return str(answer.body["metadata"]["name"]) if answer.code == 200 else refusal(answer)


@pytest.mark.parametrize(("read", "table"), [(listed, LISTS), (watched, WATCHES), (got, GETS)])
def test_combinations(read: Any, table: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> dict[str, tuple[str, str]]:
        async with served(tmp_path / "db") as api:
            state = State(api)
            await state.prepare(monkeypatch)
            found = {query: await read(state, state.of(query)) for query in table}
            return {
                query: (found[query], state.of(wanted))
                for query, wanted in table.items()
                if not matches(found[query], state.of(wanted))
            }

    assert asyncio.run(run()) == {}


def test_a_stale_page_goes_on_with_the_present_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            state = State(api)
            await state.prepare(monkeypatch)
            stale = await api.call("GET", f"{MAPS}?limit=2&continue={state.words['stale']}")
            assert (stale.code, stale.body["reason"]) == (410, "Expired")
            fresh = stale.body["metadata"]["continue"]
            assert stale.body["metadata"]["resourceVersion"] == state.words["now"]
            page = await api.call("GET", f"{MAPS}?limit=2&continue={fresh}")
            assert (page.names, page.version) == (["b", "c"], state.words["now"])
            assert page.body["metadata"]["remainingItemCount"] == 5
            rest = await api.call("GET", f"{MAPS}?continue={page.body['metadata']['continue']}")
            assert rest.names == list("defgh")

    asyncio.run(run())


@pytest.mark.parametrize("start", ["default/../x", "./a", "a//b", "/../a", "..", "default/a/"])
def test_a_page_begins_in_its_collection(start: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:
            answer = await api.call("GET", f"{MAPS}?continue={token(1, start)}")
            assert refusal(answer) == f"400 invalid continue token: continue key is not valid: {start}"

    asyncio.run(run())


def test_a_write_is_seen_by_every_read_after_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path / "db") as api:

            async def write_and_read(name: str) -> None:
                made = await api.call("POST", MAPS, {"metadata": {"name": name}})
                whole = await api.call("GET", MAPS)
                assert name in whole.names
                assert int(whole.version) >= int(made.version)
                one = await api.call("GET", f"{MAPS}/{name}")
                assert one.version == made.version
                newer = await api.call("GET", f"{MAPS}?resourceVersion={made.version}")
                assert name in newer.names

            await asyncio.gather(*(write_and_read(f"n{i}") for i in range(40)))

    asyncio.run(run())
