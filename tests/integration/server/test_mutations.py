"""Bodies, patches and queries with bytes changed at random, to every decoder: each is answered, and soon.

What they begin with is what real clients sent (the recordings of tests/conformance). A failure that is no Status, and
so would be a traceback in a server's log, is raised here as it is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import lzma
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from tests.api_client import MERGE, Api, served

from twinstack.api.resources import RESOURCES
from twinstack.server import routing

JSON = dict[str, Any]

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
REQUESTS = 60_000 if SOAK else 400  # of each kind
PATIENCE = 30  # seconds that one request may take on a busy machine; none needs a hundredth
CONFORMANCE = Path(__file__).parents[2] / "conformance"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
YAML = "application/yaml"
JSON_PATCH = "application/json-patch+json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
SERVICES = "/api/v1/namespaces/default/services"
KINDS = {(row.group_version, row.kind): row for row in RESOURCES if "create" in row.verbs and "patch" in row.verbs}

# What decoders look for: markers of syntax, of patches, of wire types, of lengths.
PIECES = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"-1", b"1e999", b"9" * 40, b"\\ud800", b"\\u0000"),
    *(
        b"$patch",
        b'{"$patch":"delete"}',
        b'{"$patch":"replace"}',
        b"$retainKeys",
        b"$setElementOrder/ports",
        b"replace",
    ),
    *(b"\n", b"- ", b"  ", b"&a ", b"*a", b"!!binary ", b"<<: ", b"|\n", b"? ", b"---\n", b"...", b"%YAML 1.1\n", b"#"),
    *(
        b"\0",
        b"\x01",
        b"\x08",
        b"\x0a",
        b"\x12",
        b"\x7f",
        b"\x80",
        b"\xff" * 9 + b"\x01",
        b"\xff\xff\xff\xff\x0f",
        b"k8s\0",
    ),
    *(b"metadata", b"managedFields", b"f:spec", b"k:{}", b"v:", b"spec", b"ports", b"/", b"~1", b"/-", b"//", b"test"),
    *(
        b"!",
        b"=",
        b"==",
        b"!=",
        b" in (a)",
        b" notin (",
        b"(",
        b")",
        b"status.phase",
        b"%",
        b"W1tb",
        b";as=Table",
        b"*/*",
    ),
)


class Sample(NamedTuple):
    """A request of a client."""

    method: str
    url: str
    body: bytes
    content_type: str


def recorded(name: str) -> list[JSON]:
    data = lzma.decompress((CONFORMANCE / f"{name}.jsonl.xz").read_bytes())
    return [json.loads(line) for line in data.decode().splitlines()]


def objects() -> Iterator[tuple[str, str, JSON]]:
    """Objects with the paths of their collections and of themselves."""
    for each in recorded("objects"):
        obj = each["object"]
        row = KINDS.get((obj["apiVersion"], obj["kind"]))
        if row is not None:
            meta = {key: value for key, value in obj["metadata"].items() if key in ("labels", "annotations")}
            made = obj | {"metadata": meta | {"name": "web"}}
            yield row.path("default"), row.path("default", "web"), made


def protobuf_samples() -> list[Sample]:
    return [
        Sample("PUT" if named(case["path"]) else "POST", case["path"], base64.b64decode(case["body"]), PROTOBUF)
        for case in recorded("protobuf")
    ]


def named(path: str) -> bool:
    route = routing.parse(path)
    return route is not None and bool(route.name)


def yaml_samples() -> list[Sample]:
    from twinstack.server.yamlanswers import encode

    found = [(collection, one, obj) for collection, one, obj in objects()]
    return [Sample("POST", collection, encode(obj), YAML) for collection, _, obj in found] + [
        Sample("PATCH", f"{one}?fieldManager=x&force=true", encode(obj), APPLY) for _, one, obj in found
    ]


def patch_samples() -> list[Sample]:
    samples = []
    for case in recorded("patches"):
        base = case["base"]
        row = KINDS.get((base["apiVersion"], base["kind"]))
        if row is not None:
            body = case["patch"] if isinstance(case["patch"], str) else json.dumps(case["patch"])
            samples.append(Sample("PATCH", row.path("default", "web"), body.encode(), case["content_type"]))
    for collection, one, obj in objects():
        text = json.dumps(obj).encode()
        samples += [Sample("POST", collection, text, "application/json"), Sample("PATCH", one, text, STRATEGIC)]
        samples += [Sample("PATCH", one, text, MERGE), Sample("PATCH", f"{one}?fieldManager=y", text, APPLY)]
    for _, one, _ in objects():
        operations = [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}, {"op": "test", "path": "/kind"}]
        samples.append(Sample("PATCH", one, json.dumps(operations).encode(), JSON_PATCH))
    return samples


class Mutator:
    """Changes of bytes, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def changed(self, data: bytes) -> bytes:
        for _ in range(self.random.choice((1, 1, 2, 4, 16))):
            at = self.random.randint(0, len(data))
            length = self.random.choice((0, 1, 2, 8, 64))
            match self.random.randrange(5):
                case 0:
                    data = data[:at] + self.random.choice(PIECES) + data[at + length :]
                case 1:
                    data = data[:at] + self.random.randbytes(self.random.randint(1, 4)) + data[at + length :]
                case 2:
                    data = data[:at] + data[at + length :]
                case 3:
                    data = data[:at] + data[at : at + length] * self.random.choice((2, 3, 40)) + data[at + length :]
                case _:
                    data = data[:at] if self.random.random() < 0.3 else data + self.random.choice(PIECES)
        return data

    def text(self, text: str) -> str:
        return self.changed(text.encode()).decode("latin-1")


