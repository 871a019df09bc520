"""KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) → flags. What the proxy does not honour is refused by name.

Empty fields set nothing, so that what kubeadm writes, with every field of every mode, is read as it is meant.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

API_VERSION, KIND = "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"


class Field(NamedTuple):
    flag: str
    type: type = str


_FIELDS = {
    "bindAddress": Field("bind_address"),
    "bindAddressHardFail": Field("bind_address_hard_fail", bool),
    "clientConnection.kubeconfig": Field("kubeconfig"),
    "hostnameOverride": Field("hostname_override"),
    "mode": Field("proxy_mode"),
    "clusterCIDR": Field("cluster_cidr"),
    "detectLocalMode": Field("detect_local_mode"),
    "detectLocal.bridgeInterface": Field("pod_bridge_interface"),
    "detectLocal.interfaceNamePrefix": Field("pod_interface_name_prefix"),
    "nodePortAddresses": Field("nodeport_addresses", list),
    "nftables.masqueradeAll": Field("masquerade_all", bool),
    "nftables.masqueradeBit": Field("masquerade_bit", int),
    "nftables.syncPeriod": Field("iptables_sync_period"),
    "nftables.minSyncPeriod": Field("iptables_min_sync_period"),
    "healthzBindAddress": Field("healthz_bind_address"),
    "metricsBindAddress": Field("metrics_bind_address"),
    "oomScoreAdj": Field("oom_score_adj", int),
    "conntrack.maxPerCore": Field("conntrack_max_per_core", int),
    "conntrack.min": Field("conntrack_min", int),
    "conntrack.tcpEstablishedTimeout": Field("conntrack_tcp_timeout_established"),
    "conntrack.tcpCloseWaitTimeout": Field("conntrack_tcp_timeout_close_wait"),
    "conntrack.tcpBeLiberal": Field("conntrack_tcp_be_liberal", bool),
    "conntrack.udpTimeout": Field("conntrack_udp_timeout"),
    "conntrack.udpStreamTimeout": Field("conntrack_udp_timeout_stream"),
}

# They ask for nothing that this proxy would not do, or could do otherwise.
_NEEDLESS = frozenset(
    (
        "clientConnection.acceptContentTypes",
        "clientConnection.contentType",
        "clientConnection.qps",
        "clientConnection.burst",
        "configSyncPeriod",
        "iptables.localhostNodePorts",
        "iptables.masqueradeBit",
        "iptables.minSyncPeriod",
        "iptables.syncPeriod",
        "showHiddenMetricsForVersion",
        "logging.format",
        "logging.flushFrequency",
        "logging.verbosity",
    )
)

_NOTHING = (None, "", "0", 0, False, "0s")

log = logging.getLogger(__name__)


def read_file(path: Path) -> dict[str, Any]:
    """The flags that the file sets. Raises ValueError that names what is wrong."""
    import yaml

    try:
        document = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ValueError(f"{path} holds no {KIND}")
    if document.get("apiVersion") != API_VERSION:
        raise ValueError(f"{path}: apiVersion is {document.get('apiVersion')!r}, known is {API_VERSION}")
    found: dict[str, Any] = {}
    refused = []
    for name, value in _leaves(document):
        field = _FIELDS.get(name)
        if field is not None:
            found[field.flag] = _checked(path, name, value, field.type)
        elif name in _NEEDLESS:
            log.info("%s: %s changes nothing here", path, name)
        else:
            refused.append(name)
    if refused:
        raise ValueError(f"{path}: not honoured by this proxy: {', '.join(refused)}; take it out")
    return found


def _checked(path: Path, name: str, value: Any, wanted: type) -> Any:
    fits = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
    if wanted is list and fits:
        fits = all(isinstance(each, str) for each in value)
        return ",".join(value) if fits else _unfit(path, name, value, wanted)
    return value if fits else _unfit(path, name, value, wanted)


def _unfit(path: Path, name: str, value: Any, wanted: type) -> None:
    names = {str: "a string", int: "a number", bool: "true or false", list: "a list of strings"}
    raise ValueError(f"{path}: {name} is {value!r}, and should be {names[wanted]}")


def _leaves(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that says something, by its dotted name."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value not in _NOTHING and value != [] and prefix + name not in ("kind", "apiVersion"):
            yield prefix + str(name), value
