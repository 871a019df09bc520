"""Plays recorded scenarios to the API server's application, without sockets, and compares what it answers.

Steps without a recorded answer prepare the next ones. A body may hold what the server chose earlier (`<rv>`, `<uid>`):
that is taken from the object as it was last read.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from tests.conformance.recorded_answers import Memory, Names, alike, brief

from twinstack.ip import CIDR, Address
from twinstack.server import accessreviews, kubernetes_service, priority_classes
from twinstack.server.accessreviews import AccessReviews
from twinstack.server.app import App
from twinstack.server.authentication import ANONYMOUS, Authenticator
from twinstack.server.authorization.modes import in_order
from twinstack.server.authorization.rbac import bootstrap
from twinstack.server.authorization.rbac.authorizer import RBAC, follow
from twinstack.server.authorization.rbac.escalation import Escalation
from twinstack.server.authorization.rbac.index import PolicyIndex
from twinstack.server.authorization.upserts import CreateOnUpdate
from twinstack.server.discovery import Discovery
from twinstack.server.handlers import ResourceHandler
from twinstack.server.health import Health
from twinstack.server.messages import Request, Response, StreamResponse, UserInfo
from twinstack.server.metrics import Metrics
from twinstack.server.registry import Registry
from twinstack.server.strategy.base import ServerConfig
from twinstack.store.sqlite import SQLiteStore

JSON = dict[str, Any]

RANGES = {
    "v4": ("10.96.0.0/16",),
    "v6": ("fd00:96::/112",),
    "dual46": ("10.96.0.0/16", "fd00:96::/112"),
    "dual64": ("fd00:96::/112", "10.96.0.0/16"),
}
ADDRESSES = {"v4": "10.9.9.9", "v6": "fd00::9", "dual46": "10.9.9.9", "dual64": "fd00::9"}
ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"), "1")
CUT = 400  # characters at which the recording cuts texts that are no JSON
CUT_MESSAGE = 1500  # and messages
_WHOLE_OBJECT, _OBJECT = re.compile(r'Invalid value: "\{.*\}"(?=: )'), 'Invalid value: "<object>"'
OURS = " is stored"  # begins what this server adds to the recorded warnings


class Answer:
    """One answer, its body read whole."""

    def __init__(self, response: Response | StreamResponse, body: bytes) -> None:
        self.code = response.status
        self.type = response.content_type
        self.headers = dict(response.headers)
        self.warnings = [f'299 - "{_escaped(text)}"' for text in response.warnings if OURS not in text]
        self.text = body.decode()
        try:
            self.json = json.loads(self.text) if self.text else None
        except ValueError:
            self.json = None

    @property
    def object(self) -> JSON:
        return self.json if isinstance(self.json, dict) else {}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


class Body:
    """Collects a streamed answer."""

    def __init__(self) -> None:
        self.data = b""
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        self.data += data

    def pending(self) -> int:
        return 0

    async def drain(self) -> None:
        await asyncio.sleep(0)

    async def closed(self) -> None:
        await asyncio.shield(self._gone)


class Server:
    """The application on a store of its own."""

    def __init__(self, registry: Registry) -> None:
        index = PolicyIndex()
        follow(registry.cache, index)
        authorizer = in_order(["RBAC"], {"RBAC": partial(RBAC, index)})
        registry.checks += [CreateOnUpdate(authorizer), Escalation(authorizer, index)]
        reviews = AccessReviews(authorizer)
        resources = ResourceHandler(registry)
        self._app = App(
            authenticator=Authenticator({"token": ADMIN}),
            authorizer=authorizer,
            discovery=Discovery("10.9.9.9:6443"),
            health=Health({"ping": lambda: True}, {}),
            counters=Metrics(dict),
            resources=resources,
            subresources={},
            reviews={row.plural: reviews for row in accessreviews.ROWS},
        )

    async def send(self, step: JSON, names: Names, live: JSON) -> Answer:
        method, _, url = names.fill(step["call"]).partition(" ")
        parts = urlsplit(url)
        headers = {"accept": "application/json", "authorization": "Bearer token", "user-agent": "apidiff/1"}
        body = step.get("body")
        if body is not None:
            headers["content-type"] = "application/json"
        for name, value in (step.get("headers") or {}).items():
            headers[name.lower()] = value
        request = Request(
            method=method,
            path=unquote(parts.path),
            query=parse_qs(parts.query, keep_blank_values=True),
            headers={name: value for name, value in headers.items() if value is not None},
            body=_encoded(body, names, live),
            user=ANONYMOUS,
        )
        response = await self._app(request)
        assert isinstance(response, Response | StreamResponse)
        if isinstance(response, Response):
            parts_of_body = [response.body] if isinstance(response.body, bytes) else response.body
            return Answer(response, b"".join(parts_of_body))
        stream = Body()
        following = asyncio.ensure_future(response.produce(stream))
        await asyncio.sleep(0)
        for change in step.get("meanwhile") or ():
            await self.send(change, names, {})
        await following
        return Answer(response, stream.data)


def _encoded(body: Any, names: Names, live: JSON) -> bytes:
    if body is None:
        return b""
    return names.fill(body).encode() if isinstance(body, str) else msgspec.json.encode(_filled(body, names, live))


def _filled(value: Any, names: Names, live: Any) -> Any:
    """What the server chose, taken from the live object at the same place, else from its name."""
    if isinstance(value, dict):
        known = live if isinstance(live, dict) else {}
        return {names.fill(key): _filled(item, names, known.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        known_items = live if isinstance(live, list) else []
        return [_filled(item, names, known_items[i] if i < len(known_items) else None) for i, item in enumerate(value)]
    if not isinstance(value, str) or "<" not in value:
        return value
    if live is not None and not isinstance(live, dict | list) and Names().match(value, str(live)):
        return live
    return names.fill(value)


@asynccontextmanager
async def served(config: str, path: Path, *, default_roles: bool) -> AsyncIterator[Server]:
    ranges = tuple(CIDR.parse(text) for text in RANGES[config])
    settings = ServerConfig(
        service_ranges=ranges,
        node_ports=range(30000, 32768),
        secure_port=6443,
        advertise_addresses=(Address.parse(ADDRESSES[config]),),
        disabled_admission_plugins=frozenset({"ServiceAccount"}),
    )
    registry = Registry(SQLiteStore(str(path)), settings)
    await registry.open()
    try:
        await kubernetes_service.DefaultRanges(registry, settings).ensure()
        await kubernetes_service.ensure_service(registry, settings)
        await priority_classes.ensure(registry)
        if default_roles:
            await bootstrap.ensure(registry)
        yield Server(registry)
    finally:
        await registry.close()


class Player:
    """Plays one scenario."""

    def __init__(self, scenario: JSON) -> None:
        self._scenario = scenario
        self._names = Names()
        self._memory = Memory()
        self._live: dict[str, JSON] = {}
        self._contents: dict[str, JSON] = {}
        self.steps = 0
        self.differences: list[str] = []

    async def play(self, path: Path) -> None:
        default_roles = self._scenario["family"] == "rbac"
        async with served(self._scenario["config"], path, default_roles=default_roles) as server:
            for step in self._scenario["steps"]:
                await self._step(server, step)

    async def _step(self, server: Server, step: JSON) -> None:
        url = step["call"].partition(" ")[2].partition("?")[0]
        place = url.removesuffix("/finalize").removesuffix("/status")
        answer = await server.send(step, self._names, self._live.get(place, {}))
        if "response" not in step:
            self._remember(step, url, answer)
            return
        self.steps += 1
        problem = self._disagreement(step, answer)
        if problem:
            where = f"{self._scenario['family']} {self._scenario['config']} {self._scenario['seed']}"
            self.differences.append(f"{where}: {step['call']}: {problem}")

    def _remember(self, step: JSON, url: str, answer: Answer) -> None:
        """What a reading that is not compared has shown."""
        if not step["call"].startswith("GET ") or answer.code != 200:
            return
        meta = answer.object.get("metadata") or {}
        self._names.bound["<rv>"] = str(meta.get("resourceVersion", ""))
        if "items" not in answer.object:
            self._live[url] = answer.object

    def _disagreement(self, step: JSON, answer: Answer) -> str:
        """Empty when the answer is the recorded one."""
        wanted = step["response"]
        shown: JSON = {"code": answer.code}
        if answer.warnings:
            shown["warnings"] = answer.warnings
        shown |= {name: answer.headers[name] for name in ("Retry-After", "Allow") if name in answer.headers}
        if answer.type != "application/json":
            shown["type"] = answer.type
        told = {key: wanted[key] for key in wanted if key in ("code", "warnings", "Retry-After", "Allow", "type")}
        problems = [] if alike(self._names, told, shown) else [f"{told} but {shown}"]
        meta = answer.object.get("metadata") or {}
        if meta.get("generateName"):
            self._names.bound["<generated>"] = meta["name"]
        problems += self._body_problems(step, wanted, answer)
        return "; ".join(problems)

    def _body_problems(self, step: JSON, wanted: JSON, answer: Answer) -> list[str]:
        is_brief = step.get("brief", False)
        if "events" in wanted:
            return self._event_problems(wanted["events"], answer.text, is_brief=is_brief)
        if "text" in wanted:
            cut = len(wanted["text"]) >= CUT
            text = "" if step["call"].startswith("HEAD ") else answer.text
            same = self._names.starts(wanted["text"], text) if cut else self._names.match(wanted["text"], text)
            return [] if same else [f"text {text}"]
        if "table" in wanted:
            return self._table_problems(wanted["table"], answer.object)
        if "list" in wanted:
            return self._list_problems(wanted["list"], answer.object, is_brief=is_brief)
        if "object" in wanted or "of" in wanted:
            return self._object_problems(wanted, answer.object, is_brief=is_brief)
        told = {key: wanted[key] for key in ("status", "reason", "message", "details", "causes") if key in wanted}
        shown = _status(answer.object)
        return [] if alike(self._names, told, shown) else [f"{told} but {shown}"]

    def _object_problems(self, told: JSON, shown: JSON, *, is_brief: bool, kind: str = "") -> list[str]:
        name, wanted = self._memory.whole(told, is_brief=is_brief, kind=kind)
        normal = self._normal(name, shown)
        if is_brief:
            normal = brief(normal)
        return [] if alike(self._names, wanted, normal, name) else [f"{wanted} but {normal}"]

    def _normal(self, name: str, obj: JSON) -> JSON:
        """The object with its managers as the recording shows them: by name, in family apply alone."""
        obj = dict(obj)
        if str(obj.get("kind", "")).endswith("Review"):
            obj["status"] = _review_status(obj.get("status") or {})
        meta = dict(obj.get("metadata") or {})
        fields = meta.pop("managedFields", None)
        if self._scenario["family"] == "apply":
            if fields:
                meta["managedFields"] = {_manager(entry): entry.get("fieldsV1") for entry in fields}
            version = meta.pop("resourceVersion", None)
            content = {**obj, "metadata": meta}
            before = self._contents.get(name, {})
            if version is not None:
                same = before.get("content") == content
                meta = {**meta, "resourceVersion": before["version"] if same else version}
                self._contents[name] = {"content": content, "version": meta["resourceVersion"]}
        obj["metadata"] = meta
        return obj

    def _list_problems(self, wanted: JSON, shown: JSON, *, is_brief: bool) -> list[str]:
        meta = shown.get("metadata") or {}
        if "continue" in meta:
            self._names.bound["<continue>"] = meta["continue"]
        head = {key: shown.get(key) for key in ("kind", "apiVersion", "metadata")}
        told = {key: wanted.get(key) for key in ("kind", "apiVersion", "metadata")}
        problems = [] if alike(self._names, told, head) else [f"{told} but {head}"]
        items = shown.get("items") or []
        if len(items) != len(wanted["items"]):
            problems.append(f"{len(items)} items")
        kind = str(wanted["kind"]).removesuffix("List")
        for told_item, item in zip(wanted["items"], items, strict=False):
            problems += self._object_problems(told_item, item, is_brief=is_brief, kind=kind)
        return problems

    def _table_problems(self, wanted: JSON, shown: JSON) -> list[str]:
        columns = [
            [column.get(key) for key in ("name", "type", "format", "priority")]
            for column in shown.get("columnDefinitions") or []
        ]
        head = {"apiVersion": shown.get("apiVersion"), "metadata": shown.get("metadata") or {}}
        told = {"apiVersion": wanted["apiVersion"], "metadata": wanted["metadata"]}
        same = alike(self._names, told, head) and (not columns or columns == wanted["columns"])
        problems = [] if same else [f"{told} {wanted['columns']} but {head} {columns}"]
        rows = shown.get("rows") or []
        if len(rows) != len(wanted["rows"]):
            problems.append(f"{len(rows)} rows")
        for told_row, row in zip(wanted["rows"], rows, strict=False):
            if not alike(self._names, told_row["cells"], row["cells"]):
                problems.append(f"{told_row['cells']} but {row['cells']}")
            if row.get("object"):
                problems += self._object_problems(told_row, row["object"], is_brief=True)
        return problems

    def _event_problems(self, wanted: Sequence[JSON], text: str, *, is_brief: bool) -> list[str]:
        events = [event for event in map(json.loads, text.splitlines()) if _is_told(event)]
        problems = [] if len(events) == len(wanted) else [f"{[event['type'] for event in events]}"]
        for told, event in zip(wanted, events, strict=False):
            kind, obj = event["type"], event["object"]
            if kind != told["type"]:
                problems.append(f"{told['type']} but {kind}")
            elif kind == "BOOKMARK":
                if not alike(self._names, told["object"], obj):
                    problems.append(f"{told['object']} but {obj}")
            elif obj.get("kind") == "Status":
                if not alike(self._names, told, {"type": kind, **_status(obj)}):
                    problems.append(f"{told} but {obj}")
            elif "table" in told:
                problems += self._table_problems(told["table"], obj)
            else:
                problems += self._object_problems(told, obj, is_brief=is_brief)
        return problems


def _is_told(event: JSON) -> bool:
    """When bookmarks come is the server's choice, but for the one after the initial events."""
    annotations = ((event.get("object") or {}).get("metadata") or {}).get("annotations") or {}
    return event.get("type") != "BOOKMARK" or "k8s.io/initial-events-end" in annotations


