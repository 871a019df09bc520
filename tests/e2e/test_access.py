"""Who may do what in a whole cluster, with unmodified kubectl: its parts, its people, and what they give away."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.cluster import Cluster

NAMESPACE = "access"


@pytest.fixture(scope="module")
def shared(dual: Cluster) -> Iterator[Cluster]:
    """A namespace in which bob may read pods, and carol is its admin."""
    dual.kubectl("create", "namespace", NAMESPACE)
    try:
        dual.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods,pods/log", "-n", NAMESPACE)
        dual.kubectl("create", "rolebinding", "readers", "--role=reader", "--user=bob", "-n", NAMESPACE)
        dual.kubectl("create", "rolebinding", "admins", "--clusterrole=admin", "--user=carol", "-n", NAMESPACE)
        yield dual
    finally:
        dual.kubectl("delete", "namespace", NAMESPACE)


def test_people_are_admins_by_a_binding(dual: Cluster) -> None:
    told = json.loads(dual.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert (told["username"], told["groups"]) == (
        "kubernetes-admin",
        ["kubeadm:cluster-admins", "system:authenticated"],
    )
    assert dual.kubectl("auth", "can-i", "*", "*") == "yes\n"
    assert dual.kubectl("get", "clusterrolebinding", "kubeadm:cluster-admins", "-o", "name")


def test_roles_count_where_they_are_given(shared: Cluster) -> None:
    bob = ("-n", NAMESPACE, "--as", "bob")
    assert shared.kubectl("get", "pods", *bob) == ""
    assert shared.kubectl("auth", "can-i", "list", "pods", *bob) == "yes\n"
    assert shared.kubectl("auth", "can-i", "get", "pods", "--subresource=log", *bob) == "yes\n"
    assert shared.kubectl("auth", "can-i", "delete", "pods", *bob, expect=1) == "no\n"
    refused = shared.kubectl("get", "pods", "--as", "bob", "-n", "default", expect=1)
    assert refused == (
        'Error from server (Forbidden): pods is forbidden: User "bob" cannot list resource "pods" in API group "" '
        'in the namespace "default"\n'
    )
    listed = shared.kubectl("auth", "can-i", "--list", *bob, "--no-headers")
    assert ["pods/log", "[]", "[]", "[get", "list]"] in [line.split() for line in listed.splitlines()]


def test_admins_of_a_namespace_give_what_they_have(shared: Cluster) -> None:
    carol = ("-n", NAMESPACE, "--as", "carol")
    assert shared.kubectl("auth", "can-i", "create", "deployments", *carol) == "yes\n"
    shared.kubectl("create", "rolebinding", "more", "--clusterrole=edit", "--user=dave", *carol)
    refused = shared.kubectl(
        "create", "rolebinding", "most", "--clusterrole=cluster-admin", "--user=dave", *carol, expect=1
    )
    assert "is attempting to grant RBAC permissions not currently held:" in refused
    assert '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}' in refused
    refused = shared.kubectl("create", "role", "nodes", "--verb=get", "--resource=nodes", *carol, expect=1)
    assert refused.endswith('not currently held:\n{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}\n')


def test_nobody_becomes_somebody_else_unasked(shared: Cluster) -> None:
    shared.kubectl("get", "nodes", "--as", "bob", "--as-group", "system:masters")  # an admin may
    kubeconfig = str(shared.paths.kubeconfigs / "proxy.json")
    server = f"https://127.0.0.1:{json.loads(shared.paths.configuration.read_text())['apiPort']}"
    words = ("--kubeconfig", kubeconfig, "--server", server, "get", "services", "-n", NAMESPACE)
    assert shared.kubectl(*words) == ""
    refused = shared.kubectl(*words, "--as", "bob", expect=1)
    assert 'users "bob" is forbidden: User "system:kube-proxy" cannot impersonate resource "users"' in refused


def test_reconcile_adds_what_is_missing(shared: Cluster) -> None:
    role = json.loads(shared.kubectl("get", "role", "reader", "-n", NAMESPACE, "-o", "json"))
    wanted = {key: role[key] for key in ("apiVersion", "kind")} | {
        "metadata": {"name": "reader", "namespace": NAMESPACE}
    }
    wanted["rules"] = [{"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]}]
    told = shared.kubectl("auth", "reconcile", "-f", "-", stdin=json.dumps(wanted))
    assert told.startswith("role.rbac.authorization.k8s.io/reader reconciled")
    assert shared.kubectl("auth", "can-i", "watch", "pods", "-n", NAMESPACE, "--as", "bob") == "yes\n"


def test_no_part_is_refused_anything(dual: Cluster) -> None:
    """With their own identities the parts can do their work: nothing in their logs says otherwise."""
    for log in dual.paths.logs.glob("*.log"):
        assert "forbidden" not in log.read_text(), log
