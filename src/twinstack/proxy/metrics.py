"""Counters, gauges and histograms in the Prometheus text format, and those of the proxy under kube-proxy's names."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric:
    """One name with its label sets; values of counters and gauges are plain numbers."""

    kind = "untyped"

    def __init__(self, name: str, help_: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help_
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}
        if not labels:
            self._values[()] = 0.0

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0.0)

    def text(self) -> str:
        head = f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for labels, value in sorted(self._values.items()):
            yield f"{self.name}{self._braces(labels)} {_number(value)}"

    def _braces(self, labels: tuple[str, ...], extra: str = "") -> str:
        pairs = [f'{name}="{value}"' for name, value in zip(self._labels, labels, strict=True)]
        pairs += [extra] if extra else []
        return "{" + ",".join(pairs) + "}" if pairs else ""


class Counter(Metric):
    kind = "counter"

    def add(self, amount: float = 1, *labels: str) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + amount


class Gauge(Metric):
    kind = "gauge"

    def add(self, amount: float = 1, *labels: str) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def set(self, value: float, *labels: str) -> None:
        self._values[labels] = value


class Histogram(Metric):
    """Observations in buckets by upper bound."""

    kind = "histogram"

    def __init__(self, name: str, help_: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        super().__init__(name, help_, labels)
        self._bounds = tuple(bounds)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        if not labels:
            self._counts[()] = [0] * (len(bounds) + 1)

    def observe(self, value: float, *labels: str) -> None:
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect.bisect_left(self._bounds, value)] += 1
        self._values[labels] = self._values.get(labels, 0.0) + value

    def _lines(self) -> Iterator[str]:
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip([*map(_number, self._bounds), "+Inf"], counts, strict=True):
                total += count
                upper = f'le="{bound}"'
                yield f"{self.name}_bucket{self._braces(labels, upper)} {total}"
            yield f"{self.name}_sum{self._braces(labels)} {_number(self.value(*labels))}"
            yield f"{self.name}_count{self._braces(labels)} {total}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


_SYNC_BOUNDS = [0.001 * 2**power for power in range(15)]
_PROGRAMMING_BOUNDS = [0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)]
_FAMILY = ("ip_family",)


class ProxyMetrics:
    """What /metrics shows. A full sync compares everything with the kernel, a partial one writes a change."""

    def __init__(self) -> None:
        sync = "kubeproxy_sync_proxy_rules_"
        self.full = Histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", "Time of a full sync", _SYNC_BOUNDS, _FAMILY
        )
        self.partial = Histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time of a partial sync", _SYNC_BOUNDS, _FAMILY
        )
        self.sync = Histogram(f"{sync}duration_seconds", "Time of any sync", _SYNC_BOUNDS, _FAMILY)
        self.programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the change that an EndpointSlice tells of to the rules that follow it",
            _PROGRAMMING_BOUNDS,
            _FAMILY,
        )
        self.last_sync = Gauge(f"{sync}last_timestamp_seconds", "When rules were last synced", _FAMILY)
        self.last_queued = Gauge(f"{sync}last_queued_timestamp_seconds", "When a sync was last queued", _FAMILY)
        self.endpoint_changes = Counter(f"{sync}endpoint_changes_total", "EndpointSlice changes seen")
        self.endpoint_pending = Gauge(f"{sync}endpoint_changes_pending", "EndpointSlice changes not yet synced")
        self.service_changes = Counter(f"{sync}service_changes_total", "Service changes seen")
        self.service_pending = Gauge(f"{sync}service_changes_pending", "Service changes not yet synced")
        self.failures = Counter(f"{sync}nftables_sync_failures_total", "Syncs that failed", _FAMILY)
        self.cleanup_failures = Counter(
            f"{sync}nftables_cleanup_failures_total", "Clean-ups of old tables that failed", _FAMILY
        )
        self.front_ends = Gauge("twinstack_proxy_front_ends", "Addresses and ports that are answered on", _FAMILY)
        self.clients = Gauge(
            "twinstack_proxy_affinity_clients", "Client addresses that are held to an endpoint", _FAMILY
        )
        self.recoveries = Counter(
            "twinstack_proxy_table_recoveries_total", "Times that our table was gone or replaced", _FAMILY
        )
        self.no_local = Gauge(
            f"{sync}no_local_endpoints_total",
            "Service ports with a Local traffic policy, endpoints elsewhere and none here",
            ("traffic_policy", "ip_family"),
        )
        self.elements = Counter(
            "twinstack_proxy_element_operations_total", "Elements added to or deleted from the maps", _FAMILY
        )
        self.conntrack = Histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds", "Time of a clean-up", _SYNC_BOUNDS, _FAMILY
        )
        self.conntrack_deleted = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total", "Conntrack entries deleted", _FAMILY
        )
        self.healthz = Counter("kubeproxy_proxy_healthz_total", "Answers of /healthz", ("code",))
        self.livez = Counter("kubeproxy_proxy_livez_total", "Answers of /livez", ("code",))

    def text(self) -> str:
        metrics = (value for value in vars(self).values() if isinstance(value, Metric))
        return "".join(itertools.chain.from_iterable(metric.text() for metric in metrics))
