"""Stop a local cluster and remove every trace of it: processes, namespaces, mounts, sockets and files."""

from __future__ import annotations

import argparse
import os
import time

from twinstack.cluster import removal, watcher
from twinstack.cluster.configuration import DEFAULT_NAME
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import ClusterPaths, clusters, locked, paths


def add_flags(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--name", default=DEFAULT_NAME, help="the cluster")
    chosen.add_argument("--all", action="store_true", help="every cluster of this user")


def run(args: argparse.Namespace) -> int:
    """0 when nothing is left, also when nothing was there."""
    if os.geteuid() != 0:
        raise ClusterError("removing a cluster needs root", "run the same command again with sudo")
    with locked():
        names = clusters() if args.all else [args.name]
        for name in names:
            started = time.monotonic()
            if remove(paths(name)):
                print(f"Cluster {name} is removed ({time.monotonic() - started:.1f} s).")
            else:
                print(f"There is no cluster {name}.")
        if not names:
            print("There is no cluster.")
    return 0


def remove(own: ClusterPaths) -> bool:
    """Stop and sweep one cluster; False when there was nothing of it."""
    there = own.root.exists() or own.run.exists() or bool(own.namespaces())
    try:
        owner = os.readlink(own.owner)
    except FileNotFoundError:
        owner = str(own.root)
    if owner != str(own.root) and os.path.exists(owner):
        raise ClusterError(
            f"the cluster {own.name} of this machine keeps its state in {owner}",
            f"remove it with TWINSTACK_HOME={os.path.dirname(owner)}",
        )
    if own.is_foreign:
        raise ClusterError(f"{own.root} is no cluster's, and is left alone", "remove it yourself if nobody needs it")
    watcher.stop(own)
    removal.sweep(own)
    return there
