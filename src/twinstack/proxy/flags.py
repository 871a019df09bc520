"""The proxy's flags, under kube-proxy's names, and its configuration file in kube-proxy's form."""

from __future__ import annotations

import argparse
import logging
import socket
from pathlib import Path
from typing import Any

from twinstack.api.times import parse_duration
from twinstack.ip import CIDR
from twinstack.proxy.configuration import Configuration, LocalMode
from twinstack.proxy.kernel_settings import ConntrackSettings
from twinstack.proxy.layout import PodInterface

MODE = "nftables"
_TIMEOUTS = {
    "tcp-timeout-established": "idle TCP connections are remembered",
    "tcp-timeout-close-wait": "half-closed TCP connections are remembered",
    "udp-timeout": "UDP flows are remembered that nobody has answered",
    "udp-timeout-stream": "UDP flows are remembered that go both ways",
}
_LONGEST_INTERFACE = 16  # bytes, with the zero at the end
SHORTEST_INTERVAL = 0.02  # seconds between syncs: what arrives within is written together

# Field of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) → flag.
_FIELDS = {
    "clientConnection.kubeconfig": "kubeconfig",
    "hostnameOverride": "hostname_override",
    "mode": "proxy_mode",
    "clusterCIDR": "cluster_cidr",
    "detectLocalMode": "detect_local_mode",
    "detectLocal.bridgeInterface": "pod_bridge_interface",
    "detectLocal.interfaceNamePrefix": "pod_interface_name_prefix",
    "nodePortAddresses": "nodeport_addresses",
    "nftables.masqueradeAll": "masquerade_all",
    "nftables.masqueradeBit": "masquerade_bit",
    "nftables.syncPeriod": "iptables_sync_period",
    "nftables.minSyncPeriod": "iptables_min_sync_period",
    "healthzBindAddress": "healthz_bind_address",
    "metricsBindAddress": "metrics_bind_address",
    "conntrack.maxPerCore": "conntrack_max_per_core",
    "conntrack.min": "conntrack_min",
    "conntrack.tcpEstablishedTimeout": "conntrack_tcp_timeout_established",
    "conntrack.tcpCloseWaitTimeout": "conntrack_tcp_timeout_close_wait",
    "conntrack.tcpBeLiberal": "conntrack_tcp_be_liberal",
    "conntrack.udpTimeout": "conntrack_udp_timeout",
    "conntrack.udpStreamTimeout": "conntrack_udp_timeout_stream",
}

log = logging.getLogger(__name__)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_node_flags(parser)
    add = parser.add_argument
    add("--proxy-mode", metavar=MODE, help="the only one")
    add("--iptables-sync-period", metavar="TIME", help="health: a change may wait twice as long")
    add("--iptables-min-sync-period", metavar="TIME", help="least time between two syncs")
    add("--healthz-bind-address", metavar="IP:PORT", help="/healthz, /livez; empty for none")
    add("--metrics-bind-address", metavar="IP:PORT", help="/metrics; empty for none")
    add("--conntrack-max-per-core", type=int, metavar="N", help="tracked flows a core; 0 changes nothing")
    add("--conntrack-min", type=int, metavar="N", help="tracked flows at least, with --conntrack-max-per-core")
    for name, what in _TIMEOUTS.items():
        add(f"--conntrack-{name}", metavar="TIME", help=f"how long {what}; 0s changes nothing")
    add("--conntrack-tcp-be-liberal", action="store_true", help="take packets outside the TCP window for valid")
    add("--dry-run", action="store_true", help="show what would be programmed, and end")
    add("-o", "--output", choices=["text", "json"], default="text", help="form of --dry-run")
    add("--cleanup", action="store_true", help="remove the proxy's tables, and end")


def add_node_flags(parser: argparse.ArgumentParser) -> None:
    """Those that decide what is right for a node, and not how the process runs."""
    add = parser.add_argument
    add("--config", default="", metavar="FILE", help="KubeProxyConfiguration; what it says wins over flags")
    add("--kubeconfig", default="", metavar="FILE", help="how to reach the API server; in a pod its service account")
    add("--hostname-override", default="", metavar="NAME", help="name of this Node; else the host's")
    add("--cluster-cidr", default="", metavar="A[,B]", help="pod range of the cluster, one a family")
    add(
        "--detect-local-mode",
        default="",
        metavar="|".join(mode.value for mode in LocalMode),
        help="what tells pods from other sources, which are masqueraded; ClusterCIDR if --cluster-cidr is given, "
        "else NodeCIDR",
    )
    add(
        "--nodeport-addresses",
        default="primary",
        metavar="primary|A,B…",
        help="where NodePorts answer: the Node's own addresses, or its interfaces' in these blocks",
    )
    add("--pod-bridge-interface", default="", metavar="NAME", help="what pods are behind, in mode BridgeInterface")
    add("--pod-interface-name-prefix", default="", metavar="TEXT", help="their interfaces, in InterfaceNamePrefix")
    add("--masquerade-all", action="store_true", help="masquerade all traffic to ClusterIPs")
    parser.set_defaults(
        masquerade_bit=14,
        proxy_mode=MODE,
        iptables_sync_period="30s",
        iptables_min_sync_period="20ms",
        healthz_bind_address="0.0.0.0:10256",
        metrics_bind_address="127.0.0.1:10249",
        conntrack_max_per_core=0,
        conntrack_min=0,
        conntrack_tcp_be_liberal=False,
        **{f"conntrack_{name.replace('-', '_')}": "0s" for name in _TIMEOUTS},
    )


