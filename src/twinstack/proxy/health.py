"""Whether the proxy keeps up, and whether this node should get load-balanced traffic: /healthz and /livez.

A family is unhealthy when a change has waited longer than twice the sync period. `/healthz` also fails
while the Node is being removed, which is how load balancers learn to send new connections elsewhere;
`/livez` does not (KEP-3836).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from twinstack.api.core import Node
from twinstack.ip import IPFamily
from twinstack.proxy.metrics import ProxyMetrics
from twinstack.proxy.web import Page

LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"

Clock = Callable[[], float]


def eligible(node: Node | None) -> bool:
    """Whether load balancers should use the node: it is known, stays, and is not about to be scaled away."""
    if node is None or node.metadata.deletion_timestamp is not None:
        return False
    return all(taint.key != LEAVING_TAINT for taint in node.spec.taints)


class Health:
    """Follows how long each family has been waiting for a successful sync."""

    def __init__(
        self, families: Iterable[IPFamily], *, sync_period: float, metrics: ProxyMetrics, clock: Clock = time.time
    ) -> None:
        self._limit = 2 * sync_period
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[IPFamily, float | None] = dict.fromkeys(families)
        self._synced: dict[IPFamily, float] = dict.fromkeys(self._waiting, clock())
        self.node_eligible = False

    def queued(self, family: IPFamily) -> None:
        """A change is waiting."""
        now = self._clock()
        if self._waiting[family] is None:
            self._waiting[family] = now
        self._metrics.last_queued.set(now, family)

    def synced(self, family: IPFamily) -> None:
        """All changes so far are in the kernel."""
        now = self._synced[family] = self._clock()
        self._waiting[family] = None
        self._metrics.last_sync.set(now, family)

    def healthy(self, family: IPFamily) -> bool:
        since = self._waiting[family]
        return since is None or self._clock() - since <= self._limit

    def all_healthy(self) -> bool:
        return all(map(self.healthy, self._waiting))

    def healthz(self) -> Page:
        code = 200 if self.all_healthy() and self.node_eligible else 503
        self._metrics.healthz.add(1, str(code))
        return self._page(code, {"nodeEligible": self.node_eligible})

    def livez(self) -> Page:
        code = 200 if self.all_healthy() else 503
        self._metrics.livez.add(1, str(code))
        return self._page(code, {})

    def _page(self, code: int, more: dict[str, object]) -> Page:
        now = self._clock()
        status = {
            str(family): {
                "lastUpdated": _stamp(now if self.healthy(family) else self._synced[family]),
                "healthy": self.healthy(family),
            }
            for family in self._waiting
        }
        healthy = self.all_healthy()
        body = {
            "lastUpdated": _stamp(now if healthy else min(self._synced.values())),
            "currentTime": _stamp(now),
            **more,
            "healthy": healthy,
            "status": status,
        }
        return Page(code, "application/json", msgspec.json.encode(body))


def _stamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    whole, fraction = divmod(seconds, 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int(fraction * 1e6):06d}Z"
