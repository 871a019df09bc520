"""Start a local cluster: API server, controllers, scheduler, and nodes that are network namespaces.

Run again it completes what is missing and changes nothing else. The families of the CIDR blocks decide what
the cluster speaks, and the first one is primary; without blocks, --ip-family does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from twinstack.cluster import configuration as configurations
from twinstack.cluster import network, ports, removal, watcher
from twinstack.cluster.configuration import ClusterConfiguration, Wishes
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import ClusterPaths, clusters, locked, name_flag, paths
from twinstack.pki.files import write_secret

_RENEW_AFTER = 300 * 86400  # seconds; certificates are valid for a year


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=configurations.DEFAULT_NAME, help="the cluster")
    parser.add_argument("--nodes", type=int, metavar="N", help="how many nodes (2)")
    parser.add_argument("--ip-family", choices=list(configurations.FAMILIES), help="dual (the default) or one family")
    parser.add_argument("--service-cidr", metavar="A[,B]", help="addresses of Services, one block a family")
    parser.add_argument("--pod-cidr", metavar="A[,B]", help="addresses of pods, one block a family")
    parser.add_argument("--api-port", type=int, metavar="P", help="port of the API server on 127.0.0.1 (6443 if free)")
    parser.add_argument("--wait", type=duration, default="60s", metavar="TIME", help="how long to wait; 0s: not at all")


def duration(text: str) -> float:
    """Seconds in `60s`, `500ms`, `2m`, or a plain number."""
    for suffix, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)):
        number = text.removesuffix(suffix)
        if text.endswith(suffix) and number.replace(".", "", 1).isdecimal():
            return float(number) * factor
    raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 60s")


def run(args: argparse.Namespace) -> int:
    """0 once every node is ready."""
    started = time.monotonic()
    if os.geteuid() != 0:
        raise ClusterError(
            "a cluster is made of network namespaces, which need root", "run the same command again with sudo"
        )
    wishes = Wishes(args.name, args.nodes, args.ip_family, args.service_cidr, args.pod_cidr, args.api_port)
    progress = Progress(started)
    own, cluster = prepare(wishes, progress)
    if args.wait > 0:
        from twinstack.cluster import readiness

        readiness.wait(cluster, own, args.wait, progress)
        print(f"Ready in {time.monotonic() - started:.1f} s.")
    print(_how_to_use(cluster, own))
    return 0


class Progress:
    """Tells each step once it is done, with the seconds since the beginning."""

    def __init__(self, started: float) -> None:
        self._started = started

    def title(self, text: str) -> None:
        print(text, flush=True)

    def done(self, step: str) -> None:
        print(f"  {time.monotonic() - self._started:5.2f} s  {step}", flush=True)


def prepare(wishes: Wishes, progress: Progress) -> tuple[ClusterPaths, ClusterConfiguration]:
    """Make files, network and certificates, and a supervisor that starts the parts; returns while they start."""
    configurations.check_name(wishes.name)
    own = paths(wishes.name)
    with locked():
        cluster = own.load()
        is_new = cluster is None
        if cluster is None:
            taken = {other.api_port for name in clusters() if (other := paths(name).load()) is not None}
            _check_owner(own)
            cluster = configurations.configure(wishes, ports.choose(wishes.api_port, taken))
        else:
            _check_same(wishes, cluster)
        running = watcher.parts_running(own) is not None
        word = "is running" if running else "starting"
        nodes = f"{cluster.nodes} node{'s' * (cluster.nodes > 1)}"
        progress.title(f"Cluster {cluster.name}: {cluster.description}, {nodes}; {word}")
        if not running:
            try:
                _build(cluster, own, progress)
            except BaseException:
                if is_new:
                    removal.sweep(own)
                raise
    return own, cluster


def _check_same(wishes: Wishes, existing: ClusterConfiguration) -> None:
    found = configurations.differences(wishes, existing)
    if found:
        raise ClusterError(
            f"the cluster {existing.name} exists and is not what {', '.join(found)} asks for",
            f"remove it first with `twinstack down{name_flag(existing.name)}`, or give another --name",
        )


def _check_owner(own: ClusterPaths) -> None:
    """Names of namespaces are the machine's: another state directory may have a cluster of this name."""
    try:
        owner = os.readlink(own.owner)
    except FileNotFoundError:
        return
    if owner != str(own.root) and os.path.exists(owner):
        raise ClusterError(
            f"a cluster {own.name} with its state in {owner} exists on this machine",
            f"give another --name, or use that one with TWINSTACK_HOME={os.path.dirname(owner)}",
        )


def _build(cluster: ClusterConfiguration, own: ClusterPaths, progress: Progress) -> None:
    """The network, the certificates and the start of the supervisor's interpreter take their time side by side."""
    from concurrent.futures import ThreadPoolExecutor

    _lay_files(cluster, own)
    go = watcher.start(own)
    try:
        with ThreadPoolExecutor(1) as pool:
            network_made = pool.submit(network.ensure, cluster, own)
            if _certificates_are_due(own):
                from twinstack.cluster import certificates

                certificates.issue(cluster, own)
            network_made.result()
        os.write(go, watcher.GO)
    finally:
        os.close(go)
    progress.done("network and certificates")


def _lay_files(cluster: ClusterConfiguration, own: ClusterPaths) -> None:
    for directory in (own.root, own.run, own.logs, own.processes, own.database.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for index in range(1, cluster.nodes + 1):
        own.node_root(index).mkdir(mode=0o700, parents=True, exist_ok=True)
        own.node_run(index).mkdir(mode=0o700, parents=True, exist_ok=True)
    own.owner.unlink(missing_ok=True)
    own.owner.symlink_to(own.root)
    write_secret(own.configuration, json.dumps(cluster.to_json(), indent=2).encode() + b"\n")


def _certificates_are_due(own: ClusterPaths) -> bool:
    """The kubeconfig is the last file that is written with them."""
    try:
        return time.time() - own.kubeconfig.stat().st_mtime > _RENEW_AFTER
    except FileNotFoundError:
        return True


def _how_to_use(cluster: ClusterConfiguration, own: ClusterPaths) -> str:
    flag = name_flag(cluster.name)
    program = sys.argv[0]
    beside = os.path.join(os.path.dirname(program), "kubectl")
    kubectl = beside if os.path.exists(beside) else "kubectl"
    lines = [
        "",
        f"  export KUBECONFIG={own.kubeconfig}",
        f"  {kubectl} get nodes -o wide",
        f"  {kubectl} apply -f examples/dual-stack.yaml",
        "",
        f"  {program} status{flag}        # the health of every part",
        f"  {program} node-exec{flag} {cluster.node_name(1)} -- ip addr        # a command on a node",
        f"  {program} down{flag}        # remove all of it",
    ]
    return "\n".join(lines)
