"""Run a node's agent: its pods, their network, and the kubelet API that serves their logs.

It works in the network namespace in which it is started. On SIGTERM pods go on, and the next agent takes them
up; --cleanup removes them.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import socket
from pathlib import Path

from twinstack.client.process import run_component
from twinstack.client.rest import Client
from twinstack.ip import CIDR, Address
from twinstack.ip.addresses import parse_addresses
from twinstack.node.agent import Agent, PluginSettings, Settings
from twinstack.node.images.access import Access
from twinstack.node.images.pod import Images
from twinstack.node.images.pull import Puller
from twinstack.node.images.store import ImageStore
from twinstack.node.runtime.base import Runtime

log = logging.getLogger(__name__)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", metavar="FILE", help="how to reach the API server")
    add("--node-ip", metavar="A[,B]", help="this node's addresses, one a family; the first decides pods' primary")
    add("--hostname-override", metavar="NAME", help="the Node's name; otherwise the host name")
    add("--node-labels", default="", metavar="K=V,…", help="labels that the Node is registered with")
    add("--network-plugin", choices=("kubenet", "cni"), default="kubenet", help="kubenet: the built-in one")
    add("--cni-conf-dir", default="/etc/cni/net.d", metavar="DIR", help="configurations of networks, for cni")
    add("--cni-bin-dir", default="/opt/cni/bin", metavar="DIR[,DIR]", help="plugins, for cni")
    add("--cni-socket", default="", metavar="FILE", help="where to serve the plugin twinstack-cni; nowhere by default")
    add("--non-masquerade-cidr", default="", metavar="A[,B]", help="where pods keep their address: the pods' blocks")
    add("--root-dir", default="/var/lib/twinstack-node", metavar="DIR", help="state of pods, kept over restarts")
    add("--image-store", metavar="DIR", help="images, which nodes of a machine may share; otherwise below --root-dir")
    add("--image-network-namespace", metavar="PATH", help="from where registries are reached; otherwise from here")
    add("--registry-certs-dir", default="/etc/docker/certs.d", metavar="DIR", help="HOST[:PORT]/ca.crt of registries")
    add("--insecure-registries", default="", metavar="H,…", help="HOST[:PORT] without a certificate that one can check")
    add("--runtime-dir", default="/run/twinstack-node", metavar="DIR", help="sockets")
    add("--netns-prefix", default="pod", metavar="P", help="pods' namespaces are /run/netns/P-HASH")
    add("--port", type=int, default=10250, help="of the kubelet API; 0: none")
    add("--tls-cert-file", metavar="FILE", help="certificate of the kubelet API")
    add("--tls-private-key-file", metavar="FILE", help="its key")
    add("--client-ca-file", metavar="FILE", help="authority of the kubelet API's clients")
    add("--cluster-dns", default="", metavar="A[,B]", help="DNS servers for pods; otherwise they use the node's")
    add("--cluster-domain", default="cluster.local", metavar="D", help="domain of the cluster's names")
    add("--pod-max-pids", type=int, default=-1, metavar="N", help="processes that a pod may have; -1: no limit")
    add("--sync-frequency", type=float, default=60.0, metavar="S", help="in which time changed ConfigMaps are shown")
    add("--cleanup", action="store_true", help="remove every pod of --root-dir and --netns-prefix, and exit")


def run(args: argparse.Namespace) -> int:
    if args.cleanup:
        from twinstack.node.cleanup import remove_everything

        return remove_everything(Path(args.root_dir), args.netns_prefix)
    missing = [flag for flag in ("kubeconfig", "node_ip") if not getattr(args, flag)]
    if missing:
        log.error("--%s must be given", missing[0].replace("_", "-"))
        return 2

    async def main(client: Client) -> None:
        chosen = settings(args)
        images = _images(args, chosen.root_dir)
        agent = Agent(client, chosen, _runtime(chosen.root_dir, chosen.netns_prefix, images.store), images)
        server = await _listen(client, agent, args) if args.port else None
        try:
            await agent.run()
        finally:
            if server is not None:
                server.close()

    return run_component("node", args.kubeconfig, main)


def settings(args: argparse.Namespace) -> Settings:
    """Raises ValueError for flags that cannot be."""
    try:
        node_ips = parse_addresses(args.node_ip)
    except ValueError:
        text = "must contain either a single IP or a dual-stack pair of IPs"
        raise ValueError(f'bad --node-ip "{args.node_ip}": {text}') from None
    return Settings(
        node_name=args.hostname_override or socket.gethostname().lower(),
        node_ips=node_ips,
        port=args.port,
        root_dir=Path(args.root_dir).resolve(),
        netns_prefix=args.netns_prefix,
        spared=[CIDR.parse(text) for text in args.non_masquerade_cidr.split(",") if text],
        plugins=_plugins(args),
        cluster_dns=[str(Address.parse(text)) for text in args.cluster_dns.split(",") if text],
        cluster_domain=args.cluster_domain,
        refresh_period=args.sync_frequency,
        pod_max_pids=args.pod_max_pids,
        node_labels=dict(_label(text) for text in args.node_labels.split(",") if text),
    )


def _plugins(args: argparse.Namespace) -> PluginSettings | None:
    if args.network_plugin != "cni":
        return None
    executables = [part for part in args.cni_bin_dir.split(",") if part]
    return PluginSettings(Path(args.cni_conf_dir), executables, Path(args.cni_socket) if args.cni_socket else None)


def _label(text: str) -> tuple[str, str]:
    from twinstack.api import validation  # rarely needed

    key, _, value = text.partition("=")
    if validation.qualified_name(key) or validation.label_value(value):
        raise ValueError(f'bad --node-labels "{text}": not a label')
    return key, value


def _runtime(root: Path, prefix: str, images: ImageStore) -> Runtime:
    """The built-in one. Raises ValueError when nothing makes containers here."""
    from twinstack.linux import ociruntimes
    from twinstack.node.runtime.oci import OCIRuntime

    root.mkdir(parents=True, mode=0o700, exist_ok=True)
    _claim(root)
    try:
        choice = ociruntimes.choose(root / "runtime.json")
    except ociruntimes.NoRuntime as error:
        raise ValueError(f"no OCI runtime: {error}; `twinstack doctor` tells what to install") from error
    log.info("%s", choice.summary)
    return OCIRuntime(root, choice, images, group=f"twinstack-{prefix}")


def _images(args: argparse.Namespace, root: Path) -> Images:
    access = Access(Path(args.registry_certs_dir), tuple(text for text in args.insecure_registries.split(",") if text))
    home = os.path.expanduser(os.environ.get("TWINSTACK_HOME") or "~/.twinstack")
    hidden = [os.path.abspath(path) for path in (root, home, args.runtime_dir)]  # no container sees clusters' state
    store = ImageStore(Path(args.image_store or root / "images").absolute(), hidden)
    return Images(store, Puller(store, access, _namespace(args.image_network_namespace)))


def _namespace(path: str | None) -> Path | None:
    """One that was handed down as a descriptor is not handed on to anybody."""
    if path is None:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if path.startswith("/proc/self/fd/"):
        os.close(int(path.removeprefix("/proc/self/fd/")))
    return Path(f"/proc/self/fd/{descriptor}")


def _claim(root: Path) -> None:
    """Hold the directory until this process ends. Raises ValueError when another agent does."""
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(f"another agent works on {root}") from None


async def _listen(client: Client, agent: Agent, args: argparse.Namespace) -> asyncio.Server:
    from twinstack.node import configz, http
    from twinstack.node.authorization import Gate, reviewer
    from twinstack.node.server import KubeletServer

    for flag in ("tls_cert_file", "tls_private_key_file", "client_ca_file"):
        if not getattr(args, flag):
            raise ValueError(f"--{flag.replace('_', '-')} must be given, or --port 0")
    files = (args.tls_cert_file, args.tls_private_key_file, args.client_ca_file)
    context = http.tls_context(*files)
    gate = Gate(reviewer(client), agent.settings.node_name)
    return await http.serve(
        KubeletServer(agent, gate, configz.shown(agent.settings, *files)).handle, args.port, context
    )
