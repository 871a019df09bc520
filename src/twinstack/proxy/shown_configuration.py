"""The configuration in force, in the two forms that kube-proxy gives it: the file it reads, and the page /configz.

The page has the names of kube-proxy's internal type and the file those of v1alpha1. Where a mode is not here its part
says nothing.
"""

from __future__ import annotations

from typing import Any

from twinstack.api.times import format_duration
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.configuration_file import API_VERSION, KIND

GROUP = "kubeproxy.config.k8s.io"
_UNBOUNDED = -1  # requests a second, as client-go writes "any number"


def configz(configuration: Configuration) -> dict[str, Any]:
    """What /configz has: true values, one group."""
    c = configuration
    conntrack = {
        "MaxPerCore": c.conntrack.max_per_core,
        "Min": c.conntrack.min,
        "TCPEstablishedTimeout": format_duration(c.conntrack.tcp_timeout_established),
        "TCPCloseWaitTimeout": format_duration(c.conntrack.tcp_timeout_close_wait),
        "TCPBeLiberal": c.conntrack.tcp_be_liberal,
        "UDPTimeout": format_duration(c.conntrack.udp_timeout),
        "UDPStreamTimeout": format_duration(c.conntrack.udp_timeout_stream),
    }
    bridge, prefix = _interfaces(c)
    shown = {
        "Linux": {"Conntrack": conntrack, "MasqueradeAll": c.masquerade_all, "OOMScoreAdj": c.oom_score_adj},
        "Windows": {"RunAsService": False},
        "FeatureGates": {},
        "ClientConnection": {
            "Kubeconfig": c.kubeconfig,
            "AcceptContentTypes": "",
            "ContentType": "application/json",
            "QPS": _UNBOUNDED,
            "Burst": 0,
        },
        "Logging": {"format": "text", "flushFrequency": "0s", "verbosity": c.verbosity, "options": {}},
        "HostnameOverride": c.node_name,
        "BindAddress": c.bind_address,
        "HealthzBindAddress": c.healthz,
        "MetricsBindAddress": c.metrics,
        "BindAddressHardFail": c.bind_hard,
        "EnableProfiling": False,
        "ShowHiddenMetricsForVersion": "",
        "Mode": "nftables",
        "IPTables": {"MasqueradeBit": None, "LocalhostNodePorts": False},
        "IPVS": {
            "Scheduler": "",
            "ExcludeCIDRs": None,
            "StrictARP": False,
            "TCPTimeout": "0s",
            "TCPFinTimeout": "0s",
            "UDPTimeout": "0s",
        },
        "Winkernel": {
            "NetworkName": "",
            "SourceVip": "",
            "EnableDSR": False,
            "RootHnsEndpointName": "",
            "ForwardHealthCheckVip": False,
        },
        "NFTables": {"MasqueradeBit": c.mark_bit},
        "DetectLocalMode": c.local_mode.value,
        "DetectLocal": {
            "BridgeInterface": bridge,
            "ClusterCIDRs": [str(block) for block in c.cluster_cidrs],
            "InterfaceNamePrefix": prefix,
        },
        "NodePortAddresses": _node_port_addresses(c),
        "SyncPeriod": format_duration(c.sync_period),
        "MinSyncPeriod": format_duration(c.min_sync_period),
        "ConfigSyncPeriod": "0s",
    }
    return {GROUP: shown}


def as_file(configuration: Configuration) -> dict[str, Any]:
    """A KubeProxyConfiguration that `--config` reads as this one."""
    c = configuration
    bridge, prefix = _interfaces(c)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "bindAddress": c.bind_address,
        "bindAddressHardFail": c.bind_hard,
        "clientConnection": {"kubeconfig": c.kubeconfig},
        "clusterCIDR": ",".join(map(str, c.cluster_cidrs)),
        "conntrack": {
            "maxPerCore": c.conntrack.max_per_core,
            "min": c.conntrack.min,
            "tcpBeLiberal": c.conntrack.tcp_be_liberal,
            "tcpCloseWaitTimeout": format_duration(c.conntrack.tcp_timeout_close_wait),
            "tcpEstablishedTimeout": format_duration(c.conntrack.tcp_timeout_established),
            "udpStreamTimeout": format_duration(c.conntrack.udp_timeout_stream),
            "udpTimeout": format_duration(c.conntrack.udp_timeout),
        },
        "detectLocal": {"bridgeInterface": bridge, "interfaceNamePrefix": prefix},
        "detectLocalMode": c.local_mode.value,
        "healthzBindAddress": c.healthz,
        "hostnameOverride": c.node_name,
        "metricsBindAddress": c.metrics,
        "mode": "nftables",
        "nftables": {
            "masqueradeAll": c.masquerade_all,
            "masqueradeBit": c.mark_bit,
            "minSyncPeriod": format_duration(c.min_sync_period),
            "syncPeriod": format_duration(c.sync_period),
        },
        "nodePortAddresses": _node_port_addresses(c),
        "oomScoreAdj": c.oom_score_adj,
    }


def _interfaces(configuration: Configuration) -> tuple[str, str]:
    """The pods' bridge, and the prefix of their interfaces."""
    pods = configuration.pod_interface
    if pods is None:
        return "", ""
    return ("", pods.name) if pods.is_prefix else (pods.name, "")


def _node_port_addresses(configuration: Configuration) -> list[str]:
    blocks = configuration.node_port_blocks
    return ["primary"] if blocks is None else [str(block) for block in blocks]
