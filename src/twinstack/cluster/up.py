"""Start a local cluster: API server, controllers, scheduler, and nodes that are network namespaces.

Run again it completes what is missing, and changes what other flags ask for as far as a running cluster can be
changed. The families of the CIDR blocks decide what the cluster speaks, and the first one is primary; without
blocks, --ip-family does.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from twinstack.cluster import changes, laying, ports, preconditions, removal, watcher
from twinstack.cluster import configuration as configurations
from twinstack.cluster.configuration import ClusterConfiguration
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.preconditions import ELSEWHERE
from twinstack.cluster.state import ClusterPaths, api_ports, locked, name_flag, paths
from twinstack.cluster.wishes import Wishes, amend, configure

_PATIENCE = 60.0  # seconds for a change that was asked for with --wait 0s


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help=f"the cluster ({configurations.DEFAULT_NAME})")
    parser.add_argument("--config", metavar="FILE", help="networking and nodes as kind's cluster files have them")
    parser.add_argument("--nodes", type=int, metavar="N", help="how many nodes (2)")
    parser.add_argument("--ip-family", choices=list(configurations.FAMILIES), help="dual (the default) or one family")
    parser.add_argument("--service-cidr", metavar="A[,B]", help="addresses of Services, one block a family")
    parser.add_argument("--pod-cidr", metavar="A[,B]", help="addresses of pods, one block a family")
    parser.add_argument("--api-port", type=int, metavar="P", help="port of the API server on 127.0.0.1 (6443 if free)")
    parser.add_argument(
        "--egress", action=argparse.BooleanOptionalAction, default=None, help="let pods reach what this machine reaches"
    )
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
    preconditions.check_privileges()
    preconditions.check_programs()
    progress = Progress(started)
    wishes = read_wishes(args, progress)
    with preconditions.explained():
        own, cluster, wanted = prepare(wishes, progress)
        if args.wait > 0 or wanted != cluster:
            from twinstack.cluster import readiness

            patience = args.wait or _PATIENCE
            advice = readiness.change(cluster, wanted, own, patience, progress) if wanted != cluster else ""
            readiness.wait(wanted, own, patience, progress)
            print(f"Ready in {time.monotonic() - started:.1f} s.")
            if advice:
                print(f"{advice}.")
            if wanted.egress:
                print(_way_out(wanted))
    print(_how_to_use(wanted, own))
    return 0


def _way_out(cluster: ClusterConfiguration) -> str:
    from twinstack.cluster import egress

    ways = egress.families()
    found = [family for family in cluster.pod_families if family in ways]
    lacking = [family for family in cluster.pod_families if family not in ways]
    text = f"Pods reach the outside in {configurations.names(found)}" if found else "Pods do not reach the outside"
    return f"{text}; this machine has no way there in {configurations.names(lacking)}." if lacking else f"{text}."


def read_wishes(args: argparse.Namespace, progress: Progress) -> Wishes:
    """What the file says, and what the flags say in its place."""
    wishes = Wishes()
    if args.config:
        from twinstack.cluster import kindconfig

        wishes, remarks = kindconfig.load(args.config)
        for remark in remarks:
            progress.title(f"{args.config}: {remark}")
    flags = {
        "name": args.name,
        "nodes": args.nodes,
        "ip_family": args.ip_family,
        "service_cidr": args.service_cidr,
        "pod_cidr": args.pod_cidr,
        "api_port": args.api_port,
        "egress": args.egress,
    }
    given = {field: value for field, value in flags.items() if value is not None}
    if given.keys() - {"name"}:
        wishes = wishes._replace(terms=configurations.FLAGS)
    return wishes._replace(**given)


class Progress:
    """Tells each step once it is done, with the seconds since the beginning."""

    def __init__(self, started: float) -> None:
        self._started = started

    def title(self, text: str) -> None:
        print(text, flush=True)

    def done(self, step: str) -> None:
        print(f"  {time.monotonic() - self._started:5.2f} s  {step}", flush=True)


def prepare(wishes: Wishes, progress: Progress) -> tuple[ClusterPaths, ClusterConfiguration, ClusterConfiguration]:
    """Make files, network and certificates, and a supervisor that starts the parts; returns while they start.

    Returns the cluster as it runs, and as it is wanted.
    """
    own = paths(wishes.name)
    with locked():
        preconditions.check_space(own.root.parent)
        cluster = own.load()
        is_new = cluster is None
        if cluster is None:
            _check_unused(own)
            configure(wishes, configurations.DEFAULT_API_PORT)  # refused before a port is looked for
            cluster = wanted = configure(wishes, ports.choose(wishes.api_port, api_ports()))
        else:
            wanted = _amended(wishes, cluster)
        if wanted.egress:
            from twinstack.cluster import egress

            egress.find()
        running = watcher.parts_running(own) is not None
        word = "is running" if running else "starting"
        differences = "".join(f"; {text}" for text in changes.differences(cluster, wanted))
        nodes = f"{cluster.nodes} node{'s' * (cluster.nodes > 1)}"
        progress.title(f"Cluster {cluster.name}: {cluster.description}, {nodes}; {word}{differences}")
        if not running:
            try:
                _build(cluster, own, progress)
            except BaseException:
                if is_new:
                    watcher.stop(own)
                    removal.sweep(own)
                raise
    return own, cluster, wanted


def _amended(wishes: Wishes, existing: ClusterConfiguration) -> ClusterConfiguration:
    wanted = amend(wishes, existing)
    refused = changes.refusals(existing, wanted)
    if refused:
        raise ClusterError(
            f"the cluster {existing.name} exists ({existing.description}) and cannot become one with "
            f"{', '.join(refused)}",
            f"remove it first with `twinstack down{name_flag(existing.name)}`, or give another --name",
        )
    return wanted


def _check_unused(own: ClusterPaths) -> None:
    """Names of namespaces are the machine's: another state directory may have a cluster of this name."""
    try:
        owner = os.readlink(own.owner)
    except FileNotFoundError:
        owner = ""
    if owner and owner != str(own.root) and os.path.exists(owner):
        raise ClusterError(
            f"a cluster {own.name} with its state in {owner} exists on this machine",
            f"give another --name, or use that one with TWINSTACK_HOME={os.path.dirname(owner)}",
        )
    if own.is_foreign:
        raise ClusterError(
            f"{own.root} is there and no cluster's", f"move it away, give another --name, or {ELSEWHERE}"
        )
    left = own.namespaces()
    if left:
        raise ClusterError(
            f"network namespaces of the name {own.name} exist ({left[0].name} …)",
            f"`twinstack down{name_flag(own.name)}` removes them, or give another --name",
        )


def _build(cluster: ClusterConfiguration, own: ClusterPaths, progress: Progress) -> None:
    """The foundations and the start of the supervisor's interpreter take their time side by side."""
    laying.directories(cluster, own)
    laying.mirror(cluster, own)
    go = watcher.start(own)
    try:
        laying.foundations(cluster, own)
        os.write(go, watcher.GO)
    finally:
        os.close(go)
    progress.done("network and certificates")


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
