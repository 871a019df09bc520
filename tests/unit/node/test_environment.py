from __future__ import annotations

from typing import Any

import pytest
from tests.unit.node.building import UID, pod

from twinstack.api.core import (
    Container,
    EnvVar,
    EnvVarSource,
    HostAlias,
    ObjectFieldSelector,
    Service,
    ServicePort,
    ServiceSpec,
)
from twinstack.api.meta import ObjectMeta
from twinstack.node.environment import (
    Addresses,
    ConfigError,
    Source,
    command,
    expand,
    hostname,
    hosts_file,
    resolver_file,
    service_variables,
    sources,
    variables,
)

ADDRESSES = Addresses(["10.244.1.2", "fd00:10:244:1::2"], ["172.30.0.11", "fd00:30::11"])


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
        ("$(A)$(A)", "11"),
    ],
)
def test_references(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def field(path: str) -> EnvVar:
    return EnvVar(name="X", value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path=path)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", UID),
        ("metadata.labels['app']", "shop"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "n1"),
        ("status.podIP", "10.244.1.2"),
        ("status.podIPs", "10.244.1.2,fd00:10:244:1::2"),
        ("status.hostIP", "172.30.0.11"),
        ("status.hostIPs", "172.30.0.11,fd00:30::11"),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    of = pod()
    of.metadata.labels = {"app": "shop"}
    assert variables(of, Container(env=[field(path)]), ADDRESSES, [], {})["X"] == value


def test_a_field_that_is_not_offered() -> None:
    with pytest.raises(ConfigError, match=r"unsupported fieldPath: spec\.containers"):
        variables(pod(), Container(env=[field("spec.containers")]), ADDRESSES, [], {})


def test_later_variables_may_use_earlier_ones() -> None:
    env = [EnvVar(name="A", value="1"), EnvVar(name="B", value="$(A)$(C)"), EnvVar(name="C", value="3")]
    values = variables(pod(), Container(env=env), ADDRESSES, [], {})
    assert (values["B"], values["HOSTNAME"]) == ("1$(C)", "web")
    assert command(Container(command=["sh", "-c"], args=["echo $(B)"]), values) == ["sh", "-c", "echo 1$(C)"]
    with pytest.raises(ConfigError):
        command(Container(args=["x"]), values)


def test_objects_in_variables() -> None:
    reference = EnvVar(name="A", value_from=EnvVarSource(config_map_key_ref={"name": "m", "key": "k"}))
    optional = EnvVar(name="B", value_from=EnvVarSource(secret_key_ref={"name": "s", "key": "x", "optional": True}))
    container = Container(env=[reference, optional], env_from=[{"prefix": "P_", "configMapRef": {"name": "m"}}])
    assert sources(container) == {Source("configMap", "m"), Source("secret", "s")}
    objects = {Source("configMap", "m"): {"k": "v"}, Source("secret", "s"): None}
    values = variables(pod(), container, ADDRESSES, [], objects)
    assert (values["A"], values["P_k"], "B" in values) == ("v", "v", False)
    with pytest.raises(ConfigError, match='configmap "m" not found'):
        variables(pod(), container, ADDRESSES, [], {Source("configMap", "m"): None})
    with pytest.raises(ConfigError, match="couldn't find key k in ConfigMap default/m"):
        variables(pod(), Container(env=[reference]), ADDRESSES, [], {Source("configMap", "m"): {}})


def test_variables_of_a_service() -> None:
    ports = [ServicePort(name="https", port=443, protocol="TCP")]
    spec = ServiceSpec(cluster_ip="fd00:10:96::1", ip_families=["IPv6"], ports=ports)
    assert service_variables(Service(metadata=ObjectMeta(name="kubernetes"), spec=spec)) == {
        "KUBERNETES_SERVICE_HOST": "fd00:10:96::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "KUBERNETES_PORT": "tcp://[fd00:10:96::1]:443",
        "KUBERNETES_PORT_443_TCP": "tcp://[fd00:10:96::1]:443",
        "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
        "KUBERNETES_PORT_443_TCP_PORT": "443",
        "KUBERNETES_PORT_443_TCP_ADDR": "fd00:10:96::1",
    }
    assert service_variables(Service(spec=ServiceSpec(cluster_ip="None", ports=ports))) == {}


def test_host_names() -> None:
    assert hostname(pod(hostname="other")) == "other"
    long = pod()
    long.metadata.name = "a" * 62 + "-b"
    assert hostname(long) == "a" * 62


def test_the_hosts_file_has_every_address() -> None:
    text = hosts_file(pod(), ADDRESSES.pod, "cluster.local", "")
    assert "10.244.1.2\tweb\nfd00:10:244:1::2\tweb\n" in text
    of = pod(subdomain="sub", host_aliases=[HostAlias(ip="1.2.3.4", hostnames=["a", "b"])])
    text = hosts_file(of, ADDRESSES.pod, "cluster.local", "")
    assert "10.244.1.2\tweb.sub.default.svc.cluster.local\tweb\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")
    text = hosts_file(pod(host_network=True), ADDRESSES.host, "cluster.local", "192.0.2.1\tnode\n")
    assert text == "# Kubernetes-managed hosts file (host network).\n192.0.2.1\tnode\n"


NODE = "search lan\nnameserver 192.0.2.1\noptions timeout:1 rotate\n"
CLUSTER = """search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
nameserver fd00:10:96::a
options ndots:5
"""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, CLUSTER),
        ({"dns_policy": "Default"}, NODE),
        ({"host_network": True}, NODE),
        ({"host_network": True, "dns_policy": "ClusterFirstWithHostNet"}, CLUSTER),
        ({"dns_policy": "None", "dns_config": {"nameservers": ["192.0.2.9"]}}, "nameserver 192.0.2.9\n"),
        (
            {"dns_policy": "Default", "dns_config": {"searches": ["x"], "options": [{"name": "rotate"}]}},
            "search lan x\nnameserver 192.0.2.1\noptions timeout:1 rotate\n",
        ),
    ],
)
def test_the_resolver_file(spec: dict[str, Any], expected: str) -> None:
    assert resolver_file(pod(**spec), ["10.96.0.10", "fd00:10:96::a"], "cluster.local", NODE) == expected


def test_without_cluster_dns_pods_use_the_nodes() -> None:
    assert resolver_file(pod(), [], "cluster.local", NODE) == NODE
