"""The kubelet API of this node: logs, exec, attach, port-forward, the pods that are here, what they use, health.

`GET /containerLogs/NAMESPACE/POD/CONTAINER` with the parameters of v1 PodLogOptions, `GET /pods`, `GET /healthz`,
`GET /stats/summary[?only_cpu_and_memory=true]`, `GET /metrics[/resource|/cadvisor|/probes]`, `GET /configz`;
`/exec/NAMESPACE/POD/CONTAINER`, `/attach/…`, `/portForward/NAMESPACE/POD` by an upgrade (streaming/).
Whoever may ask is for the API server to say (`authorization`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from twinstack.api import core, times
from twinstack.linux.inotify import CREATE, MODIFY, MOVED_TO, Inotify
from twinstack.node import metrics
from twinstack.node.agent import Agent
from twinstack.node.authorization import Gate
from twinstack.node.http import Answer, Request, Upgrade
from twinstack.node.logs import LogOptions, LogReader
from twinstack.node.runtime.base import Container, Phase

if TYPE_CHECKING:
    from twinstack.node.sampling import Sampler
    from twinstack.node.streaming.handlers import StreamingHandlers

JSON = "application/json"
_NOT_FOUND = Answer(404, b"404 page not found\n")
LOOK_EVERY = 1.0  # seconds: whether a container whose log is followed has ended


class _Refused(Exception):
    """A request that cannot be answered; `answer` says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, text.encode())


class KubeletServer:
    """Answers requests about an agent's pods."""

    def __init__(self, agent: Agent, gate: Gate, configuration: Mapping[str, Any] | None = None) -> None:
        self._agent = agent
        self._gate = gate
        self._configuration = configuration or {}
        self._sampler: Sampler | None = None
        self._streaming: StreamingHandlers | None = None

    async def handle(self, request: Request) -> Answer | Upgrade:
        refusal = await self._gate.refusal(request)
        if refusal is not None:
            return refusal
        try:
            match request.path:
                case ["healthz"]:
                    return Answer(body=b"ok")
                case ["exec" | "attach" | "portForward", *_]:
                    return self._stream(request)
                case ["metrics"]:
                    return Answer(body=metrics.text(self._agent).encode(), content_type=metrics.CONTENT_TYPE)
                case ["stats", *_] | ["metrics", _]:
                    return await self._usage(request) or _NOT_FOUND
                case ["configz"]:
                    return Answer(body=msgspec.json.encode(self._configuration), content_type=JSON)
                case ["pods"]:
                    return self._pods()
                case ["containerLogs", namespace, pod, container]:
                    return self._logs(request, namespace, pod, container)
        except _Refused as refused:
            return refused.answer
        return _NOT_FOUND

    async def _usage(self, request: Request) -> Answer | None:
        """None for a page that there is not."""
        from twinstack.node import sampling, summary, usagemetrics  # not before somebody asks

        if self._sampler is None:
            self._sampler = sampling.Sampler(self._agent, self._agent.settings.root_dir)
        match request.path:
            case ["stats", "summary"]:
                now, before = await self._sampler.read()
                brief = _flag(request, "only_cpu_and_memory")
                body = summary.summary(self._agent.settings.node_name, now, before, brief=brief)
                return Answer(body=msgspec.json.encode(body), content_type=JSON)
            case ["metrics", "resource"]:
                text = usagemetrics.resource((await self._sampler.read())[0])
            case ["metrics", "cadvisor"]:
                text = usagemetrics.cadvisor((await self._sampler.read())[0], self._agent.runtime.group)
            case ["metrics", "probes"]:
                text = usagemetrics.probes(self._agent.prober.counts())
            case _:
                return None
        return Answer(body=text.encode(), content_type=metrics.CONTENT_TYPE)

    def _stream(self, request: Request) -> Answer | Upgrade:
        if self._streaming is None:
            from twinstack.node.streaming.handlers import StreamingHandlers  # not before somebody asks

            self._streaming = StreamingHandlers(self._agent)
        return self._streaming.handle(request) or _NOT_FOUND

    def _pods(self) -> Answer:
        items: list[core.Pod] = list(self._agent.pods.values())
        body: dict[str, Any] = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return Answer(body=msgspec.json.encode(body), content_type=JSON)

    def _logs(self, request: Request, namespace: str, name: str, container: str) -> Answer:
        options = log_options(request, time.time())
        found = self._agent.container(namespace, name, container)
        if found is None:
            raise _Refused(404, f'pod "{name}" does not exist')
        pod, runs = found
        known = {c.name for c in pod.all_containers}
        if container not in known:
            raise _Refused(404, f'container "{container}" not found in pod "{name}"')
        run = _chosen(runs, pod, container, previous=_flag(request, "previous"))
        path = self._agent.runtime.log_path(run.key)

        def ended() -> bool:
            state = self._agent.container(namespace, name, container)
            runs_now = state[1] if state is not None else []
            return all(now.key != run.key or now.phase is not Phase.RUNNING for now in runs_now)

        return Answer(stream=stream_log(path, options, ended, request.gone))


