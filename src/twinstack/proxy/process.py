"""A running proxy: its parts, what runs beside what, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable

import msgspec

from twinstack.client.events import EventRecorder
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client
from twinstack.ip import IPFamily
from twinstack.proxy import web
from twinstack.proxy.configuration import Configuration, supported_families
from twinstack.proxy.conntrack import Cleaner
from twinstack.proxy.health import Health, eligible
from twinstack.proxy.layout import Layout
from twinstack.proxy.metrics import CONTENT_TYPE, ProxyMetrics
from twinstack.proxy.service_health import HealthPorts
from twinstack.proxy.shown_configuration import configz
from twinstack.proxy.sync import Synchroniser
from twinstack.proxy.tracker import ClusterTracker
from twinstack.proxy.writer import Writer, foreign_proxies

_BIND_RETRY = 5.0  # seconds
_NODE_PATIENCE = 5.0  # seconds for the Node to be known before something is told of it
_LAST_WORD = 1.0  # seconds for an event to be sent before the end
_FILE_INTERVAL = 2.0  # seconds between looks at the configuration file
_FAILED_TO_BIND = {"healthz": "FailedToStartProxierHealthcheck", "metrics": "FailedToStartMetricServer"}
_SETTLING = 1.0  # seconds until what was read at the start is taken for permanent
_SETTLED_THRESHOLDS = (10_000, 10, 10)

log = logging.getLogger(__name__)


def layout_of(family: IPFamily, configuration: Configuration) -> Layout:
    return Layout(
        family,
        mark_bit=configuration.mark_bit,
        masquerade_all=configuration.masquerade_all,
        pod_interface=configuration.pod_interface,
    )


class Proxy:
    """All parts, in the network namespace of the thread that makes it. Raises OSError without nf_tables or rights."""

    def __init__(self, client: Client, configuration: Configuration, families: list[IPFamily]) -> None:
        self.configuration = configuration
        self.metrics = ProxyMetrics()
        self.health = Health(families, sync_period=configuration.sync_period, metrics=self.metrics)
        self.tracker = ClusterTracker(client, configuration, families, self.metrics)
        self.events = EventRecorder(client, "kube-proxy", configuration.node_name)
        self.cleaner = Cleaner(self.metrics)
        self.health_ports = HealthPorts(self.health, self._health_port_failed)
        self.writer = Writer()
        self.sync = Synchroniser(
            self.tracker.desired,
            self.writer,
            [layout_of(family, configuration) for family in families],
            metrics=self.metrics,
            health=self.health,
            cleaner=self.cleaner,
            min_interval=configuration.min_sync_period,
            synced=self.tracker.programmed,
            publish=self.health_ports.publish,
        )

    async def run(self) -> None:
        """Until cancelled. The tables stay when it ends."""
        self.tracker.changed = self.sync.wake
        self.tracker.moved = self._moved
        self.tracker.follow_interfaces()
        try:
            async with asyncio.TaskGroup() as tasks:
                for watch in self.tracker.watches:
                    tasks.create_task(watch.run())
                tasks.create_task(self._show("healthz", self.configuration.healthz, self._health_pages()))
                tasks.create_task(self._show("metrics", self.configuration.metrics, self._metrics_pages()))
                tasks.create_task(_await_change(self.configuration.file))
                tasks.create_task(self.cleaner.run())
                tasks.create_task(self.health_ports.run())
                tasks.create_task(self.events.run())
                await self.tracker.ready()
                self._start()
                await self.sync.watch()
        finally:
            self.tracker.close()
            self.writer.close()

    def _start(self) -> None:
        self._moved()
        self.sync.start()
        if self.tracker.node is not None:
            families = " and ".join(self.tracker.families)
            self.events.event(self.tracker.node, "Normal", "Starting", f"Service proxy for {families}")
        asyncio.get_running_loop().call_later(_SETTLING, _settle)

    def _moved(self) -> None:
        self.health.node_eligible = eligible(self.tracker.node)
        for family in self.tracker.families:
            surroundings = self.tracker.surroundings(family)
            self.sync.surround(family, surroundings)
            self.health_ports.move(family, surroundings.node_ips)
        if self.tracker.desired.pending:
            self.sync.wake()

    def _health_port_failed(self, key: str, message: str) -> None:
        service = self.tracker.checked_service(key)
        if service is not None:
            self.events.event(service, "Warning", "FailedToStartServiceHealthcheck", message)

    async def _show(self, name: str, endpoint: str, pages: web.Pages) -> None:
        """Listen as long as the proxy runs; an address that is taken is tried again and again, or ends it."""
        failed = False
        while endpoint:
            try:
                server = await web.serve(endpoint, pages)
            except OSError as error:
                message = f"cannot serve {name} on {endpoint}: {error}"
                if not failed:
                    await self._tell_node(_FAILED_TO_BIND[name], message)
                if self.configuration.bind_hard:
                    await asyncio.sleep(_LAST_WORD)
                    raise Ended(message) from None
                if not failed:
                    log.error("%s; trying again", message)
                failed = True
                await asyncio.sleep(_BIND_RETRY)
                continue
            async with server:
                await server.serve_forever()

    async def _tell_node(self, reason: str, message: str) -> None:
        """An event about our Node, once it is known; not waited for beyond a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NODE_PATIENCE):
                await self.tracker.nodes.synced()
        if self.tracker.node is not None:
            self.events.event(self.tracker.node, "Warning", reason, message)

    def _health_pages(self) -> web.Pages:
        return {"/healthz": self.health.healthz, "/livez": self.health.livez}

    def _count_clients(self) -> None:
        for state in self.sync.families.values():
            with contextlib.suppress(OSError):  # the table is not there yet, or was taken away
                clients = self.writer.clients(state.layout)
                if clients is not None:
                    self.metrics.clients.set(clients, state.family)

    def _configz(self) -> bytes:
        return msgspec.json.encode(configz(self.configuration))

    def _metrics_pages(self) -> web.Pages:
        def metrics() -> web.Page:
            self._count_clients()
            return web.Page(200, CONTENT_TYPE, self.metrics.text().encode())

        return {
            "/metrics": metrics,
            "/healthz": lambda: web.plain("ok"),
            "/proxyMode": lambda: web.plain("nftables"),
            "/configz": lambda: web.Page(200, "application/json", self._configz()),
        }


