"""Flags and kube-proxy's configuration file → one configuration."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

import pytest
import yaml

from twinstack.ip import CIDR, IPFamily
from twinstack.proxy.configuration import Configuration, LocalMode
from twinstack.proxy.flags import add_flags, read_flags
from twinstack.proxy.kernel_settings import ConntrackSettings
from twinstack.proxy.layout import PodInterface
from twinstack.proxy.needless_flags import REFUSED, TAKEN
from twinstack.proxy.shown_configuration import as_file, configz

CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /etc/kubeconfig, burst: 10}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
hostnameOverride: ""
mode: nftables
nodePortAddresses: [10.0.0.0/8, "fd00::/8"]
metricsBindAddress: ""
nftables: {masqueradeAll: true, masqueradeBit: 13, minSyncPeriod: 1s, syncPeriod: 0s}
"""

# As kubeadm leaves it in ConfigMap kube-system/kube-proxy, where mode nftables was asked for.
KUBEADM = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, tcpFinTimeout: 0s}
kind: KubeProxyConfiguration
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: nftables
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
windowsRunAsService: false
"""
HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


def read(*arguments: str) -> Configuration:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_flags(parser.parse_args(arguments))


def test_defaults() -> None:
    found = read("--hostname-override", " Node-A ")
    assert found.node_name == "node-a"
    assert found.local_mode is LocalMode.NODE_CIDR
    assert found.node_port_blocks is None
    assert (found.sync_period, found.min_sync_period, found.mark_bit) == (30.0, 0.02, 14)
    assert (found.healthz, found.metrics) == ("0.0.0.0:10256", "127.0.0.1:10249")


def test_a_cluster_range_chooses_the_mode_unless_told_otherwise() -> None:
    assert read("--cluster-cidr", "10.0.0.0/8").local_mode is LocalMode.CLUSTER_CIDR
    flags = ("--cluster-cidr", "10.0.0.0/8", "--detect-local-mode", "NodeCIDR")
    assert read(*flags).local_mode is LocalMode.NODE_CIDR


def test_the_least_interval_has_a_floor() -> None:
    assert read("--iptables-min-sync-period", "0s").min_sync_period == 0.02
    assert read("--iptables-min-sync-period", "1s").min_sync_period == 1.0


def test_a_configuration_file_wins_over_flags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config.conf"
    path.write_text(CONFIG)
    with caplog.at_level(logging.INFO):
        found = read("--config", str(path), "--kubeconfig", "other", "--hostname-override", "n1")
    assert found.kubeconfig == "/etc/kubeconfig"
    assert found.node_name == "n1"  # an empty field sets nothing
    assert found.cluster_cidrs == (CIDR.parse("10.244.0.0/16"), CIDR.parse("fd00:10:244::/56"))
    assert found.node_port_blocks == (CIDR.parse("10.0.0.0/8"), CIDR.parse("fd00::/8"))
    assert (found.masquerade_all, found.mark_bit, found.min_sync_period, found.sync_period) == (True, 13, 1.0, 30.0)
    assert [record.message.split(": ", 1)[1] for record in caplog.records] == [
        "clientConnection.burst changes nothing here"
    ]


def test_what_kubeadm_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.conf"
    path.write_text(KUBEADM)
    wanted = read("--cluster-cidr", "10.244.0.0/16", "--kubeconfig", "/var/lib/kube-proxy/kubeconfig.conf")
    assert read("--config", str(path)) == wanted._replace(file=str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("winkernel: {networkName: lan}", "not honoured by this proxy: winkernel.networkName"),
        (
            "ipvs: {strictARP: true}\nfeatureGates: {NFTablesNetlink: true}",
            "not honoured by this proxy: ipvs.strictARP, featureGates.NFTablesNetlink",
        ),
        ("hostNameOverride: a", "not honoured by this proxy: hostNameOverride"),
        ("nftables: {masqueradeBit: high}", "nftables.masqueradeBit is 'high', and should be a number"),
        ("conntrack: {min: true}", "conntrack.min is True, and should be a number"),
        ("nftables: {masqueradeAll: yes please}", "should be true or false"),
        ("nodePortAddresses: [1]", "should be a list of strings"),
        ("clusterCIDR: [10.0.0.0/8]", "should be a string"),
        ("mode: ipvs", "only nftables is there"),
        ("apiVersion: kubeproxy.config.k8s.io/v1", "known is kubeproxy.config.k8s.io/v1alpha1"),
        ("oomScoreAdj: 5000", "from -1000 to 1000"),
        ("bindAddress: somewhere", "not an IP address"),
    ],
)
def test_fields_that_are_not_honoured_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(HEAD + text)
    with pytest.raises(ValueError, match=re.escape(words)):
        read("--config", str(path))


def test_where_the_pages_are() -> None:
    found = read("--bind-address", "fd00::1")
    assert (found.healthz, found.metrics) == ("[::]:10256", "[::1]:10249")
    found = read("--healthz-bind-address", "fd00::1", "--metrics-bind-address", "")
    assert (found.healthz, found.metrics) == ("[fd00::1]:10256", "")
    for text in ("10256", "host:1", "10.0.0.1:x"):
        with pytest.raises(ValueError, match="not"):
            read("--healthz-bind-address", text)


@pytest.mark.parametrize("text", ["", "kind: Other\n", "[1]\n", "a: b: c\n"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"holds no KubeProxyConfiguration|cannot read"):
        read("--config", str(path))


def test_the_name_of_the_node_is_the_one_flag_that_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(HEAD + "hostnameOverride: from-the-file\nbindAddress: fd00::1")
    assert read("--config", str(path)).node_name == "from-the-file"
    found = read("--config", str(path), "--hostname-override", "from-the-flag", "--bind-address", "10.0.0.1")
    assert (found.node_name, found.bind_address) == ("from-the-flag", "fd00::1")


def test_switches_take_a_value() -> None:
    assert read("--masquerade-all").masquerade_all
    assert read("--masquerade-all=true", "--profiling=false", "--ipvs-strict-arp=false").masquerade_all
    assert not read("--masquerade-all=false").masquerade_all
    with pytest.raises(SystemExit):
        read("--masquerade-all=maybe")


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_flags_without_an_effect_are_taken_with_a_word(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(f"--{name}=1") == read()
    (record,) = caplog.records
    assert f"--{name} changes nothing here: " in record.message


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_flags_that_ask_for_what_is_not_here_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name} is not honoured by this proxy: "):
        read(f"--{name}=true")
    for value in REFUSED[name].harmless:
        assert read(f"--{name}={value}") == read()


def test_the_old_flags_of_ports() -> None:
    found = read("--healthz-port", "0", "--metrics-bind-address", "10.0.0.1", "--metrics-port", "99")
    assert (found.healthz, found.metrics) == ("", "10.0.0.1:99")


def test_what_is_shown_is_what_is_read(tmp_path: Path) -> None:
    flags = ["--cluster-cidr", "10.0.0.0/8,fd00::/48", "--iptables-sync-period", "90s", "--nodeport-addresses", "::/0"]
    flags += ["--bind-address", "::", "--conntrack-tcp-timeout-established", "24h", "--oom-score-adj", "-998"]
    found = read(*flags, "--kubeconfig", "/k", "--hostname-override", "n1", "--metrics-bind-address=")
    path = tmp_path / "config"
    path.write_text(yaml.dump(as_file(found)))
    assert read("--config", str(path)) == found._replace(
        file=str(path), metrics="[::1]:10249"
    )  # as kube-proxy reads ""
    shown = configz(found)["kubeproxy.config.k8s.io"]
    assert (shown["Mode"], shown["SyncPeriod"], shown["MinSyncPeriod"]) == ("nftables", "1m30s", "20ms")
    assert shown["Linux"]["Conntrack"]["TCPEstablishedTimeout"] == "24h0m0s"
    assert (shown["Linux"]["OOMScoreAdj"], shown["NFTables"]["MasqueradeBit"]) == (-998, 14)
    assert shown["DetectLocal"]["ClusterCIDRs"] == ["10.0.0.0/8", "fd00::/48"]
    assert (shown["HealthzBindAddress"], shown["MetricsBindAddress"]) == ("[::]:10256", "")
    assert shown["NodePortAddresses"] == ["::/0"]


def test_modes_that_go_by_interface() -> None:
    found = read("--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0")
    assert found.pod_interface == PodInterface("cni0")
    assert found.local_pods(IPFamily.IPV4, None) is None
    found = read("--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "veth")
    assert str(found.pod_interface) == "veth*"
    assert read("--pod-bridge-interface", "cni0").pod_interface is None  # another mode
    for flags in ((), ("--pod-bridge-interface", "a-name-that-is-too-long")):
        with pytest.raises(ValueError, match="needs --pod-bridge-interface"):
            read("--detect-local-mode", "BridgeInterface", *flags)


def test_conntrack_is_left_alone_unless_asked(tmp_path: Path) -> None:
    assert read().conntrack == ConntrackSettings()
    found = read("--conntrack-max-per-core", "1000", "--conntrack-udp-timeout", "1m", "--conntrack-tcp-be-liberal")
    assert found.conntrack == ConntrackSettings(max_per_core=1000, udp_timeout=60.0, tcp_be_liberal=True)
    path = tmp_path / "config"
    path.write_text(HEAD + "conntrack: {min: 5, tcpEstablishedTimeout: 24h0m0s, maxPerCore: null}")
    assert read("--config", str(path)).conntrack == ConntrackSettings(min=5, tcp_timeout_established=86400.0)
