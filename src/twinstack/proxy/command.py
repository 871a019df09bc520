"""`twinstack proxy`: flags, and the process around the parts."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable

from twinstack.client import kubeconfig
from twinstack.client.rest import Client
from twinstack.ip import CIDR, IPFamily
from twinstack.linux.nftables import NftablesError, Owned
from twinstack.proxy import web, writer
from twinstack.proxy.configuration import Configuration, LocalMode, supported_families
from twinstack.proxy.conntrack import Cleaner
from twinstack.proxy.durations import parse_duration
from twinstack.proxy.health import Health, eligible
from twinstack.proxy.layout import Layout
from twinstack.proxy.metrics import CONTENT_TYPE, ProxyMetrics
from twinstack.proxy.sync import Synchroniser
from twinstack.proxy.tracker import ClusterTracker
from twinstack.proxy.writer import Writer

_BIND_RETRY = 5.0  # seconds
_SETTLING = 1.0  # seconds until what was read at the start is taken for permanent

# Services and slices live long and form no cycles: with the usual thresholds half of the start is spent in vain.
GARBAGE_THRESHOLDS = (100_000, 50, 100)

log = logging.getLogger(__name__)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", default="", metavar="FILE", help="how to reach the API server; in a pod: its service account")
    add("--hostname-override", default="", metavar="NAME", help="name of this Node (default: the host's name)")
    add("--cluster-cidr", default="", metavar="A[,B]", help="pod range of the cluster, one a family")
    add(
        "--detect-local-mode",
        choices=[mode.value for mode in LocalMode],
        default=None,
        help="how to tell pods of this node: other sources are masqueraded (default: ClusterCIDR if --cluster-cidr "
        "is given, else NodeCIDR)",
    )
    add(
        "--nodeport-addresses",
        default="primary",
        metavar="primary|A,B…",
        help="where NodePorts answer: the Node's own addresses, or those of its interfaces in these blocks",
    )
    add("--masquerade-all", action="store_true", help="masquerade all traffic to ClusterIPs")
    add("--iptables-sync-period", default="30s", metavar="TIME", help="health: a change may wait twice as long")
    add("--iptables-min-sync-period", default="20ms", metavar="TIME", help="least time between two syncs")
    add("--healthz-bind-address", default="0.0.0.0:10256", metavar="IP:PORT", help="/healthz, /livez; empty: none")
    add("--metrics-bind-address", default="127.0.0.1:10249", metavar="IP:PORT", help="/metrics; empty: none")
    add("--dry-run", action="store_true", help="show what would be programmed, and end")
    add("-o", "--output", choices=["text", "json"], default="text", help="form of --dry-run")
    add("--cleanup", action="store_true", help="remove the proxy's tables, and end")


def run(args: argparse.Namespace) -> int:
    try:
        configuration = read_flags(args)
    except ValueError as error:
        log.error("%s", error)
        return 2
    if args.cleanup:
        return clean_up(configuration)
    try:
        access = kubeconfig.load(args.kubeconfig) if args.kubeconfig else kubeconfig.in_cluster()
    except kubeconfig.KubeconfigError as error:
        log.error("%s", error)
        return 1
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    import uvloop

    if args.dry_run:
        from twinstack.proxy.dry_run import show

        return uvloop.run(show(access, configuration, args.output))
    return uvloop.run(_serve(access, configuration))


def read_flags(args: argparse.Namespace) -> Configuration:
    """Raises ValueError with a sentence for people."""
    cluster = tuple(CIDR.parse(part.strip()) for part in args.cluster_cidr.split(",") if part.strip())
    mode = LocalMode(args.detect_local_mode) if args.detect_local_mode else None
    blocks = None
    if args.nodeport_addresses not in ("", "primary"):
        blocks = tuple(CIDR.parse(part.strip()) for part in args.nodeport_addresses.split(","))
    return Configuration(
        node_name=(args.hostname_override or socket.gethostname()).strip().lower(),
        local_mode=mode or (LocalMode.CLUSTER_CIDR if cluster else LocalMode.NODE_CIDR),
        cluster_cidrs=cluster,
        node_port_blocks=blocks,
        masquerade_all=args.masquerade_all,
        sync_period=parse_duration(args.iptables_sync_period),
        min_sync_period=parse_duration(args.iptables_min_sync_period),
        healthz=args.healthz_bind_address,
        metrics=args.metrics_bind_address,
    )


def clean_up(configuration: Configuration) -> int:
    """Remove the tables; Services then no longer answer on this node."""
    layouts = [_layout(family, configuration) for family in IPFamily]
    try:
        removed = writer.remove_tables(layouts)
    except Owned:
        log.error("a proxy runs here and owns the tables: stop it first")
        return 1
    except (NftablesError, OSError) as error:
        log.error("tables not removed: %s", error)
        return 1
    log.info("removed: %s", ", ".join(removed) or "nothing was there")
    return 0


def _layout(family: IPFamily, configuration: Configuration) -> Layout:
    return Layout(family, mark_bit=configuration.mark_bit, masquerade_all=configuration.masquerade_all)


class Proxy:
    """All parts of a running proxy, in the network namespace of the thread that makes it."""

    def __init__(self, client: Client, configuration: Configuration, families: list[IPFamily]) -> None:
        self.configuration = configuration
        self.metrics = ProxyMetrics()
        self.health = Health(families, sync_period=configuration.sync_period, metrics=self.metrics)
        self.tracker = ClusterTracker(client, configuration, families, self.metrics)
        self.cleaner = Cleaner(self.metrics)
        self.writer = Writer()
        self.sync = Synchroniser(
            self.tracker.desired,
            self.writer,
            [_layout(family, configuration) for family in families],
            metrics=self.metrics,
            health=self.health,
            cleaner=self.cleaner,
            min_interval=configuration.min_sync_period,
            synced=self.tracker.programmed,
        )

    async def run(self) -> None:
        """Until cancelled. The tables stay when it ends."""
        self.tracker.changed = self.sync.wake
        self.tracker.moved = self._moved
        self.tracker.follow_interfaces()
        try:
            async with asyncio.TaskGroup() as tasks:
                for informer in self.tracker.informers:
                    tasks.create_task(informer.run())
                tasks.create_task(show_pages("healthz", self.configuration.healthz, self._health_pages()))
                tasks.create_task(show_pages("metrics", self.configuration.metrics, self._metrics_pages()))
                tasks.create_task(self.cleaner.run())
                await self.tracker.ready()
                self._moved()
                self.sync.start()
                asyncio.get_running_loop().call_later(_SETTLING, gc.freeze)
                await self.sync.watch()
        finally:
            self.tracker.close()
            self.writer.close()

    def _moved(self) -> None:
        self.health.node_eligible = eligible(self.tracker.node)
        for family in self.tracker.families:
            self.sync.surround(family, self.tracker.surroundings(family))
        if self.tracker.desired.pending:
            self.sync.wake()

    def _health_pages(self) -> web.Pages:
        return {"/healthz": self.health.healthz, "/livez": self.health.livez}

    def _metrics_pages(self) -> web.Pages:
        def metrics() -> web.Page:
            return web.Page(200, CONTENT_TYPE, self.metrics.text().encode())

        return {
            "/metrics": metrics,
            "/healthz": lambda: web.plain("ok"),
            "/proxyMode": lambda: web.plain("nftables"),
        }


async def show_pages(name: str, endpoint: str, pages: web.Pages) -> None:
    """Listen as long as the proxy runs; an address that is taken is tried again and again."""
    failed = False
    while endpoint:
        try:
            server = await web.serve(endpoint, pages)
        except OSError as error:
            if not failed:
                log.error("cannot serve %s on %s: %s; trying again", name, endpoint, error)
            failed = True
            await asyncio.sleep(_BIND_RETRY)
            continue
        async with server:
            await server.serve_forever()


async def _serve(access: kubeconfig.ClusterAccess, configuration: Configuration) -> int:
    families = supported_families()
    for table in writer.foreign_proxies():
        log.warning("table %s is here: two proxies on one node answer for the same addresses; remove one", table)
    client = Client(access, user_agent="twinstack-proxy")
    try:
        proxy = Proxy(client, configuration, families)
        log.info("proxy of node %s for %s", configuration.node_name, " and ".join(families))
        task = asyncio.create_task(proxy.run())
        _on_signals(task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return 0
    finally:
        await client.close()
    return 1


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
