"""The service proxy of a node: Services answer on it, over both families, by nf_tables.

It works with Twinstack's API server and with any other Kubernetes API server, in kube-proxy's place.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from pathlib import Path

import msgspec

from twinstack.client import kubeconfig
from twinstack.ip import IPFamily
from twinstack.linux.nftables import NftablesError, Owned
from twinstack.proxy import kernel_settings
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
    if args.write_config_to:
        return write_configuration(configuration, Path(args.write_config_to))
    if args.cleanup:
        return clean_up(configuration)
    if args.init_only:
        return 0 if prepare(configuration) else 1
    if args.dry_run and (args.filename or _manifests_are_piped(configuration)):
        from twinstack.proxy.dry_run import show_manifests

        return show_manifests(args.filename or "-", configuration, args.output)
    try:
        access = _access(configuration)
    except kubeconfig.KubeconfigError as error:
        log.error("%s", error)
        return 1
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    import uvloop

    if args.dry_run:
        from twinstack.proxy.dry_run import show

        return uvloop.run(show(access, configuration, args.output))
    if not prepare(configuration):
        return 1
    return uvloop.run(serve(access, configuration))


def write_configuration(configuration: Configuration, path: Path) -> int:
    import yaml

    from twinstack.proxy.shown_configuration import as_file

    try:
        path.write_text(yaml.dump(as_file(configuration)))
    except OSError as error:
        log.error("--write-config-to: %s", error)
        return 1
    log.info("wrote %s", path)
    return 0


def _access(configuration: Configuration) -> kubeconfig.ClusterAccess:
    """As a kubeconfig has it, or the service account of the Pod we are in; --master only says where."""
    if configuration.kubeconfig:
        access = kubeconfig.load(configuration.kubeconfig)
    elif configuration.master and not _in_pod():
        access = kubeconfig.ClusterAccess(server=configuration.master)
    else:
        access = kubeconfig.in_cluster()
        if not configuration.master and _asks_its_own_service():
            log.warning(
                "the API server is asked at %s, which is its Service and answers only where a proxy has run: give "
                "its own address, by --master or by KUBERNETES_SERVICE_HOST and _PORT in the container's env",
                access.server,
            )
    return msgspec.structs.replace(access, server=configuration.master.rstrip("/") or access.server)


def _manifests_are_piped(configuration: Configuration) -> bool:
    """Nothing says which cluster to ask, and something is there to be read."""
    return not (configuration.kubeconfig or configuration.master or _in_pod()) and not sys.stdin.isatty()


def _asks_its_own_service() -> bool:
    """Whether the Pod's variables are as the kubelet set them: it repeats the Service's address in the other one."""
    environment = os.environ
    return environment.get("KUBERNETES_SERVICE_HOST", "") == environment.get("KUBERNETES_PORT_443_TCP_ADDR", "-")


def _in_pod() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def prepare(configuration: Configuration) -> bool:
    """Set what the flags ask of the kernel; False when it does not let us."""
    try:
        kernel_settings.apply(configuration.conntrack)
    except OSError as error:
        log.error("conntrack settings: %s; leave the --conntrack flag out, or set it on the machine", error)
        return False
    try:
        if configuration.oom_score_adj is not None:
            Path("/proc/self/oom_score_adj").write_text(str(configuration.oom_score_adj))
    except OSError as error:
        log.error("--oom-score-adj: %s", error)
        return False
    return True


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