def _flag(request: Request, name: str) -> bool:
    return request.parameter(name).lower() in ("true", "1")


def _number(request: Request, name: str) -> int | None:
    text = request.parameter(name)
    if not text:
        return None
    if not text.isdecimal():
        raise _Refused(400, f"{name} must be a number, not {text!r}")
    return int(text)


def log_options(request: Request, now: float) -> LogOptions:
    """The options in a request's parameters."""
    since = 0.0
    seconds = _number(request, "sinceSeconds")
    if seconds is not None:
        since = now - seconds
    elif request.parameter("sinceTime"):
        try:
            since = times.parse_time(request.parameter("sinceTime"))
        except ValueError as error:
            raise _Refused(400, str(error)) from None
    return LogOptions(
        follow=_flag(request, "follow"),
        tail_lines=_number(request, "tailLines"),
        since=f"{times.format_time(since).removesuffix('Z')}.{int(since % 1 * 1e9):09}".encode() if since else b"",
        timestamps=_flag(request, "timestamps"),
        limit_bytes=_number(request, "limitBytes"),
    )


def _chosen(runs: list[Container], pod: core.Pod, container: str, *, previous: bool) -> Container:
    """The run whose log is wanted, in kubelet's words if there is none."""
    name = pod.metadata.name
    started = [run for run in runs if run.phase is not Phase.CREATED]
    if previous:
        if len(started) < 2 and not (started and started[-1].phase is Phase.EXITED and _is_waiting(pod, container)):
            raise _Refused(400, f'previous terminated container "{container}" in pod "{name}" not found')
        return started[-1] if _is_waiting(pod, container) else started[-2]
    if not started:
        reason = "ContainerCreating"
        for status in pod.all_container_statuses:
            if status.name == container and status.state.waiting is not None:
                reason = status.state.waiting.reason
        raise _Refused(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
    return started[-1]


def _is_waiting(pod: core.Pod, container: str) -> bool:
    return any(s.name == container and s.state.waiting is not None for s in pod.all_container_statuses)


async def stream_log(
    path: Path, options: LogOptions, ended: Callable[[], bool], gone: asyncio.Future[None]
) -> AsyncGenerator[bytes, None]:
    """The log, and with `follow` what comes until the container has ended or the reader is gone."""
    watch = Inotify() if options.follow else None
    reader = LogReader(path, options)
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        if watch is not None:
            watch.watch(str(path.parent), MODIFY | CREATE | MOVED_TO)
            loop.add_reader(watch.fileno(), lambda: changed.set() if watch.read() else None)
        while True:
            over = ended()
            for part in reader.read():
                yield part
            if watch is None or over or reader.exhausted or gone.done():
                return
            await _either(changed, gone)
            changed.clear()
    finally:
        reader.close()
        if watch is not None:
            loop.remove_reader(watch.fileno())
            watch.close()


async def _either(changed: asyncio.Event, gone: asyncio.Future[None]) -> None:
    """Wait for a change or for the reader to go, and at most for a moment."""
    waiting = asyncio.ensure_future(changed.wait())
    either: set[asyncio.Future[Any]] = {waiting, gone}
    try:
        await asyncio.wait(either, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
