"""Counters of requests under kube-apiserver's names, in the Prometheus text format."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import NamedTuple

from twinstack.server.messages import Route
from twinstack.server.version import GIT_VERSION

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)  # seconds
_VERBS = {"create": "POST", "update": "PUT"}  # as the metrics name them; the others in upper case
_MUTATING = frozenset(("create", "update", "patch", "delete", "deletecollection", "post", "put"))


class Labels(NamedTuple):
    """What kind of request: the labels that all request metrics share."""

    verb: str
    group: str
    version: str
    resource: str
    subresource: str
    scope: str


class _Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0


def labels_of(verb: str, route: Route | None) -> Labels:
    """The labels of a verb on a route, or of a lower-case method on another path."""
    name = _VERBS.get(verb) or verb.upper()
    if route is None:
        return Labels(name, "", "", "", "", "")
    resource = route.resource
    scope = "resource" if route.name else "namespace" if route.namespace else "cluster"
    return Labels(name, resource.group, resource.version, resource.plural, route.subresource, scope)


class Metrics:
    """All counters of one server; `objects` counts what is stored, by resource."""

    def __init__(self, objects: Callable[[], dict[str, int]] = dict) -> None:
        self._objects = objects
        self._requests: dict[tuple[Labels, int], int] = {}
        self._durations: dict[Labels, _Histogram] = {}
        self._inflight = {"mutating": 0, "readOnly": 0}
        self._streams: dict[Labels, int] = {}
        self._started = time.time()

    def begin(self, verb: str) -> str:
        """A request is in work; returns its kind for `end`."""
        kind = "mutating" if verb in _MUTATING else "readOnly"
        self._inflight[kind] += 1
        return kind

    def inflight(self, kind: str) -> int:
        """Requests in work: `mutating`, or `readOnly`."""
        return self._inflight[kind]

    def end(self, kind: str, labels: Labels, code: int, seconds: float) -> None:
        self._inflight[kind] -= 1
        key = (labels, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        histogram = self._durations.get(labels)
        if histogram is None:
            histogram = self._durations[labels] = _Histogram()
        histogram.counts[bisect_left(_BUCKETS, seconds)] += 1
        histogram.sum += seconds

    def stream(self, labels: Labels, change: int) -> None:
        """A watch or log has begun (1) or ended (-1)."""
        self._streams[labels] = self._streams.get(labels, 0) + change

    def text(self) -> bytes:
        """Everything, as `/metrics` answers it."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterable[str]:
        yield from _head("apiserver_request_total", "counter", "Requests answered.")
        for (labels, code), count in self._requests.items():
            yield f'apiserver_request_total{{code="{code}",component="apiserver",{_text(labels)}}} {count}'
        name = "apiserver_request_duration_seconds"
        yield from _head(name, "histogram", "Time to answer a request; of a stream, to its head.")
        for labels, histogram in self._durations.items():
            yield from _histogram_lines(name, f'component="apiserver",{_text(labels)}', histogram)
        yield from _head("apiserver_current_inflight_requests", "gauge", "Requests in work.")
        for kind, count in self._inflight.items():
            yield f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {count}'
        yield from _head("apiserver_longrunning_requests", "gauge", "Watches and logs being streamed.")
        for labels, count in self._streams.items():
            yield f'apiserver_longrunning_requests{{component="apiserver",{_text(labels)}}} {count}'
        yield from _head("apiserver_storage_objects", "gauge", "Stored objects.")
        for resource, count in self._objects().items():
            yield f'apiserver_storage_objects{{resource="{resource}"}} {count}'
        yield from _head("kubernetes_build_info", "gauge", "The API that is served.")
        yield f'kubernetes_build_info{{git_version="{GIT_VERSION}"}} 1'
        yield from self._process_lines()

    def _process_lines(self) -> Iterable[str]:
        times = os.times()
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        for name, kind, text, value in (
            ("process_start_time_seconds", "gauge", "Unix time of the start.", self._started),
            ("process_cpu_seconds_total", "counter", "User and system time.", times.user + times.system),
            ("process_resident_memory_bytes", "gauge", "Resident memory.", pages * os.sysconf("SC_PAGE_SIZE")),
            ("process_open_fds", "gauge", "Open file descriptors.", len(os.listdir("/proc/self/fd"))),
        ):
            yield from _head(name, kind, text)
            yield f"{name} {value}"


def _head(name: str, kind: str, text: str) -> Iterable[str]:
    return (f"# HELP {name} {text}", f"# TYPE {name} {kind}")


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{value}"' for name, value in zip(Labels._fields, labels, strict=True))


def _histogram_lines(name: str, labels: str, histogram: _Histogram) -> Iterable[str]:
    total = 0
    for bound, count in zip((*_BUCKETS, "+Inf"), histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {histogram.sum}"
    yield f"{name}_count{{{labels}}} {total}"