def _manager(entry: JSON) -> str:
    parts = (entry.get("manager") or "-", entry.get("operation"), entry.get("apiVersion"), entry.get("subresource"))
    return "/".join(filter(None, parts))


def _status(obj: JSON) -> JSON:
    """A Status as the recording shows it: causes that the message repeats by reason and field alone."""
    message = _WHOLE_OBJECT.sub(_OBJECT, obj.get("message") or "")
    details = dict(obj.get("details") or {})
    details.pop("uid", None)
    causes = []
    for cause in details.pop("causes", None) or []:
        text, field = _WHOLE_OBJECT.sub(_OBJECT, cause.get("message") or ""), cause.get("field") or ""
        said = (f"{field}: {text}" if field else text) in message[:CUT_MESSAGE]
        causes.append([cause.get("reason"), field] if said else [cause.get("reason"), field, text])
    told = {
        "status": obj.get("status"),
        "reason": obj.get("reason"),
        "message": re.sub(r"\s+", " ", message) if "may not change fields other than" in message else message,
        "details": details,
        "causes": sorted(causes, key=str),
    }
    return {key: value for key, value in told.items() if value not in (None, "", [], {})}


def _review_status(status: JSON) -> JSON:
    """As the recording shows it: rules sorted, and not which default binding allows something."""
    shown = dict(status)
    for name in ("resourceRules", "nonResourceRules"):
        if name in shown:
            shown[name] = sorted(shown[name], key=lambda rule: json.dumps(rule, sort_keys=True))
    reason = shown.get("reason", "")
    if reason.startswith("RBAC: allowed by ") and '"system:' in reason:
        shown["reason"] = "RBAC: allowed by <any default binding that does>"
    return shown
