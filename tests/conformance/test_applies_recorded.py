"""Server-side applies among other writes against the answers of a real API server (kube-apiserver 1.36).

Each line of `applies.jsonl.xz` is a scenario: requests on one object, and for each the status, the message of a
refusal, and the object as it was then. `metadata.managedFields` maps manager, operation, version and subresource to
the fields. `<uid>` and the like stand for what a server chooses.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import re
from pathlib import Path
from typing import Any

import msgspec
from tests.api_client import CONFIG, Answered, Api, served

from twinstack.ip import CIDR
from twinstack.server.kubernetes_service import DefaultRanges

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("applies.jsonl.xz")
RANGES = {
    "v4": ("10.96.0.0/16",),
    "v6": ("fd00:96::/112",),
    "dual46": ("10.96.0.0/16", "fd00:96::/112"),
    "dual64": ("fd00:96::/112", "10.96.0.0/16"),
}
CHOSEN = re.compile(r"<[a-z0-9-]+>")
AGENT = "apidiff/1"


def scenarios(config: str) -> list[JSON]:
    lines = lzma.decompress(RECORDING.read_bytes()).decode().splitlines()
    return [scenario for scenario in map(json.loads, lines) if scenario["config"] == config]


def filled(value: Any, live: Any) -> Any:
    """A recorded body with what the server has chosen in place of what stands for it."""
    if isinstance(value, str) and CHOSEN.fullmatch(value):
        return live
    if isinstance(value, dict):
        have = live if isinstance(live, dict) else {}
        return {key: filled(item, have.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        there = live if isinstance(live, list) and len(live) == len(value) else [None] * len(value)
        return [filled(item, each) for item, each in zip(value, there, strict=True)]
    return value


def alike(shown: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and CHOSEN.fullmatch(wanted):
        return isinstance(shown, str | int)
    if isinstance(wanted, dict) and isinstance(shown, dict):
        return shown.keys() == wanted.keys() and all(alike(shown[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(shown, list):
        return len(shown) == len(wanted) and all(map(alike, shown, wanted))
    return bool(shown == wanted)


def by_manager(obj: JSON) -> JSON:
    """The object as the recording has it."""
    entries = obj["metadata"].get("managedFields")
    if not entries:
        return obj
    names = ("manager", "operation", "apiVersion", "subresource")
    fields = {"/".join(filter(None, map(entry.get, names))): entry["fieldsV1"] for entry in entries}
    return obj | {"metadata": obj["metadata"] | {"managedFields": fields}}


def disagreement(step: JSON, answer: Answered) -> str:
    """Empty when the answer is the recorded one."""
    if answer.code != step["code"]:
        return f"code {answer.code} {answer.body.get('message', '')}"
    if "message" in step:
        parts = re.split(f"({CHOSEN.pattern})", step["message"])
        pattern = "".join(".*" if CHOSEN.fullmatch(part) else re.escape(part) for part in parts)
        return "" if re.fullmatch(pattern, answer.body["message"], re.DOTALL) else answer.body["message"]
    if "object" in step and not alike(by_manager(answer.body), step["object"]):
        return json.dumps(by_manager(answer.body))
    return ""


async def play(api: Api, scenario: JSON) -> list[str]:
    found: list[str] = []
    for number, step in enumerate(scenario["steps"]):
        body = step["body"]
        if step["method"] == "PUT":
            body = filled(body, (await api.call("GET", step["url"].partition("?")[0])).body)
        if isinstance(body, str):
            body = body.encode()
        answer = await api.call(step["method"], step["url"], body, step["content_type"], **{"user-agent": AGENT})
        problem = disagreement(step, answer)
        if problem:
            found.append(f"{scenario['config']} {scenario['seed']} step {number}: {problem}, wanted {json.dumps(step)}")
    for step in scenario["steps"]:
        await api.call("DELETE", step["url"].partition("?")[0])
    return found


def test_every_answer_is_the_recorded_one(tmp_path: Path) -> None:
    async def run(config: str) -> list[str]:
        ranges = tuple(map(CIDR.parse, RANGES[config]))
        settings = msgspec.structs.replace(CONFIG, service_ranges=ranges)
        async with served(tmp_path / config, settings) as api:
            await DefaultRanges(api.registry, settings).ensure()
            return [problem for scenario in scenarios(config) for problem in await play(api, scenario)]

    assert [problem for config in RANGES for problem in asyncio.run(run(config))] == []
