"""The Kubernetes API server."""

from __future__ import annotations

import argparse
import logging
import resource as limits

from twinstack.ip import Address
from twinstack.server import inflight, storage
from twinstack.server.accounts import flags as account_flags
from twinstack.server.flags import (
    AUTHORIZATION_MODES,
    FlagError,
    advertised,
    authorization_modes,
    boolean,
    node_ports,
    secure_port,
    service_ranges,
)
from twinstack.server.listeners import own_address
from twinstack.server.strategy.base import ServerConfig

log = logging.getLogger(__name__)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags with kube-apiserver's names and meanings; `--sqlite` and `--network-namespace` are ours."""
    add = parser.add_argument
    add("--service-cluster-ip-range", default="", metavar="CIDR[,CIDR]", help="blocks of cluster IPs, primary first")
    add("--service-node-port-range", default="30000-32767", metavar="LOW-HIGH", help="ports of NodePort Services")
    add("--secure-port", type=int, default=6443, metavar="PORT", help="HTTPS port")
    add(
        "--bind-address", default="", metavar="ADDRESS", help="where to listen; default all, 127.0.0.1 with a namespace"
    )
    add("--advertise-address", default="", metavar="ADDRESS[,ADDRESS]", help="where clients inside the cluster connect")
    add("--network-namespace", default="", metavar="PATH", help="the cluster's namespace: listen and reach nodes there")
    storage.add_flags(parser)
    inflight.add_flags(parser)
    add("--tls-cert-file", default="", metavar="FILE", help="server certificate; made in --cert-dir without it")
    add("--tls-private-key-file", default="", metavar="FILE", help="its key")
    add("--cert-dir", default="/run/twinstack/certificates", metavar="DIR", help="where a self-signed certificate goes")
    add("--client-ca-file", default="", metavar="FILE", help="authority of client certificates: user CN, groups O")
    add("--token-auth-file", default="", metavar="FILE", help='CSV of token,user,uid,"group,group"')
    add(
        "--authorization-mode",
        default="Node,RBAC",
        metavar="MODES",
        help=f"in order: {', '.join(AUTHORIZATION_MODES)}",
    )
    add("--rbac-manifest", default="", metavar="FILE", help="List of roles and bindings beside the default ones")
    add("--anonymous-auth", nargs="?", const="true", default="true", metavar="BOOL", help="let in who shows nothing")
    add("--allow-privileged", nargs="?", const="true", default="false", metavar="BOOL", help="let containers be so")
    add("--unacted-resources", default="", metavar="NAMES", help="plural.group of what no part of the cluster acts on")
    add("--disable-admission-plugins", default="", metavar="NAMES", help="admission plugins to leave out")
    add("--kubelet-client-certificate", default="", metavar="FILE", help="client certificate towards nodes")
    add("--kubelet-client-key", default="", metavar="FILE", help="its key")
    add("--kubelet-certificate-authority", default="", metavar="FILE", help="authority of nodes' certificates")
    account_flags.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 after an orderly end, 1 when the server could not start or go on."""
    try:
        config, bind = read_config(args), bind_address(args)
    except FlagError as error:
        log.error("%s", error)
        return 1
    # After the flags are known to be good: what serves takes a tenth of a second to import.
    import uvloop

    from twinstack.server.process import Process

    _raise_file_limit()
    try:
        server = Process(args, config, bind)
    except (FlagError, OSError) as error:
        log.error("%s", error)
        return 1
    return uvloop.run(server.run())


def read_config(args: argparse.Namespace) -> ServerConfig:
    """What strategies must know of the flags. Raises FlagError."""
    ranges = service_ranges(args.service_cluster_ip_range)
    storage.check(args)
    if args.network_namespace and not args.advertise_address:
        raise FlagError("--network-namespace needs --advertise-address, the addresses to listen on inside it")
    account_flags.terms(args)
    if bool(args.tls_cert_file) != bool(args.tls_private_key_file):
        raise FlagError("--tls-cert-file and --tls-private-key-file must be specified together")
    authorization_modes(args.authorization_mode)
    boolean("anonymous-auth", args.anonymous_auth)
    boolean("allow-privileged", args.allow_privileged)
    addresses = advertised(args.advertise_address, ranges)
    if not addresses:
        own = own_address(ranges[0].family)
        addresses = (own,) if own is not None else ()
    return ServerConfig(
        service_ranges=ranges,
        node_ports=node_ports(args.service_node_port_range),
        secure_port=secure_port(args.secure_port),
        advertise_addresses=addresses,
        disabled_admission_plugins=frozenset(args.disable_admission_plugins.split(",")),
        unacted=frozenset(filter(None, args.unacted_resources.split(","))),
    )


def bind_address(args: argparse.Namespace) -> Address | None:
    """`--bind-address`; None means all. Raises FlagError."""
    text = args.bind_address or ("127.0.0.1" if args.network_namespace else "")
    try:
        return Address.parse(text) if text else None
    except ValueError as error:
        raise FlagError(f"--bind-address: {error}") from error


def _raise_file_limit() -> None:
    """Every watch is a socket: take as many descriptors as the system lets us."""
    _, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    limits.setrlimit(limits.RLIMIT_NOFILE, (hard, hard))
