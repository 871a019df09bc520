"""Run the controllers: workloads, EndpointSlices, node CIDRs, namespaces and garbage collection."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from twinstack.api.kinds import REPLICATION_CONTROLLERS
from twinstack.api.times import parse_duration
from twinstack.client import election
from twinstack.client.process import run_component
from twinstack.client.rest import Client
from twinstack.controllers import nodecidrs, rootca, serviceaccounts
from twinstack.controllers.clusterroleaggregation import ClusterRoleAggregationController
from twinstack.controllers.context import Context, Controller, run_all
from twinstack.controllers.cronjobs import CronJobController
from twinstack.controllers.csrapproving import CSRApprovingController
from twinstack.controllers.csrcleaner import CSRCleanerController
from twinstack.controllers.csrsigning import CSRSigningController
from twinstack.controllers.daemonsets import DaemonSetController
from twinstack.controllers.deployments import DeploymentController
from twinstack.controllers.disruption import Rates
from twinstack.controllers.disruptionbudgets import DisruptionController
from twinstack.controllers.endpointslicemirroring import EndpointSliceMirroringController
from twinstack.controllers.endpointslices import EndpointSliceController
from twinstack.controllers.garbage import GarbageCollector
from twinstack.controllers.jobs import JobController
from twinstack.controllers.jobttl import JobTTLController
from twinstack.controllers.legacyendpoints import EndpointsController
from twinstack.controllers.namespaces import NamespaceController
from twinstack.controllers.nodeipam import NodeIPAMController
from twinstack.controllers.nodelifecycle import NodeLifecycleController, Patience
from twinstack.controllers.nodettl import NodeTTLController
from twinstack.controllers.podgc import PodGarbageController
from twinstack.controllers.replicasets import ReplicaSetController
from twinstack.controllers.resourcequotas import RESYNC, ResourceQuotaController
from twinstack.controllers.selection import select
from twinstack.controllers.servicecidrs import ServiceCIDRController
from twinstack.controllers.statefulsets import StatefulSetController
from twinstack.controllers.tainteviction import TaintEvictionController
from twinstack.controllers.tokens import TokensController

NAME = "controllers"

log = logging.getLogger(__name__)

Factory = Callable[[Context, argparse.Namespace], Controller | None]


def _node_ipam(context: Context, args: argparse.Namespace) -> Controller | None:
    wished = bool(args.cluster_cidr) if args.allocate_node_cidrs is None else args.allocate_node_cidrs
    if not wished:
        return None
    clusters = nodecidrs.cluster_cidrs(args.cluster_cidr)
    masks = nodecidrs.node_masks(
        clusters, args.node_cidr_mask_size, args.node_cidr_mask_size_ipv4, args.node_cidr_mask_size_ipv6
    )
    reserved = nodecidrs.service_cidrs(args.service_cluster_ip_range)
    return NodeIPAMController(context, nodecidrs.NodeCIDRs(clusters, masks, reserved))


def _root_ca(context: Context, args: argparse.Namespace) -> Controller | None:
    if not args.root_ca_file:
        return None
    return rootca.controller(context, Path(args.root_ca_file).read_text("ascii"))


def _tokens(context: Context, args: argparse.Namespace) -> Controller | None:
    if not args.service_account_private_key_file:
        return None
    root_ca = Path(args.root_ca_file).read_text("ascii") if args.root_ca_file else ""
    return TokensController(context, Path(args.service_account_private_key_file), root_ca)


def _signing(context: Context, args: argparse.Namespace) -> Controller | None:
    certificate, key = args.cluster_signing_cert_file, args.cluster_signing_key_file
    if bool(certificate) != bool(key):
        raise ValueError("--cluster-signing-cert-file and --cluster-signing-key-file must be specified together")
    if not certificate:
        return None
    return CSRSigningController(context, Path(certificate), Path(key), args.cluster_signing_duration)


def _endpoint_slices(context: Context, args: argparse.Namespace) -> Controller | None:
    return EndpointSliceController(
        context, maximum=args.max_endpoints_per_slice, batch_period=args.endpointslice_updates_batch_period
    )


def _node_lifecycle(context: Context, args: argparse.Namespace) -> Controller | None:
    patience = Patience(
        grace=args.node_monitor_grace_period,
        startup=args.node_startup_grace_period,
        period=args.node_monitor_period,
    )
    rates = Rates(
        normal=args.node_eviction_rate,
        reduced=args.secondary_node_eviction_rate,
        large=args.large_cluster_size_threshold,
        threshold=args.unhealthy_zone_threshold,
    )
    return NodeLifecycleController(context, patience=patience, rates=rates)


CONTROLLERS: dict[str, Factory] = {
    "endpoints-controller": lambda context, args: EndpointsController(
        context, batch_period=args.endpoint_updates_batch_period
    ),
    "endpointslice-controller": _endpoint_slices,
    "endpointslice-mirroring-controller": lambda context, args: EndpointSliceMirroringController(
        context,
        per_subset=args.mirroring_max_endpoints_per_subset,
        batch_period=args.mirroring_endpointslice_updates_batch_period,
    ),
    "service-cidr-controller": lambda context, args: ServiceCIDRController(context),
    "node-ipam-controller": _node_ipam,
    "deployment-controller": lambda context, args: DeploymentController(context),
    "daemonset-controller": lambda context, args: DaemonSetController(context),
    "replicaset-controller": lambda context, args: ReplicaSetController(context),
    "replicationcontroller-controller": lambda context, args: ReplicaSetController(
        context, REPLICATION_CONTROLLERS, "replication-controller"
    ),
    "statefulset-controller": lambda context, args: StatefulSetController(context),
    "job-controller": lambda context, args: JobController(context),
    "cronjob-controller": lambda context, args: CronJobController(context),
    "ttl-after-finished-controller": lambda context, args: JobTTLController(context),
    "resourcequota-controller": lambda context, args: ResourceQuotaController(
        context, resync=args.resource_quota_sync_period
    ),
    "disruption-controller": lambda context, args: DisruptionController(context),
    "namespace-controller": lambda context, args: NamespaceController(context),
    "serviceaccount-controller": lambda context, args: serviceaccounts.controller(context),
    "root-ca-certificate-publisher-controller": _root_ca,
    "serviceaccount-token-controller": _tokens,
    "certificatesigningrequest-signing-controller": _signing,
    "certificatesigningrequest-approving-controller": lambda context, args: CSRApprovingController(context),
    "certificatesigningrequest-cleaner-controller": lambda context, args: CSRCleanerController(context),
    "node-lifecycle-controller": _node_lifecycle,
    "taint-eviction-controller": lambda context, args: TaintEvictionController(context),
    "garbage-collector-controller": lambda context, args: GarbageCollector(context),
    "pod-garbage-collector-controller": lambda context, args: PodGarbageController(
        context, threshold=args.terminated_pod_gc_threshold
    ),
    "clusterrole-aggregation-controller": lambda context, args: ClusterRoleAggregationController(context),
    "ttl-controller": lambda context, args: NodeTTLController(context),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    flag = parser.add_argument
    flag("--kubeconfig", required=True, metavar="FILE", help="how to reach the API server")
    flag(
        "--controllers",
        default="*",
        metavar="LIST",
        help=f"'*' enables all, 'name' one, '-name' disables one. Known: {', '.join(CONTROLLERS)}",
    )
    flag(
        "--allocate-node-cidrs",
        type=_boolean,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="give nodes pod CIDRs; when left out: if --cluster-cidr is given",
    )
    flag("--cluster-cidr", default="", metavar="A[,B]", help="pod ranges that node CIDRs are cut from, primary first")
    flag("--node-cidr-mask-size", type=int, metavar="BITS", help="length of a node's block, single-stack only")
    flag("--node-cidr-mask-size-ipv4", type=int, metavar="BITS", help="length of a node's IPv4 block (24)")
    flag("--node-cidr-mask-size-ipv6", type=int, metavar="BITS", help="length of a node's IPv6 block (64)")
    flag("--service-cluster-ip-range", default="", metavar="A[,B]", help="Service ranges, kept out of node CIDRs")
    flag("--root-ca-file", default="", metavar="FILE", help="certificate published as kube-root-ca.crt")
    flag("--service-account-private-key-file", default="", metavar="FILE", help="signs the tokens in Secrets")
    flag("--cluster-signing-cert-file", default="", metavar="FILE", help="authority that signs certificate requests")
    flag("--cluster-signing-key-file", default="", metavar="FILE", help="its key")
    flag("--cluster-signing-duration", type=_seconds, default=8760 * 3600.0, metavar="DURATION")
    flag("--max-endpoints-per-slice", type=int, default=100, metavar="N")
    flag("--endpointslice-updates-batch-period", type=_seconds, default=0.0, metavar="DURATION")
    flag("--endpoint-updates-batch-period", type=_seconds, default=0.0, metavar="DURATION")
    flag("--mirroring-max-endpoints-per-subset", type=int, default=1000, metavar="N")
    flag("--mirroring-endpointslice-updates-batch-period", type=_seconds, default=0.0, metavar="DURATION")
    flag("--terminated-pod-gc-threshold", type=int, default=12500, metavar="N", help="finished pods that stay; 0: all")
    flag("--resource-quota-sync-period", type=_seconds, default=RESYNC, metavar="DURATION")
    flag("--node-monitor-grace-period", type=_seconds, default=50.0, metavar="DURATION")
    flag("--node-startup-grace-period", type=_seconds, default=60.0, metavar="DURATION")
    flag("--node-monitor-period", type=_seconds, default=5.0, metavar="DURATION")
    flag("--node-eviction-rate", type=float, default=0.1, metavar="PER_SECOND", help="nodes whose pods leave, a zone")
    flag("--secondary-node-eviction-rate", type=float, default=0.01, metavar="PER_SECOND", help="in a troubled zone")
    flag("--large-cluster-size-threshold", type=int, default=50, metavar="NODES")
    flag("--unhealthy-zone-threshold", type=float, default=0.55, metavar="SHARE")
    election.add_flags(parser, "kube-controller-manager")


def run(args: argparse.Namespace) -> int:
    return run_component(NAME, args.kubeconfig, lambda client: _run(client, args))


async def _run(client: Client, args: argparse.Namespace) -> None:
    """Raises ValueError for flags that contradict each other, or do not fit the nodes that are there."""
    wanted = election.terms(args)
    context = Context(client)
    names = select(args.controllers, list(CONTROLLERS))
    made = {name: CONTROLLERS[name](context, args) for name in names}
    controllers = [controller for controller in made.values() if controller is not None]

    async def work() -> None:
        log.info("running %s", ", ".join(name for name, controller in made.items() if controller is not None))
        await run_all(controllers, context)

    await election.led(client, wanted, "kube-controller-manager", work)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