@contextmanager
def in_time() -> Iterator[None]:
    """Raises TimeoutError out of whatever takes too long."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


async def answered(api: Api, sample: Sample, accept: str = "application/json") -> int:
    try:
        with in_time():
            answer = await api.call(sample.method, sample.url, sample.body, sample.content_type, accept=accept)
    except BaseException as error:
        error.add_note(f"{sample.method} {sample.url} ({sample.content_type}, {accept})\n{sample.body!r}")
        raise
    assert 200 <= answer.code <= 504
    return answer.code


def seed() -> int:
    return random.randrange(1 << 32) if SOAK else 7


async def prepared(api: Api) -> None:
    cidr = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}}
    await api.call("POST", "/apis/networking.k8s.io/v1/servicecidrs", cidr)
    for collection, _, obj in objects():
        await api.call("POST", collection, obj)


@pytest.mark.parametrize("kind", [protobuf_samples, yaml_samples, patch_samples])
def test_bodies(tmp_path: Path, kind: Any) -> None:
    samples: list[Sample] = kind()
    mutator = Mutator(seed())

    async def main() -> None:
        async with served(tmp_path / "store.db") as api:
            await prepared(api)
            codes = {await answered(api, sample) for sample in mutator.random.sample(samples, min(len(samples), 100))}
            assert codes & {200, 201}, "unchanged, they are taken"
            for _ in range(REQUESTS):
                sample = mutator.random.choice(samples)
                codes.add(await answered(api, sample._replace(body=mutator.changed(sample.body))))
            assert 400 in codes

    asyncio.run(main())


SELECTORS = ("a=b,c!=d", "a in (b,c),!d", "e notin (f),g", "metadata.name=web,spec.type!=NodePort", "a,,b", "")
ACCEPTS = (
    "application/json;as=Table;g=meta.k8s.io;v=v1,application/json",
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1;q=0.9, application/yaml",
    "application/vnd.kubernetes.protobuf;q=0.8, */*;q=0.1",
    "text/*, application/json;stream=watch",
)


def test_queries(tmp_path: Path) -> None:
    """Selectors, tokens of pages, versions, options, and what to accept."""
    mutator = Mutator(seed())

    async def main() -> None:
        async with served(tmp_path / "store.db") as api:
            await prepared(api)
            for number in range(3):
                await api.call("POST", SERVICES, {"metadata": {"name": f"s{number}"}, "spec": {"ports": [{"port": 1}]}})
            token = (await api.call("GET", f"{SERVICES}?limit=1")).body["metadata"]["continue"]
            codes = set()
            for _ in range(REQUESTS):
                query = "&".join(f"{name}={quote(value)}" for name, value in parameters(mutator, token))
                accept = mutator.random.choice(ACCEPTS)
                if mutator.random.random() < 0.3:
                    accept = mutator.text(accept)
                sample = Sample("GET", f"{SERVICES}?{query}", b"", "")
                codes.add(await answered(api, sample, accept))
            assert {200, 400} <= codes

    asyncio.run(main())


def parameters(mutator: Mutator, token: str) -> Iterator[tuple[str, str]]:
    choose = mutator.random
    values = {
        "labelSelector": choose.choice(SELECTORS),
        "fieldSelector": choose.choice(SELECTORS),
        "continue": token,
        "limit": choose.choice(("1", "2", "0", "-1")),
        "resourceVersion": choose.choice(("0", "1", "")),
        "resourceVersionMatch": choose.choice(("Exact", "NotOlderThan", "")),
        "pretty": "true",
        "includeObject": choose.choice(("None", "Object", "Metadata")),
    }
    for name in choose.sample(list(values), choose.randint(1, 3)):
        value = values[name]
        if choose.random() < 0.6 and name != "resourceVersion":  # a version to come is waited for
            value = mutator.text(value)
        yield name, value
