"""Lays what the parts of a cluster stand on: directories, certificates, network, the mirror of the configuration."""

from __future__ import annotations

import json
import os
import time

from twinstack.cluster import network, policy, removal
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.state import ClusterPaths
from twinstack.pki.files import write_secret

_RENEW_AFTER = 300 * 86400  # seconds; certificates are valid for a year


def directories(cluster: ClusterConfiguration, own: ClusterPaths) -> None:
    """Every directory of the cluster. Idempotent."""
    for directory in (own.root, own.run, own.logs, own.processes, own.database.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for index in cluster.node_indexes:
        own.node_root(index).mkdir(mode=0o700, parents=True, exist_ok=True)
        own.node_run(index).mkdir(mode=0o700, parents=True, exist_ok=True)
    own.owner.unlink(missing_ok=True)
    own.owner.symlink_to(own.root)


def mirror(cluster: ClusterConfiguration, own: ClusterPaths) -> None:
    """Write down what the cluster is."""
    write_secret(own.configuration, json.dumps(cluster.to_json(), indent=2).encode() + b"\n")


def foundations(cluster: ClusterConfiguration, own: ClusterPaths, *, changed: bool = False) -> None:
    """Certificates and network, side by side. Certificates are made when there are none, old ones, or a change."""
    from concurrent.futures import ThreadPoolExecutor

    policy.write(own)

    with ThreadPoolExecutor(1) as pool:
        network_made = pool.submit(network.ensure, cluster, own)
        if changed or _certificates_are_due(own):
            from twinstack.cluster import certificates

            certificates.issue(cluster, own)
        network_made.result()


def _certificates_are_due(own: ClusterPaths) -> bool:
    """The kubeconfig is the last file that is written with them."""
    try:
        return time.time() - own.kubeconfig.stat().st_mtime > _RENEW_AFTER
    except FileNotFoundError:
        return True


def stray_nodes(cluster: ClusterConfiguration, own: ClusterPaths) -> list[int]:
    """Nodes that left something here and are not in the configuration."""
    try:
        entries = os.listdir(own.node_root(1).parent)
    except FileNotFoundError:
        return []
    return sorted(int(entry) for entry in entries if entry.isdecimal() and int(entry) not in cluster.node_indexes)


def clear_node(own: ClusterPaths, index: int) -> None:
    """Remove what is left of a node whose parts have ended: processes, mounts, namespaces, files. Idempotent."""
    removal.sweep_node(own, index)
    (own.kubeconfigs / f"node-{index}.json").unlink(missing_ok=True)
    for suffix in ("crt", "key"):
        (own.pki / f"kubelet-{index}.{suffix}").unlink(missing_ok=True)