def read_flags(args: argparse.Namespace) -> Configuration:
    """Raises ValueError with a sentence for people."""
    if args.config:
        for flag, value in read_file(Path(args.config)).items():
            setattr(args, flag, value)
    if args.proxy_mode not in ("", MODE):
        raise ValueError(f"--proxy-mode {args.proxy_mode}: only {MODE} is there")
    cluster = tuple(CIDR.parse(part.strip()) for part in args.cluster_cidr.split(",") if part.strip())
    default_mode = LocalMode.CLUSTER_CIDR if cluster else LocalMode.NODE_CIDR
    blocks = None
    if args.nodeport_addresses not in ("", "primary"):
        blocks = tuple(CIDR.parse(part.strip()) for part in args.nodeport_addresses.split(","))
    if not 0 <= args.masquerade_bit <= 31:
        raise ValueError(f"masqueradeBit {args.masquerade_bit}: a mark has bits 0 to 31")
    mode = _local_mode(args.detect_local_mode) if args.detect_local_mode else default_mode
    return Configuration(
        node_name=(args.hostname_override or socket.gethostname()).strip().lower(),
        kubeconfig=args.kubeconfig,
        local_mode=mode,
        pod_interface=_pod_interface(mode, args),
        cluster_cidrs=cluster,
        node_port_blocks=blocks,
        masquerade_all=args.masquerade_all,
        mark_bit=args.masquerade_bit,
        sync_period=parse_duration(args.iptables_sync_period) or 30.0,
        min_sync_period=max(parse_duration(args.iptables_min_sync_period), SHORTEST_INTERVAL),
        healthz=args.healthz_bind_address,
        metrics=args.metrics_bind_address,
        conntrack=ConntrackSettings(
            max_per_core=args.conntrack_max_per_core,
            min=args.conntrack_min,
            tcp_be_liberal=args.conntrack_tcp_be_liberal,
            tcp_timeout_established=parse_duration(args.conntrack_tcp_timeout_established),
            tcp_timeout_close_wait=parse_duration(args.conntrack_tcp_timeout_close_wait),
            udp_timeout=parse_duration(args.conntrack_udp_timeout),
            udp_timeout_stream=parse_duration(args.conntrack_udp_timeout_stream),
        ),
    )


def _pod_interface(mode: LocalMode, args: argparse.Namespace) -> PodInterface | None:
    for wanted, flag, is_prefix in (
        (LocalMode.BRIDGE_INTERFACE, "pod_bridge_interface", False),
        (LocalMode.INTERFACE_PREFIX, "pod_interface_name_prefix", True),
    ):
        if mode is wanted:
            name = getattr(args, flag)
            if not 0 < len(name.encode()) < _LONGEST_INTERFACE:
                shown = flag.replace("_", "-")
                raise ValueError(f"--detect-local-mode {mode.value} needs --{shown} with the name of an interface")
            return PodInterface(name, is_prefix)
    return None


def _local_mode(text: str) -> LocalMode:
    try:
        return LocalMode(text)
    except ValueError:
        known = ", ".join(mode.value for mode in LocalMode)
        raise ValueError(f"--detect-local-mode {text}: known here are {known}") from None


def read_file(path: Path) -> dict[str, Any]:
    """The flags that a KubeProxyConfiguration sets; empty fields set nothing. Raises ValueError."""
    import yaml

    try:
        document = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != "KubeProxyConfiguration":
        raise ValueError(f"{path} holds no KubeProxyConfiguration")
    found: dict[str, Any] = {}
    for field, value in _leaves(document):
        if field in ("kind", "apiVersion") or value in (None, "", 0, False, [], "0s"):
            continue
        flag = _FIELDS.get(field)
        if flag is None:
            log.warning("%s: not acted on: %s", path, field)
            continue
        found[flag] = ",".join(value) if isinstance(value, list) else value
    return found


def _leaves(document: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            leaves += _leaves(value, f"{prefix}{name}.")
        else:
            leaves.append((prefix + name, value))
    return leaves
