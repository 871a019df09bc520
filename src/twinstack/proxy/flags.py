"""The proxy's flags, under kube-proxy's names."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

from twinstack import __version__
from twinstack.api.times import parse_duration
from twinstack.dataplane.model import Target
from twinstack.ip import CIDR, Address, IPFamily
from twinstack.proxy.configuration import Configuration, LocalMode
from twinstack.proxy.configuration_file import read_file
from twinstack.proxy.kernel_settings import ConntrackSettings
from twinstack.proxy.layout import PodInterface
from twinstack.proxy.needless_flags import add_needless_flags, read_needless_flags
from twinstack.proxy.web import parse_endpoint

MODE = "nftables"
_TIMEOUTS = {
    "tcp-timeout-established": "idle TCP connections are remembered",
    "tcp-timeout-close-wait": "half-closed TCP connections are remembered",
    "udp-timeout": "UDP flows are remembered that nobody has answered",
    "udp-timeout-stream": "UDP flows are remembered that go both ways",
}
HEALTHZ_PORT, METRICS_PORT = 10256, 10249
HEALTHZ = {IPFamily.IPV4: f"0.0.0.0:{HEALTHZ_PORT}", IPFamily.IPV6: f"[::]:{HEALTHZ_PORT}"}
METRICS = {IPFamily.IPV4: f"127.0.0.1:{METRICS_PORT}", IPFamily.IPV6: f"[::1]:{METRICS_PORT}"}
_LONGEST_INTERFACE = 16  # bytes, with the zero at the end
SHORTEST_INTERVAL = 0.02  # seconds between syncs: what arrives within is written together


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_node_flags(parser)
    add = parser.add_argument
    add("--proxy-mode", metavar=MODE, help="the only one")
    add("--iptables-sync-period", metavar="TIME", help="health: a change may wait twice as long")
    add("--iptables-min-sync-period", metavar="TIME", help="least time between two syncs")
    add("--bind-address", metavar="IP", help="an IPv6 one makes the next two listen on IPv6; nothing else is bound")
    add("--healthz-bind-address", metavar="IP:PORT", help="/healthz, /livez; empty for none (0.0.0.0:10256)")
    add("--metrics-bind-address", metavar="IP:PORT", help="/metrics; empty for none (127.0.0.1:10249)")
    _add_switch(parser, "bind-address-hard-fail", "end when one of them cannot be had")
    add("--oom-score-adj", type=int, metavar="N", help="-1000 to 1000: how late the kernel ends this process")
    add("--conntrack-max-per-core", type=int, metavar="N", help="tracked flows a core; 0 changes nothing")
    add("--conntrack-min", type=int, metavar="N", help="tracked flows at least, with --conntrack-max-per-core")
    for name, what in _TIMEOUTS.items():
        add(f"--conntrack-{name}", metavar="TIME", help=f"how long {what}; 0s changes nothing")
    _add_switch(parser, "conntrack-tcp-be-liberal", "take packets outside the TCP window for valid")
    add("--write-config-to", default="", metavar="FILE", help="write the configuration as a file for --config, and end")
    _add_switch(parser, "init-only", "set what --conntrack-… asks for, and end")
    add("--dry-run", action="store_true", help="show what would be programmed, and end")
    add("-f", "--filename", default="", metavar="FILE", help="--dry-run: manifests in place of a cluster; - for input")
    add("-o", "--output", choices=["text", "json"], default="text", help="form of --dry-run")
    _add_switch(parser, "cleanup", "remove the proxy's tables, and end")
    for name, page in (("healthz", HEALTHZ_PORT), ("metrics", METRICS_PORT)):
        add(f"--{name}-port", type=int, default=page, metavar="PORT", help=f"deprecated: use --{name}-bind-address")
    add("--version", action="version", version=f"twinstack {__version__}")
    add_needless_flags(parser)


def add_node_flags(parser: argparse.ArgumentParser) -> None:
    """Those that decide what is right for a node, and not how the process runs."""
    add = parser.add_argument
    add(
        "--config",
        default="",
        metavar="FILE",
        help="KubeProxyConfiguration; what it says wins over flags but --hostname-override",
    )
    add("--kubeconfig", default="", metavar="FILE", help="how to reach the API server; in a pod its service account")
    add("--master", default="", metavar="URL", help="the API server, in place of the kubeconfig's")
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
    _add_switch(parser, "masquerade-all", "masquerade all traffic to ClusterIPs")
    parser.set_defaults(
        masquerade_bit=14,
        healthz_port=HEALTHZ_PORT,
        metrics_port=METRICS_PORT,
        proxy_mode=MODE,
        iptables_sync_period="30s",
        iptables_min_sync_period="20ms",
        bind_address="0.0.0.0",
        bind_address_hard_fail=False,
        healthz_bind_address=None,
        metrics_bind_address=None,
        oom_score_adj=None,
        conntrack_max_per_core=0,
        conntrack_min=0,
        conntrack_tcp_be_liberal=False,
        **{f"conntrack_{name.replace('-', '_')}": "0s" for name in _TIMEOUTS},
    )


def _add_switch(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """`--name`, `--name=true` or `--name=false`."""
    parser.add_argument(f"--{name}", type=_boolean, nargs="?", const=True, default=False, metavar="BOOL", help=text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def read_flags(args: argparse.Namespace) -> Configuration:
    """Raises ValueError with a sentence for people."""
    read_needless_flags(args)
    if args.config:
        name = args.hostname_override
        for flag, value in read_file(Path(args.config)).items():
            setattr(args, flag, value)
        args.hostname_override = name or args.hostname_override  # the one flag that wins over the file
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
    family = Address.parse(args.bind_address).family
    if args.oom_score_adj is not None and not -1000 <= args.oom_score_adj <= 1000:
        raise ValueError(f"--oom-score-adj {args.oom_score_adj}: it goes from -1000 to 1000")
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
        bind_address=args.bind_address,
        healthz=_endpoint(args.healthz_bind_address, HEALTHZ[family], args.healthz_port),
        metrics=_endpoint(args.metrics_bind_address, METRICS[family], args.metrics_port),
        bind_hard=args.bind_address_hard_fail,
        master=args.master,
        oom_score_adj=args.oom_score_adj,
        verbosity=getattr(args, "v", 0),
        file=args.config,
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


def _endpoint(text: str | None, default: str, port: int) -> str:
    """`IP:PORT`; an address alone has this port. Empty, or port 0: none. Raises ValueError."""
    if not port:
        return ""
    if text is None:
        return default
    if text:
        try:
            text = str(Target(Address.parse(text), port))
        except ValueError:
            parse_endpoint(text)
    return text


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
