"""The service proxy of a node: Services answer on it, over both families, by nf_tables.

It works with Twinstack's API server and with any other Kubernetes API server, in kube-proxy's place.
"""

from __future__ import annotations

import argparse
import gc
import logging

from twinstack.client import kubeconfig
from twinstack.ip import IPFamily
from twinstack.linux.nftables import NftablesError, Owned
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.flags import add_flags, read_flags
from twinstack.proxy.process import layout_of, serve
from twinstack.proxy.writer import remove_tables

__all__ = ["add_flags", "run"]

# What is read at the start lives long and forms no cycles: with the usual thresholds a third of the start is spent on
# looking for some. Once it has settled the usual ones are in force again.
GARBAGE_THRESHOLDS = (1_000_000, 10, 10)

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    try:
        configuration = read_flags(args)
    except ValueError as error:
        log.error("%s", error)
        return 2
    if args.cleanup:
        return clean_up(configuration)
    try:
        access = kubeconfig.load(configuration.kubeconfig) if configuration.kubeconfig else kubeconfig.in_cluster()
    except kubeconfig.KubeconfigError as error:
        log.error("%s", error)
        return 1
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    import uvloop

    if args.dry_run:
        from twinstack.proxy.dry_run import show

        return uvloop.run(show(access, configuration, args.output))
    return uvloop.run(serve(access, configuration))


def clean_up(configuration: Configuration) -> int:
    """Remove the tables; Services then no longer answer on this node."""
    try:
        removed = remove_tables([layout_of(family, configuration) for family in IPFamily])
    except Owned:
        log.error("a proxy runs here and owns the tables: stop it first")
        return 1
    except (NftablesError, OSError) as error:
        log.error("tables not removed: %s", error)
        return 1
    log.info("removed: %s", ", ".join(removed) or "nothing was there")
    return 0
