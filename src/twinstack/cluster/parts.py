"""The processes of a local cluster: what each is called with, and where it runs."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import NamedTuple

from twinstack.cluster.configuration import NODE_MASK_SIZE, ClusterConfiguration
from twinstack.cluster.state import ClusterPaths
from twinstack.ip import CIDR, Address

# Kinds for which none of these parts is there, by `plural.group`; the server warns those who write them.
_UNACTED = (
    "persistentvolumeclaims",
    "persistentvolumes",
    "horizontalpodautoscalers.autoscaling",
    "networkpolicies.networking.k8s.io",
    "csidrivers.storage.k8s.io",
    "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
    "deviceclasses.resource.k8s.io",
    "resourceclaims.resource.k8s.io",
    "resourceclaimtemplates.resource.k8s.io",
    "resourceslices.resource.k8s.io",
)


OUTWARD = 3


class Part(NamedTuple):
    """One process. Without a namespace it runs in the host's."""

    name: str
    arguments: tuple[str, ...]  # what follows `twinstack`
    namespace: Path | None = None
    node: str = ""
    outward: bool = False  # it is handed the host's network namespace, too, as descriptor OUTWARD

    @property
    def fingerprint(self) -> str:
        """Differs between parts that are called differently."""
        return format(zlib.crc32("\0".join((*self.arguments, str(self.namespace))).encode()), "08x")


def program() -> tuple[str, ...]:
    """How to start this very installation of `twinstack`."""
    script = Path(sys.executable).with_name("twinstack")
    return (sys.executable, str(script)) if script.exists() else (sys.executable, "-m", "twinstack.cli.main")


def cluster_parts(configuration: ClusterConfiguration, paths: ClusterPaths) -> list[Part]:
    """All parts in the order in which they start; the API server, which the others wait for, is the first."""
    parts = [_server(configuration, paths), _controllers(configuration, paths)]
    scheduler = _flags(kubeconfig=_kubeconfig(paths, "scheduler"), leader_elect="false")  # one of each is all there are
    parts.append(Part("scheduler", ("scheduler", *scheduler)))
    indexes = configuration.node_indexes
    parts += [_node(configuration, paths, index) for index in indexes]
    if configuration.proxy:
        parts += [_proxy(configuration, paths, index) for index in indexes]
    if configuration.egress:
        parts.append(_egress(configuration, paths))
    return [*parts, Part("configuration", ("follow", "--name", paths.name))]


def _server(configuration: ClusterConfiguration, paths: ClusterPaths) -> Part:
    flags = _flags(
        service_cluster_ip_range=_text(configuration.service_cidrs),
        service_node_port_range=configuration.node_ports,
        secure_port=configuration.api_port,
        advertise_address=_text(configuration.switch_addresses),
        network_namespace=paths.switch,
        sqlite=paths.database,
        authorization_mode="Node,RBAC",
        rbac_manifest=paths.policy,
        allow_privileged="true",
        unacted_resources=",".join(_UNACTED),
        client_ca_file=paths.pki / "ca.crt",
        tls_cert_file=paths.pki / "apiserver.crt",
        tls_private_key_file=paths.pki / "apiserver.key",
        service_account_signing_key_file=paths.pki / "sa.key",
        service_account_key_file=paths.pki / "sa.pub",
        kubelet_client_certificate=paths.pki / "apiserver-kubelet-client.crt",
        kubelet_client_key=paths.pki / "apiserver-kubelet-client.key",
        kubelet_certificate_authority=paths.pki / "ca.crt",
    )
    return Part("server", ("server", *flags))


def _controllers(configuration: ClusterConfiguration, paths: ClusterPaths) -> Part:
    masks = {f"node_cidr_mask_size_{family.lower()}": NODE_MASK_SIZE[family] for family in configuration.pod_families}
    flags = _flags(
        kubeconfig=_kubeconfig(paths, "controllers"),
        cluster_cidr=_text(configuration.pod_cidrs),
        service_cluster_ip_range=_text(configuration.service_cidrs),
        root_ca_file=paths.pki / "ca.crt",
        service_account_private_key_file=paths.pki / "sa.key",
        cluster_signing_cert_file=paths.pki / "ca.crt",
        cluster_signing_key_file=paths.pki / "ca.key",
        leader_elect="false",
        **masks,
    )
    return Part("controllers", ("controllers", *flags))


def _node(configuration: ClusterConfiguration, paths: ClusterPaths, index: int) -> Part:
    name = configuration.node_name(index)
    flags = _flags(
        kubeconfig=_kubeconfig(paths, f"node-{index}"),
        hostname_override=name,
        node_ip=_text(configuration.node_addresses(index)),
        network_plugin="kubenet",
        non_masquerade_cidr=_text(configuration.pod_cidrs),
        port=10250,
        tls_cert_file=paths.pki / f"kubelet-{index}.crt",
        tls_private_key_file=paths.pki / f"kubelet-{index}.key",
        client_ca_file=paths.pki / "ca.crt",
        root_dir=paths.node_root(index),
        image_store=paths.images,
        image_network_namespace=f"/proc/self/fd/{OUTWARD}",
        runtime_dir=paths.node_run(index),
        netns_prefix=paths.pod_prefix(index),
    )
    labels = ",".join(f"{key}={value}" for key, value in configuration.labels(index).items())
    if labels:
        flags += _flags(node_labels=labels)
    return Part(f"node-{index}", ("node", *flags), paths.node(index), name, outward=True)


def _proxy(configuration: ClusterConfiguration, paths: ClusterPaths, index: int) -> Part:
    name = configuration.node_name(index)
    flags = _flags(
        kubeconfig=_kubeconfig(paths, "proxy"),
        hostname_override=name,
        cluster_cidr=_text(configuration.pod_cidrs),
    )
    return Part(f"proxy-{index}", ("proxy", *flags), paths.node(index), name)


def _egress(configuration: ClusterConfiguration, paths: ClusterPaths) -> Part:
    inside = _text((*configuration.pod_cidrs, *configuration.service_cidrs))
    return Part("egress", ("egress", *_flags(network_namespace=paths.switch, inside=inside)))


def _kubeconfig(paths: ClusterPaths, user: str) -> Path:
    return paths.kubeconfigs / f"{user}.json"


def _text(values: tuple[Address, ...] | tuple[CIDR, ...]) -> str:
    return ",".join(map(str, values))


def _flags(**values: object) -> tuple[str, ...]:
    """`secure_port=6443` becomes `--secure-port 6443`."""
    words: list[str] = []
    for name, value in values.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return tuple(words)
