"""The server's process: everything it opens, starts and closes, in order."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

from twinstack.api.errors import StatusError, qualified
from twinstack.api.resources import resource
from twinstack.ip import Address
from twinstack.server import accessreviews, event_expiry, kubernetes_service, listeners, memory, storage
from twinstack.server.accessreviews import AccessReviews
from twinstack.server.accounts import flags as account_flags
from twinstack.server.accounts.authenticating import AccountTokens
from twinstack.server.accounts.issuing import TokenRequests
from twinstack.server.accounts.keys import AccountKeys
from twinstack.server.app import App
from twinstack.server.authentication import Authenticator, TokenAuthenticator, certificate_user, read_tokens
from twinstack.server.authorization.decisions import Authorizer
from twinstack.server.authorization.modes import AlwaysAllow, AlwaysDeny, in_order
from twinstack.server.authorization.rbac import bootstrap
from twinstack.server.authorization.rbac.authorizer import CLUSTER_ROLES, RBAC, follow
from twinstack.server.authorization.rbac.escalation import Escalation
from twinstack.server.authorization.rbac.index import PolicyIndex
from twinstack.server.authorization.upserts import CreateOnUpdate
from twinstack.server.backup.page import downloads
from twinstack.server.bootstraptokens import BootstrapTokens
from twinstack.server.certificatechecks import CertificateChecks
from twinstack.server.customresources.controller import DefinitionController
from twinstack.server.discovery import Discovery
from twinstack.server.egress import Egress
from twinstack.server.flags import authorization_modes, boolean
from twinstack.server.handlers import ResourceHandler
from twinstack.server.health import Check, Health
from twinstack.server.http import HTTPServer
from twinstack.server.inflight import Inflight
from twinstack.server.kubelet import KubeletClient, kubelet_context
from twinstack.server.metrics import Metrics
from twinstack.server.nodes import graph
from twinstack.server.nodes.authorizer import NodeAuthorizer
from twinstack.server.nodes.graph import NodeGraph
from twinstack.server.nodes.restriction import NodeRestriction
from twinstack.server.podlogs import PodLogs
from twinstack.server.podstreams import PodStreams
from twinstack.server.proxies import Proxies
from twinstack.server.registry import BOOTSTRAP_NAMESPACES, Registry
from twinstack.server.repair.loop import Repair
from twinstack.server.storehealth import WatchedStore
from twinstack.server.strategy import capabilities
from twinstack.server.strategy.base import ServerConfig
from twinstack.server.tls import self_signed, server_context
from twinstack.server.tokenreview import TokenReviews
from twinstack.store.base import StoreError

log = logging.getLogger(__name__)

_PLUGINS = {"", "LimitRanger", "NodeRestriction", "ResourceQuota", "ServiceAccount"}  # that can be switched off
_GRACE = 5.0  # seconds for requests in work at the end
_LOOPBACK = (Address.parse("127.0.0.1"), Address.parse("::1"))
_OWN_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


class Process:
    """One run of the server: what it opens, it closes."""

    def __init__(self, args: argparse.Namespace, config: ServerConfig, bind: Address | None) -> None:
        self._args = args
        self._modes = authorization_modes(args.authorization_mode)
        self._config = config
        self._bind = bind
        capabilities.allow_privileged(boolean("allow-privileged", args.allow_privileged))
        store = storage.make_store(args)
        self._downloads = downloads(store)
        self._store = WatchedStore(store)
        self._registry = Registry(self._store, config)
        self._policy = PolicyIndex()
        self._graph = NodeGraph()
        self._repair = Repair(self._registry)
        self._endpoints = kubernetes_service.ServerEndpoints(
            self._registry,
            config,
            kept=args.endpoint_reconciler_type != "none",
            shared=bool(args.etcd_servers),
        )
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._bootstrapped = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        memory.keep_freed()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        sockets: list[socket.socket] = []
        found = self._keys()
        try:
            http = self._http()
            sockets += self._sockets()
            context = self._tls()
            await self._registry.open()
            follow(self._registry.cache, self._policy)
            if "Node" in self._modes:
                graph.follow(self._registry.cache, self._graph)
            await bootstrap.ensure(self._registry, self._manifest())
        except (OSError, ValueError, StoreError, StatusError) as error:
            log.error("cannot start: %s", _reason(error))
            for each in sockets:
                each.close()
            for path in self._keys() - found:  # made for this start
                path.unlink(missing_ok=True)
            await self._registry.close()
            return 1
        try:
            await http.start(sockets, context)
            self._announce()
            self._background(
                kubernetes_service.run(self._registry, self._config, self._args.client_ca_file, self._endpoints)
            )
            self._background(self._repair.run())
            self._background(event_expiry.run(self._registry))
            self._background(DefinitionController(self._registry).run())
            memory.settle()
            await self._stopping.wait()
            await self._leave()
            await http.stop(_GRACE)
            await self._cancel_background()
        finally:
            await self._registry.close()
        return self._exit_code

    async def _leave(self) -> None:
        """Clients of the Service `kubernetes` go to other servers from now on."""
        try:
            async with asyncio.timeout(_GRACE):
                await self._endpoints.leave()
        except (StatusError, StoreError, TimeoutError) as error:
            log.warning("the endpoints of this server stay: %s", error)

    # --- parts

    def _http(self) -> HTTPServer:
        args, registry = self._args, self._registry
        keys = account_flags.account_keys(args, self._public_endpoint())
        authenticator = self._authenticator(keys)
        context = partial(
            kubelet_context,
            args.kubelet_client_certificate,
            args.kubelet_client_key,
            args.kubelet_certificate_authority,
        )
        egress = Egress(args.network_namespace)
        counters = Metrics(self._object_counts)
        kubelets = KubeletClient(egress, context)
        streams = PodStreams(registry.reader, kubelets)
        authorizer = self._authorizer()
        registry.checks += [CreateOnUpdate(authorizer), Escalation(authorizer, self._policy)]
        registry.checks.append(CertificateChecks(authorizer))
        if "NodeRestriction" not in self._config.disabled_admission_plugins:
            registry.checks.append(NodeRestriction(registry.reader))
        access = AccessReviews(authorizer)
        app = App(
            authenticator=authenticator,
            authorizer=authorizer,
            discovery=Discovery(self._public_endpoint(), registry.catalogue),
            catalogue=registry.catalogue,
            health=self._health(),
            counters=counters,
            resources=ResourceHandler(registry),
            subresources={
                "log": PodLogs(registry.reader, kubelets),
                "exec": streams,
                "attach": streams,
                "portforward": streams,
                "proxy": Proxies(registry.reader, kubelets, egress),
                "token": TokenRequests(registry, keys, account_flags.terms(args)),
            },
            reviews={"tokenreviews": TokenReviews(authenticator)} | {row.plural: access for row in accessreviews.ROWS},
            pages=[keys.answer],
            downloads=self._downloads,
            inflight=Inflight(
                counters, reading=args.max_requests_inflight, mutating=args.max_mutating_requests_inflight
            ),
            anonymous=boolean("anonymous-auth", args.anonymous_auth),
        )
        return HTTPServer(app, identify=certificate_user)

    def _authenticator(self, keys: AccountKeys) -> Authenticator:
        """Every kind of credential that counts. Raises OSError, TokenFileError."""
        args, registry = self._args, self._registry
        tokens = read_tokens(args.token_auth_file) if args.token_auth_file else {}
        others: list[TokenAuthenticator] = [AccountTokens(keys, registry.cache)]
        if args.enable_bootstrap_token_auth:
            others.append(BootstrapTokens(registry.reader, keys.audiences))
        return Authenticator(tokens, others, keys.audiences)

    def _manifest(self) -> list[bootstrap.JSON]:
        path = self._args.rbac_manifest
        return bootstrap.read_manifest(path) if path else []

    def _authorizer(self) -> Authorizer:
        makers: dict[str, Callable[[], Authorizer]] = {
            "AlwaysAllow": AlwaysAllow,
            "AlwaysDeny": AlwaysDeny,
            "RBAC": partial(RBAC, self._policy),
            "Node": partial(NodeAuthorizer, self._graph),
        }
        return in_order(self._modes, makers)

    def _object_counts(self) -> dict[str, int]:
        """Stored objects by qualified resource name."""
        return {
            qualified(each.plural, each.group): len(self._registry.cache.collection(each))
            for each in self._registry.catalogue.resources
            if "list" in each.verbs
        }

    def _health(self) -> Health:
        live = {
            "ping": lambda: True,
            "log": lambda: True,  # lines go to the standard streams, one by one
            "etcd": lambda: self._store.healthy,  # the name that callers know for the store
            "poststarthook/bootstrap-controller": self._is_ready,
            "poststarthook/rbac/bootstrap-roles": self._has_roles,
            "poststarthook/start-service-ip-repair-controllers": lambda: self._repair.ready,
        }
        ready: dict[str, Check] = {
            "informer-sync": lambda: True,  # the store is read before anything is served
            "shutdown": lambda: not self._stopping.is_set(),
        }
        return Health(live, ready)

    def _is_ready(self) -> bool:
        """The default objects are there: namespaces, the `kubernetes` ServiceCIDR and Service."""
        if not self._bootstrapped:
            get = self._registry.reader.get
            self._bootstrapped = (
                all(get(resource("", "namespaces"), "", name) is not None for name in BOOTSTRAP_NAMESPACES)
                and get(resource("networking.k8s.io", "servicecidrs"), "", "kubernetes") is not None
                and get(resource("", "services"), "default", "kubernetes") is not None
            )
        return self._bootstrapped

    def _has_roles(self) -> bool:
        return self._registry.reader.exists(CLUSTER_ROLES.key("", "cluster-admin"))

    def _keys(self) -> set[Path]:
        """Certificates and keys that this server made, now or before."""
        return set(Path(self._args.cert_dir).glob("*"))

    def _tls(self) -> ssl.SSLContext:
        args = self._args
        certificate, key = args.tls_cert_file, args.tls_private_key_file
        if not certificate:
            directory, names = Path(args.cert_dir), [*_OWN_NAMES, socket.gethostname()]
            certificate, key = self_signed(directory, names, self._own_addresses())
        return server_context(certificate, key, args.client_ca_file)

    def _own_addresses(self) -> list[Address]:
        bind = [self._bind] if self._bind is not None and self._bind.value else []
        firsts = [block.address(1) for block in self._config.service_ranges]
        return list(dict.fromkeys([*_LOOPBACK, *bind, *self._config.advertise_addresses, *firsts]))

    def _sockets(self) -> list[socket.socket]:
        port = self._config.secure_port
        sockets = listeners.own_listeners(self._bind, port)
        if self._args.network_namespace:
            try:
                sockets += listeners.namespace_listeners(
                    self._args.network_namespace, self._config.advertise_addresses, port
                )
            except OSError:
                sockets[0].close()
                raise
        return sockets

    def _public_endpoint(self) -> str:
        addresses = self._config.advertise_addresses or _LOOPBACK
        return listeners.endpoint(addresses[0], self._config.secure_port)

    def _announce(self) -> None:
        args, port = self._args, self._config.secure_port
        if "AlwaysAllow" in self._modes:
            log.warning("--authorization-mode has AlwaysAllow: all who are known may do everything, whatever roles say")
        if self._config.disabled_admission_plugins - _PLUGINS:
            log.warning("--disable-admission-plugins has no effect: the server's own rules stay on, others it lacks")
        if not self._config.advertise_addresses:
            family = self._config.service_ranges[0].family
            log.warning("no %s address to advertise: the kubernetes Service has no endpoints", family)
        where = [listeners.endpoint(self._bind, port) if self._bind is not None else f"every address, port {port}"]
        if args.network_namespace:
            inside = ", ".join(listeners.endpoint(address, port) for address in self._config.advertise_addresses)
            where.append(f"{inside} in {args.network_namespace}")
        log.info("serving HTTPS on %s", " and on ".join(where))

    # --- background tasks

    def _background(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` until the end; when it fails the server ends, so that whoever watches over it starts it anew."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())
            self._exit_code = 1
            self._stopping.set()

    async def _cancel_background(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reason(error: Exception) -> str:
    """An operating system's error without its number, with the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
