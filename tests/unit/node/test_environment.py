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
    Surroundings,
    expand,
    hostname,
    hosts_file,
    link_of,
    resolver_file,
    service_variables,
    sources,
    variables,
    words,
)

ADDRESSES = Addresses(["10.244.1.2", "fd00:10:244:1::2"], ["172.30.0.11", "fd00:30::11"])
AROUND = Surroundings(ADDRESSES)


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
    assert variables(of, Container(env=[field(path)]), AROUND)["X"] == value


def test_a_field_that_is_not_offered() -> None:
    with pytest.raises(ConfigError, match=r"unsupported fieldPath: spec\.containers"):
        variables(pod(), Container(env=[field("spec.containers")]), AROUND)


def test_later_variables_may_use_earlier_ones() -> None:
    env = [EnvVar(name="A", value="1"), EnvVar(name="B", value="$(A)$(C)"), EnvVar(name="C", value="3")]
    values = variables(pod(), Container(env=env), AROUND)
    assert (values["B"], values["HOSTNAME"]) == ("1$(C)", "web")
    assert words(["sh", "-c", "echo $(B)"], values) == ["sh", "-c", "echo 1$(C)"]


def test_objects_in_variables() -> None:
    reference = EnvVar(name="A", value_from=EnvVarSource(config_map_key_ref={"name": "m", "key": "k"}))
    optional = EnvVar(name="B", value_from=EnvVarSource(secret_key_ref={"name": "s", "key": "x", "optional": True}))
    container = Container(env=[reference, optional], env_from=[{"prefix": "P_", "configMapRef": {"name": "m"}}])
    assert sources(container) == {Source("configMap", "m"), Source("secret", "s")}
    objects = {Source("configMap", "m"): {"k": "v"}, Source("secret", "s"): None}
    values = variables(pod(), container, AROUND._replace(objects=objects))
    assert (values["A"], values["P_k"], "B" in values) == ("v", "v", False)
    with pytest.raises(ConfigError, match='configmap "m" not found'):
        variables(pod(), container, AROUND._replace(objects={Source("configMap", "m"): None}))
    with pytest.raises(ConfigError, match="couldn't find key k in ConfigMap default/m"):
        variables(pod(), Container(env=[reference]), AROUND._replace(objects={Source("configMap", "m"): {}}))


def test_variables_of_a_service() -> None:
    ports = [ServicePort(name="https", port=443, protocol="TCP")]
    spec = ServiceSpec(cluster_ip="fd00:10:96::1", ip_families=["IPv6"], ports=ports)
    link = link_of(Service(metadata=ObjectMeta(name="kubernetes"), spec=spec))
    assert link is not None
    assert service_variables(link) == {
        "KUBERNETES_SERVICE_HOST": "fd00:10:96::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "KUBERNETES_PORT": "tcp://[fd00:10:96::1]:443",
        "KUBERNETES_PORT_443_TCP": "tcp://[fd00:10:96::1]:443",
        "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
        "KUBERNETES_PORT_443_TCP_PORT": "443",
        "KUBERNETES_PORT_443_TCP_ADDR": "fd00:10:96::1",
    }
    assert link_of(Service(spec=ServiceSpec(cluster_ip="None", ports=ports))) is None
    assert link_of(Service(spec=ServiceSpec(cluster_ip="10.96.0.1"))) is None
    values = variables(pod(), Container(), AROUND._replace(links=[link]))
    assert values.keys() - {"PATH", "HOSTNAME"} == service_variables(link).keys()


def test_host_names() -> None:
    assert hostname(pod(hostname="other")) == "other"
    long = pod()
    long.metadata.name = "a" * 62 + "-b"
    assert hostname(long) == "a" * 62
    assert hostname(pod(host_network=True), "cluster.local", "n1") == "n1"
    assert hostname(pod(host_network=True, hostname_override="x.y"), "cluster.local", "n1") == "x.y"
    assert hostname(pod(set_hostname_as_fqdn=True), "cluster.local") == "web"
    full = pod(set_hostname_as_fqdn=True, subdomain="sub")
    assert hostname(full, "cluster.local") == "web.sub.default.svc.cluster.local"
    full.spec.subdomain = "s" * 40
    with pytest.raises(ConfigError, match=r"is too long \(64 characters is the max, 70 characters requested\)"):
        hostname(full, "cluster.local")


def test_amounts_of_resources() -> None:
    of = pod("a", "b")
    of.spec.containers[1].resources = {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": "0.2"}}
    node = {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi"}

    def value(resource: str, container: str = "b", divisor: str = "0") -> str:
        reference = {"resource": resource, "containerName": container, "divisor": divisor}
        variable = EnvVar(name="X", value_from=EnvVarSource(resource_field_ref=reference))
        return variables(of, Container(name="a", env=[variable]), AROUND._replace(allocatable=node))["X"]

    assert value("limits.cpu") == "2"
    assert value("limits.cpu", divisor="1m") == "1500"
    assert value("limits.memory", divisor="1Mi") == "1024"
    assert value("limits.memory") == str(1 << 30)
    assert value("requests.cpu", divisor="1m") == "200"
    assert value("requests.memory") == "0"
    assert value("limits.cpu", "a") == "4"  # what the node has
    assert value("limits.memory", "", "1Gi") == "8"  # its own
    for resource, container in (("limits", "b"), ("usage.cpu", "b"), ("limits.cpu", "none")):
        with pytest.raises(ConfigError):
            value(resource, container)
    of.spec.resources = {"limits": {"cpu": "3"}}
    assert (value("limits.cpu", "a"), value("limits.memory", "a", "1Gi")) == ("3", "8")  # the pod's, the node's


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


def test_no_more_servers_than_resolvers_look_at() -> None:
    servers = [f"192.0.2.{n}" for n in range(1, 6)]
    text = resolver_file(pod(dns_policy="None", dns_config={"nameservers": servers}), [], "cluster.local", NODE)
    assert text == "".join(f"nameserver {server}\n" for server in servers[:3])


def test_without_cluster_dns_pods_use_the_nodes() -> None:
    assert resolver_file(pod(), [], "cluster.local", NODE) == NODE
