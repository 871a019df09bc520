"""Services from first to last write: what is taken, what is given back, and that nothing is lost between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.service_server import IP_ADDRESSES, RANGES, SERVICES, Server

from twinstack.api.errors import StatusError
from twinstack.api.validation import parse_sloppy_ip
from twinstack.store import Delete

JSON = dict[str, Any]


def body(name: str, spec: JSON, **metadata: Any) -> JSON:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name} | metadata, "spec": spec}


def assert_nothing_lost(server: Server) -> None:
    """Every address and node port that a Service shows is recorded, and every record has its Service."""
    addresses, ports = {server.config.service_ranges[0].address(1)}, set()
    for service in server.store.list(SERVICES):
        spec = service["spec"]
        if spec["type"] != "ExternalName":
            addresses |= {parsed.address for ip in spec["clusterIPs"] if (parsed := parse_sloppy_ip(ip))}
            ports |= {port["nodePort"] for port in spec.get("ports", ()) if "nodePort" in port}
            ports |= {spec["healthCheckNodePort"]} if "healthCheckNodePort" in spec else set()
    recorded = {key for key in server.store.records if key.startswith(("nodeports/", IP_ADDRESSES.prefix))}
    assert recorded == {f"nodeports/{port}" for port in ports} | {IP_ADDRESSES.key("", str(ip)) for ip in addresses}


def choices(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


PORTS = choices(
    [{"port": 80}],
    [{"port": 80, "nodePort": 30080}],
    [{"name": "a", "port": 80, "nodePort": 30081}, {"name": "b", "port": 81}],
    [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53}],
)
SPECS = st.fixed_dictionaries(
    {"ports": PORTS},
    optional={
        "type": choices("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Bogus"),
        "externalName": st.just("example.com"),
        "selector": st.just({"app": "x"}),
        "ipFamilyPolicy": choices("SingleStack", "PreferDualStack", "RequireDualStack", None),
        "ipFamilies": choices(["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"], None),
        "clusterIP": choices("None", "10.96.9.9", "FD00:96::9", None),
        "externalTrafficPolicy": choices("Local", "Cluster"),
        "healthCheckNodePort": choices(30080, 30100, None),
        "allocateLoadBalancerNodePorts": choices(True, False, None),
    },
).map(lambda spec: {key: value for key, value in spec.items() if value is not None})
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "ports": PORTS,
        "type": choices("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "externalName": st.just("example.com"),
        "ipFamilyPolicy": choices("SingleStack", "PreferDualStack", "RequireDualStack"),
        "ipFamilies": choices(None, ["IPv4"], ["IPv6"]),
        "clusterIP": choices(None, "None", "10.96.9.8"),
        "clusterIPs": choices(None, ["10.96.9.8", "fd00:96::8"]),
        "externalTrafficPolicy": choices("Local", "Cluster", None),
        "healthCheckNodePort": choices(None, 30101),
    },
)
NAMES = choices("one", "two", "three")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), NAMES, SPECS),
        st.tuples(st.just("update"), NAMES, SPECS),
        st.tuples(st.just("patch"), NAMES, PATCHES),
        st.tuples(st.just("delete"), NAMES, st.none()),
    ),
    max_size=12,
)


@pytest.mark.parametrize("config", RANGES)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_no_sequence_of_writes_leaks(config: str, steps: list[tuple[str, str, Any]]) -> None:
    server = Server(config)
    for verb, name, argument in steps:
        exists = server.store.get(SERVICES, "default", name) is not None
        if exists == (verb == "create"):
            continue
        try:
            match verb:
                case "create":
                    server.create(body(name, json.loads(json.dumps(argument))))
                case "update":
                    server.update(name, body(name, json.loads(json.dumps(argument))))
                case "patch":
                    server.patch(name, {"spec": json.loads(json.dumps(argument))})
                case "delete":
                    server.delete(name)
        except StatusError:
            pass  # refused for a reason that other tests look at
        assert_nothing_lost(server)


@pytest.mark.parametrize("config", RANGES)
@settings(max_examples=60, deadline=None)
@given(spec=SPECS)
def test_sending_it_again_changes_nothing(config: str, spec: JSON) -> None:
    """Neither the stored object nor the first manifest; but a PUT may not name fewer families than there are."""
    server = Server(config)
    try:
        created = server.create(body("web", json.loads(json.dumps(spec))))
    except StatusError:
        return
    stored = json.loads(json.dumps(created))
    assert server.update("web", json.loads(json.dumps(created)))["spec"] == stored["spec"]
    named = spec.get("ipFamilies", [])
    if 0 < len(named) < len(stored["spec"].get("ipFamilies", [])):
        with pytest.raises(StatusError, match="must be 'SingleStack' to release the secondary IP family"):
            server.update("web", body("web", spec))
    else:
        assert server.update("web", body("web", spec))["spec"] == stored["spec"]
    assert_nothing_lost(server)


def test_a_refused_write_takes_nothing() -> None:
    """The bad port is found after the address was planned."""
    server = Server("dual46")
    with pytest.raises(StatusError, match="must be between 1 and 65535"):
        server.create(body("web", {"ports": [{"port": 0}], "ipFamilyPolicy": "RequireDualStack"}))
    assert_nothing_lost(server)


def test_inputs_are_left_as_they_were() -> None:
    """A write that lost a race is planned again from the same object."""
    server = Server("dual46")
    server.create(body("web", {"ports": [{"port": 80}]}))
    old = server.store.get(SERVICES, "default", "web")
    assert old
    new = json.loads(json.dumps(old))
    new["spec"] |= {"ipFamilyPolicy": "PreferDualStack", "type": "NodePort"}
    server.strategy.default(new)
    before = json.dumps([old, new])
    change = server.strategy.update(server.context("web"), new, old)
    assert len(change.also) == 2  # an address and a node port
    assert json.dumps([old, new]) == before


def test_a_record_that_somebody_deleted_does_not_hold_up_the_service() -> None:
    server = Server("v4")
    created = server.create(body("web", {"ports": [{"port": 80}]}))
    server.store.commit([Delete(IP_ADDRESSES.key("", created["spec"]["clusterIP"]), None)])
    server.delete("web")
    assert_nothing_lost(server)


def test_a_record_that_has_another_owner_by_now_is_not_released() -> None:
    server = Server("v4")
    created = server.create(body("web", {"ports": [{"port": 80}]}))
    ip = created["spec"]["clusterIP"]
    server.store.commit([Delete(IP_ADDRESSES.key("", ip), None)])
    server.create(body("other", {"ports": [{"port": 80}], "clusterIP": ip}))
    server.delete("web")
    assert server.store.exists(IP_ADDRESSES.key("", ip))
    assert_nothing_lost(server)


def test_names_and_labels_are_judged_with_the_spec() -> None:
    server = Server("v4")
    with pytest.raises(StatusError) as caught:
        server.create(body("Bad.Name", {"ports": []}, labels={"a": "b c"}))
    fields = [cause["field"] for cause in caught.value.status()["details"]["causes"]]
    assert fields == ["metadata.name", "metadata.labels", "spec.ports"]
    server.create(body("web", {"ports": [{"port": 80}]}))
    with pytest.raises(StatusError) as caught:
        server.patch("web", {"metadata": {"labels": {"a": "b c"}}, "spec": {"ports": []}})
    fields = [cause["field"] for cause in caught.value.status()["details"]["causes"]]
    assert fields == ["metadata.labels"] * 3 + ["spec.ports"]


def test_the_status_belongs_to_status_updates() -> None:
    server = Server("dual46")
    ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    created = server.create(body("web", {"ports": [{"port": 80}], "type": "LoadBalancer"}) | {"status": ingress})
    assert created["status"] == {"loadBalancer": {}}
    shown = server.patch(
        "web", {"metadata": {"labels": {"a": "b"}}, "status": ingress, "spec": {"ports": []}}, status=True
    )
    assert shown["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
    assert shown["spec"] == created["spec"]
    assert shown["metadata"]["labels"] == {"a": "b"}
    kept = server.patch("web", {"spec": {"externalTrafficPolicy": "Local"}})
    assert kept["status"] == shown["status"]
    left = server.patch("web", {"spec": {"type": "NodePort"}})
    assert left["status"] == {"loadBalancer": {}}
    assert_nothing_lost(server)


def test_dry_runs_show_stand_ins_and_take_nothing() -> None:
    server = Server("dual46")
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    spec: JSON = {"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "ports": ports}
    spec["externalTrafficPolicy"] = "Local"
    shown = server.create(body("web", spec), dry_run=True)["spec"]
    assert shown["clusterIPs"] == ["10.96.0.0", "fd00:96::"]
    assert [port["nodePort"] for port in shown["ports"]] == [32769, 32770]
    assert shown["healthCheckNodePort"] == 32771
    assert_nothing_lost(server)


@pytest.mark.parametrize(
    ("spec", "refusal"),
    [
        ({"clusterIP": "10.96.9.9"}, None),  # taken, but a dry run does not look
        (
            {"clusterIP": "192.0.2.1"},
            "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}, "provided port is already allocated"),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 99}]}, None),
    ],
)
def test_what_dry_runs_notice(spec: JSON, refusal: str | None) -> None:
    server = Server("dual46")
    ports = [{"port": 80, "nodePort": 30080}]
    server.create(body("there", {"type": "NodePort", "clusterIP": "10.96.9.9", "ports": ports}))
    rehearsal = body("web", {"ports": [{"port": 80}]} | spec)
    if refusal is None:
        server.create(rehearsal, dry_run=True)
        return
    with pytest.raises(StatusError) as caught:
        server.create(rehearsal, dry_run=True)
    assert caught.value.message.endswith(refusal)


def test_a_headless_service_that_asks_for_a_second_family_is_told_of_both_mistakes() -> None:
    server = Server("dual46")
    server.create(body("web", {"ports": [{"port": 80}], "clusterIP": "10.96.9.9"}))
    patch = {"clusterIP": "None", "clusterIPs": ["None"], "ipFamilyPolicy": "RequireDualStack"}
    with pytest.raises(StatusError) as caught:
        server.patch("web", {"spec": patch})
    fields = [cause["field"] for cause in caught.value.status()["details"]["causes"]]
    assert fields == ["spec.clusterIPs[0]", "spec.clusterIPs"]
    assert_nothing_lost(server)


def hidden(server: Server) -> bool:
    return any(key.startswith("hiddentrafficpolicies/") for key in server.store.records)


def test_an_external_name_hides_its_internal_traffic_policy_until_a_patch_changes_the_type() -> None:
    server = Server("dual46")
    server.create(body("a", {"ports": [{"port": 80}], "internalTrafficPolicy": "Local"}))
    away: JSON = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
    assert "internalTrafficPolicy" not in server.patch("a", away)["spec"]
    assert "internalTrafficPolicy" not in server.patch("a", {"metadata": {"labels": {"a": "b"}}})["spec"]
    assert server.patch("a", {"spec": {"type": "ClusterIP"}})["spec"]["internalTrafficPolicy"] == "Local"
    assert not hidden(server)


def test_a_put_knows_nothing_of_the_hidden_policy() -> None:
    server = Server("dual46")
    server.create(body("a", {"type": "ExternalName", "externalName": "example.com", "internalTrafficPolicy": "Local"}))
    assert hidden(server)
    shown = server.store.get(SERVICES, "default", "a")
    assert shown
    server.update("a", shown)
    assert not hidden(server)
    backed = server.patch("a", {"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}})
    assert backed["spec"]["internalTrafficPolicy"] == "Cluster"


def test_the_hidden_policy_goes_with_its_service() -> None:
    server = Server("dual46")
    server.create(body("a", {"type": "ExternalName", "externalName": "example.com", "internalTrafficPolicy": "Local"}))
    server.delete("a")
    assert not hidden(server)


def test_a_node_port_outside_the_range_stays_with_a_service_that_named_it_as_external_name() -> None:
    """Nobody judges node ports of ExternalName Services, and later they count as held: so upstream."""
    server = Server("dual46")
    named = {"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80, "nodePort": 99}]}
    server.create(body("a", named))
    assert server.patch("a", {"spec": {"type": "NodePort"}})["spec"]["ports"][0]["nodePort"] == 99
    assert server.patch("a", {"spec": {"type": "ClusterIP"}})["spec"]["type"] == "ClusterIP"
    assert_nothing_lost(server)


@pytest.mark.parametrize(
    ("name", "cluster_ip", "asked", "problem"),
    [
        ("", None, "IP", "Required value"),
        ("a/b", None, "IP", "Invalid value: \"a/b\": may not contain '/'"),
        ("a%b", "10.96.9.9", "IP 10.96.9.9", "Invalid value: \"a%b\": may not contain '%'"),
        ("..", "10.96.9.9", "IP 10.96.9.9", "Invalid value: \"..\": may not be '..'"),
    ],
)
def test_a_name_that_no_record_can_have_is_refused_with_the_address(
    name: str, cluster_ip: str | None, asked: str, problem: str
) -> None:
    """Addresses come before names; a dry run makes no record, and a headless Service needs none."""
    server = Server("v4")
    spec: JSON = {"ports": [{"port": 80}]} | ({"clusterIP": cluster_ip} if cluster_ip else {})
    with pytest.raises(StatusError) as caught:
        server.create(body(name, spec))
    shown = json.dumps([cluster_ip or ""])
    said = caught.value.message
    assert f"spec.clusterIPs: Invalid value: {shown}: failed to allocate {asked}: IPAddress.networking.k8s.io" in said
    assert said.endswith(f" is invalid: spec.parentRef.name: {problem}")
    for other, dry_run in ((spec, True), (spec | {"clusterIP": "None"}, False)):
        with pytest.raises(StatusError, match=r"is invalid: metadata\.name: ") as caught:
            server.create(body(name, dict(other)), dry_run=dry_run)