class Ended(Exception):
    """The proxy cannot go on, or should not; the text says why."""


async def serve(access: ClusterAccess, configuration: Configuration) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    families = supported_families()
    client = Client(access, user_agent="twinstack-proxy")
    try:
        try:
            for table in foreign_proxies():
                log.warning("table %s is here: two proxies on one node answer for the same addresses", table)
            proxy = Proxy(client, configuration, families)
        except OSError as error:
            log.error("cannot program nf_tables: %s; the proxy needs root or CAP_NET_ADMIN", error)
            return 1
        log.info("proxy of node %s for %s", configuration.node_name, " and ".join(families))
        task = asyncio.create_task(proxy.run())
        _on_signals(task.cancel)
        return await _end_of(task)
    finally:
        await client.close()


async def _end_of(task: asyncio.Task[None]) -> int:
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; the rules stay and go on carrying traffic")
        return 0
    except ExceptionGroup as group:
        ends, others = group.split(Ended)
        if others is not None:
            raise others from None
        for end in ends.exceptions if ends is not None else ():
            log.error("%s", end)
    return 1


async def _await_change(file: str) -> None:
    """Raises Ended when the configuration file is another one: whoever started us starts us with it."""
    before = _identity(file) if file else None
    while before is not None:
        await asyncio.sleep(_FILE_INTERVAL)
        if _identity(file) != before:
            raise Ended(f"{file} has changed: to be started again with it")


def _identity(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _settle() -> None:
    gc.freeze()
    gc.set_threshold(*_SETTLED_THRESHOLDS)


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
