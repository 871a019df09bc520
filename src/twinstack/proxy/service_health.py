"""Health-check node ports: tell a load balancer how many endpoints of a Service this node has.

For Services of type LoadBalancer with externalTrafficPolicy Local, at `spec.healthCheckNodePort` of each address
where NodePorts answer, in each family of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from twinstack.dataplane.model import HealthCheck, Target
from twinstack.ip import Address, IPFamily
from twinstack.proxy import web
from twinstack.proxy.health import Health

RETRY_INTERVAL = 1.0  # seconds, for ports that somebody else has

Place = tuple[IPFamily, str]  # a Service, by namespace/name, in one family

log = logging.getLogger(__name__)


class HealthPorts:
    """One listener an address and Service. `failed` hears of a Service and of what is wrong, once."""

    def __init__(self, health: Health, failed: Callable[[str, str], None]) -> None:
        self._health = health
        self._failed = failed
        self._checks: dict[Place, HealthCheck] = {}
        self._addresses: dict[IPFamily, frozenset[Address]] = {}
        self._servers: dict[tuple[Place, Target], asyncio.Server] = {}
        self._told: set[tuple[Place, Target]] = set()  # failures
        self._wake = asyncio.Event()

    def publish(self, family: IPFamily, service: str, check: HealthCheck | None) -> None:
        """What is so now that the rules are written; None when there is nothing to listen for."""
        old = self._checks.pop((family, service), None)
        if check is not None:
            self._checks[family, service] = check
        if (old.port if old is not None else 0) != (check.port if check is not None else 0):
            self._wake.set()

    def move(self, family: IPFamily, addresses: frozenset[Address]) -> None:
        """The addresses to listen at."""
        if self._addresses.get(family) != addresses:
            self._addresses[family] = addresses
            self._wake.set()

    async def run(self) -> None:
        """Listen where one should; cancel to stop."""
        try:
            while True:
                complete = await self._converge()
                try:
                    async with asyncio.timeout(None if complete else RETRY_INTERVAL):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._close(list(self._servers))

    async def _converge(self) -> bool:
        self._wake.clear()
        wanted = {
            (place, Target(address, check.port))
            for place, check in self._checks.items()
            for address in self._addresses.get(place[0], ())
        }
        self._close(self._servers.keys() - wanted)
        self._told &= wanted
        missing = wanted - self._servers.keys()
        for place, target in sorted(missing):
            try:
                self._servers[place, target] = await web.serve(str(target), partial(self._page, place))
                self._told.discard((place, target))
            except OSError as error:
                self._tell(place, target, error)
        return wanted == self._servers.keys()

    def _tell(self, place: Place, target: Target, error: OSError) -> None:
        if (place, target) not in self._told:
            self._told.add((place, target))
            log.warning("Service %s: its health check cannot listen at %s: %s; trying again", place[1], target, error)
            self._failed(place[1], f"node {target} cannot be listened at: {error}")

    def _close(self, listeners: Iterable[tuple[Place, Target]]) -> None:
        for listener in list(listeners):
            self._servers.pop(listener).close()

    def _page(self, place: Place) -> web.Page:
        check = self._checks.get(place)
        count = check.endpoints if check is not None else 0
        namespace, _, name = place[1].partition("/")
        healthy = self._health.all_healthy()
        body = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        weight = (("X-Load-Balancing-Endpoint-Weight", str(count)),)
        return web.Page(200 if count and healthy else 503, "application/json", msgspec.json.encode(body), weight)
