"""Which store a server keeps its state in: the flags, as kube-apiserver's, and the store that they name."""

from __future__ import annotations

import argparse
import ssl

from twinstack.api.times import parse_duration
from twinstack.server.flags import FlagError
from twinstack.store import Store


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--sqlite` is ours; it and `--etcd-servers` exclude each other."""
    add = parser.add_argument
    add("--sqlite", default="", metavar="PATH", help="file of the embedded store")
    add("--etcd-servers", default="", metavar="URL[,URL]", help="members of the etcd cluster that is the store")
    add("--etcd-cafile", default="", metavar="FILE", help="authority of etcd's certificates")
    add("--etcd-certfile", default="", metavar="FILE", help="client certificate towards etcd")
    add("--etcd-keyfile", default="", metavar="FILE", help="its key")
    add("--etcd-prefix", default="/registry", metavar="PATH", help="what all keys in etcd begin with")
    add(
        "--etcd-compaction-interval",
        default="5m0s",
        metavar="DURATION",
        help="how long etcd keeps old revisions; 0: this server leaves compaction to others",
    )
    add(
        "--endpoint-reconciler-type",
        default="lease",
        metavar="TYPE",
        help="how servers on one etcd keep the endpoints of the Service kubernetes: lease, or none",
    )


def check(args: argparse.Namespace) -> None:
    """Raises FlagError."""
    if bool(args.sqlite) == bool(args.etcd_servers):
        if args.sqlite:
            raise FlagError("--sqlite and --etcd-servers exclude each other: the state is kept in one place")
        raise FlagError(
            "--etcd-servers or --sqlite must be specified: the etcd cluster or the file in which the server keeps "
            "its state"
        )
    if bool(args.etcd_certfile) != bool(args.etcd_keyfile):
        raise FlagError("--etcd-certfile and --etcd-keyfile must be specified together")
    if not args.etcd_prefix.strip("/"):
        raise FlagError(f"--etcd-prefix {args.etcd_prefix!r}: write a path, as /registry")
    if args.endpoint_reconciler_type not in ("lease", "none"):
        raise FlagError(f"--endpoint-reconciler-type {args.endpoint_reconciler_type}: this server knows lease and none")
    _compaction_seconds(args)


def _compaction_seconds(args: argparse.Namespace) -> float:
    try:
        return parse_duration(args.etcd_compaction_interval)
    except ValueError as error:
        raise FlagError(f"--etcd-compaction-interval: {error}") from error


def make_store(args: argparse.Namespace) -> Store:
    """The store, not yet open. Raises FlagError, and OSError for files that cannot be read."""
    if args.sqlite:
        from twinstack.store.sqlite import SQLiteStore

        return SQLiteStore(args.sqlite)
    from twinstack.store.etcd.channel import endpoints_of
    from twinstack.store.etcd.store import EtcdStore

    try:
        endpoints = endpoints_of(args.etcd_servers)
    except ValueError as error:
        raise FlagError(f"--etcd-servers: {error}") from error
    tls = _client_tls(args) if any(endpoint.secure for endpoint in endpoints) else None
    prefix = "/" + args.etcd_prefix.strip("/")
    return EtcdStore(endpoints, prefix, tls, compaction=_compaction_seconds(args))


def _client_tls(args: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=args.etcd_cafile or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if args.etcd_certfile:
        context.load_cert_chain(args.etcd_certfile, args.etcd_keyfile)
    return context
