"""What nodes may do: the mode Node on its graph, and NodeRestriction."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.server.admission import Attempt
from twinstack.server.authorization.decisions import Attributes
from twinstack.server.messages import Route, UserInfo
from twinstack.server.nodes.authorizer import NodeAuthorizer
from twinstack.server.nodes.graph import NodeGraph, Target
from twinstack.server.nodes.identity import node_of
from twinstack.server.nodes.restriction import MIRROR, NodeRestriction, check_token_request

JSON = dict[str, Any]

N1 = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))
NODES, PODS, ACCOUNTS = (resource("", plural) for plural in ("nodes", "pods", "serviceaccounts"))
LEASES = resource("coordination.k8s.io", "leases")
CSRS = resource("certificates.k8s.io", "certificatesigningrequests")
TOKEN_VOLUME = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}


def pod(name: str, node: str = "n1", **spec: Any) -> JSON:
    return {"metadata": {"name": name, "namespace": "ns", "uid": f"u-{name}"}, "spec": {"nodeName": node, **spec}}


def stored(obj: JSON) -> bytes:
    return json.dumps(obj).encode()


RICH = pod(
    "rich",
    serviceAccountName="robot",
    imagePullSecrets=[{"name": "pull"}],
    containers=[
        {
            "name": "c",
            "envFrom": [{"configMapRef": {"name": "env"}}],
            "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}],
        }
    ],
    volumes=[
        {"name": "a", "secret": {"secretName": "files"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "part"}}, {"secret": {"name": "hidden"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "disk"}},
        {"name": "d", "ephemeral": {}},
    ],
)


def test_a_node_knows_what_its_pods_name() -> None:
    graph = NodeGraph()
    graph.put_pod("pods/ns/rich", stored(RICH))
    known = {
        "pods": ("rich",),
        "serviceaccounts": ("robot",),
        "secrets": ("pull", "key", "files", "hidden"),
        "configmaps": ("env", "part"),
        "persistentvolumeclaims": ("disk", "rich-d"),
    }
    for plural, names in known.items():
        for name in names:
            assert graph.relates("n1", Target(plural, "ns", name)), name
            assert not graph.relates("n2", Target(plural, "ns", name))
            assert not graph.relates("n1", Target(plural, "other", name))
    graph.put_pod("pods/ns/more", stored(pod("more", serviceAccountName="robot")))
    graph.drop("pods/ns/rich")
    assert graph.relates("n1", Target("serviceaccounts", "ns", "robot"))
    graph.drop("pods/ns/more")
    assert not graph.relates("n1", Target("serviceaccounts", "ns", "robot"))
    assert not graph._starts, "nothing is left of what is gone"


def test_volumes_belong_to_whose_claims_they_are() -> None:
    graph = NodeGraph()
    csi = {"nodeStageSecretRef": {"name": "stage", "namespace": "storage"}}
    volume = {"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "ns", "name": "disk"}, "csi": csi}}
    graph.put_volume("persistentvolumes/pv", stored(volume))
    targets = (Target("persistentvolumes", "", "pv"), Target("secrets", "storage", "stage"))
    assert not any(graph.relates("n1", target) for target in targets)
    graph.put_pod("pods/ns/rich", stored(RICH))
    assert all(graph.relates("n1", target) for target in targets)
    graph.drop("persistentvolumes/pv")
    assert not any(graph.relates("n1", target) for target in targets)


def test_a_pod_that_moves_takes_its_things_along_and_a_mirror_gives_nothing() -> None:
    graph = NodeGraph()
    graph.put_pod("pods/ns/p", stored(pod("p", "", serviceAccountName="robot")))
    account = Target("serviceaccounts", "ns", "robot")
    assert not graph.relates("", account)
    for node in ("n1", "n2"):
        graph.put_pod("pods/ns/p", stored(pod("p", node, serviceAccountName="robot")))
        assert graph.relates(node, account)
    assert not graph.relates("n1", account)
    mirror = pod("m", serviceAccountName="robot")
    mirror["metadata"]["annotations"] = {MIRROR: "x"}
    graph.put_pod("pods/ns/m", stored(mirror))
    assert graph.relates("n1", Target("pods", "ns", "m"))
    assert not graph.relates("n1", account)


def asked(verb: str, path: str, group: str = "", name: str = "", namespace: str = "ns", **fields: str) -> Attributes:
    plural, _, subresource = path.partition("/")
    return Attributes(
        user=N1,
        verb=verb,
        group=group,
        resource=plural,
        subresource=subresource,
        namespace=namespace,
        name=name,
        fields={key.replace("_", "."): value for key, value in fields.items()},
    )


NOT_RELATED = "no relationship found between node 'n1' and this object"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (asked("get", "pods", name="rich"), None),
        (asked("get", "pods", name="other"), NOT_RELATED),
        (asked("list", "pods", namespace="", spec_nodeName="n1"), None),
        (asked("list", "pods", namespace="", spec_nodeName="n2"), "can only list/watch pods with spec.nodeName field"),
        (asked("create", "pods"), None),
        (asked("patch", "pods/status", name="other"), None),  # NodeRestriction looks at the pod
        (asked("create", "pods/exec", name="rich"), ""),
        (asked("get", "secrets", name="files"), None),
        (asked("watch", "secrets", name="files"), None),
        (asked("list", "secrets"), "No Object name found"),
        (asked("delete", "secrets", name="files"), "can only read resources of this type"),
        (asked("get", "configmaps", name="none"), NOT_RELATED),
        (asked("get", "nodes", name="n1", namespace=""), None),
        (asked("get", "nodes", name="n2", namespace=""), "node 'n1' cannot read 'n2', only its own Node object"),
        (asked("list", "nodes", namespace=""), "node 'n1' cannot read all nodes, only its own Node object"),
        (asked("delete", "nodes", name="n1", namespace=""), ""),
        (asked("create", "serviceaccounts/token", name="robot"), None),
        (asked("create", "serviceaccounts/token", name="default"), NOT_RELATED),
        (asked("create", "serviceaccounts"), "can only create tokens for individual service accounts"),
        (asked("update", "leases", "coordination.k8s.io", "n1", "kube-node-lease"), None),
        (asked("update", "leases", "coordination.k8s.io", "n2", "kube-node-lease"), "with the same name as"),
        (asked("get", "leases", "coordination.k8s.io", "n1"), 'can only access leases in the "kube-node-lease" system'),
        (asked("get", "csinodes", "storage.k8s.io", "n2", ""), "can only access CSINode with the same name"),
        (asked("get", "persistentvolumes", name="pv", namespace=""), NOT_RELATED),
        (asked("list", "persistentvolumes", namespace=""), "can only get individual resources of this type"),
        (asked("list", "services", namespace=""), None),
        (asked("create", "events"), None),
        (asked("create", "subjectaccessreviews", "authorization.k8s.io", namespace=""), None),
        (asked("create", "services"), ""),
    ],
)
def test_the_mode_node(question: Attributes, reason: str | None) -> None:
    graph = NodeGraph()
    graph.put_pod("pods/ns/rich", stored(RICH))
    decision = NodeAuthorizer(graph).authorize(question)
    assert decision.allowed is (reason is None)
    assert (reason or "") in decision.reason
    stranger = NodeAuthorizer(graph).authorize(Attributes(user=UserInfo("system:node:n1"), verb="list"))
    assert not stranger.allowed, "only members of the group are nodes"


def test_who_is_a_node() -> None:
    assert node_of(N1) == "n1"
    assert node_of(UserInfo("system:node:n1")) is None
    assert node_of(UserInfo("n1", ("system:nodes",))) is None
    assert node_of(UserInfo("system:node:", ("system:nodes",))) == ""


class Objects:
    """A `Reader` of a few objects."""

    def __init__(self, *objects: tuple[Resource, JSON]) -> None:
        self._objects = {(row.plural, obj["metadata"]["name"]): obj for row, obj in objects}

    def get(self, resource: Resource, namespace: str, name: str) -> JSON | None:
        return self._objects.get((resource.plural, name))

    def exists(self, key: str) -> bool:
        return False

    def list(self, resource: Resource, namespace: str = "") -> Iterable[JSON]:
        return ()


NODE = {"metadata": {"name": "n1", "uid": "u-n1"}, "spec": {}}
READER = Objects((NODES, NODE), (PODS, pod("own", volumes=[TOKEN_VOLUME])), (PODS, pod("far", "n2")))


def attempt(row: Resource, new: JSON | None, old: JSON | None = None, namespace: str = "ns", sub: str = "") -> Attempt:
    name = (new or old or {})["metadata"]["name"]
    return Attempt(Route(row, namespace, name if old else "", sub), name, N1, new, old)


def mirror(**changes: Any) -> JSON:
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-n1", "controller": True}
    obj = pod("m", containers=[{"name": "c"}])
    obj["metadata"] |= {"annotations": {MIRROR: "x"}, "ownerReferences": [owner | changes.pop("owner", {})]}
    obj["spec"] |= changes
    return obj


def node(**metadata: Any) -> JSON:
    return {"metadata": {"name": "n1", "uid": "u-n1", **metadata}, "spec": {}}


def refused() -> Iterator[tuple[Attempt, str]]:
    yield attempt(PODS, pod("p")), 'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only'
    yield attempt(PODS, mirror(nodeName="n2")), 'node "n1" can only create pods with spec.nodeName set to itself'
    yield attempt(PODS, mirror(owner={"name": "n2"})), "with an owner reference set to itself"
    yield attempt(PODS, mirror(owner={"controller": False})), "with a controller owner reference set to itself"
    yield attempt(PODS, mirror(owner={"uid": "x"})), "node n1 UID mismatch: expected u-n1 got x"
    yield attempt(PODS, mirror(serviceAccountName="a")), "can not create pods that reference a service account"
    yield attempt(PODS, mirror(volumes=RICH["spec"]["volumes"][:1])), "can not create pods that reference secrets"
    yield attempt(PODS, None, pod("far", "n2")), "can only delete pods with spec.nodeName set to itself"
    yield attempt(PODS, pod("own"), pod("own")), 'unexpected operation "UPDATE", node "n1" can only create and delete'
    yield attempt(PODS, pod("far", "n2"), pod("far", "n2"), sub="status"), "can only update pod status for pods with"
    relabelled = pod("own")
    relabelled["metadata"]["labels"] = {"a": "b"}
    yield attempt(PODS, relabelled, pod("own"), sub="status"), "cannot update labels through pod status"
    yield attempt(PODS, pod("far", "n2"), pod("far", "n2"), sub="eviction"), "node n1 can only evict pods with"
    yield attempt(NODES, {"metadata": {"name": "n2"}}), 'node "n1" is not allowed to modify node "n2"'
    labels = {"node-restriction.kubernetes.io/a": "1", "kubernetes.io/b": "1", "kubernetes.io/os": "linux", "c": "1"}
    names = "kubernetes.io/b, node-restriction.kubernetes.io/a"
    yield attempt(NODES, node(labels=labels)), f'node "n1" is not allowed to set the following labels: {names}'
    yield attempt(NODES, node(), node(labels=labels)), f"is not allowed to modify labels: {names}"
    tainted = node() | {"spec": {"taints": [{"key": "k"}]}}
    yield attempt(NODES, tainted, node()), 'node "n1" is not allowed to modify taints'
    lease = {"metadata": {"name": "n2"}}
    yield attempt(LEASES, lease), 'can only access leases in the "kube-node-lease" system namespace'
    yield attempt(LEASES, lease, namespace="kube-node-lease"), "can only access node lease with the same name"
    spec = {"signerName": "kubernetes.io/kubelet-serving", "request": base64.b64encode(b"x").decode()}
    yield attempt(CSRS, {"metadata": {"name": "c"}, "spec": spec}, namespace=""), "unable to parse csr"


@pytest.mark.parametrize(("write", "message"), list(refused()))
def test_node_restriction_refuses(write: Attempt, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        NodeRestriction(READER)(write)
    assert caught.value.code == 403
    assert message in caught.value.message


def test_node_restriction_allows() -> None:
    check = NodeRestriction(READER)
    check(attempt(PODS, mirror()))
    check(attempt(PODS, None, pod("own")))
    check(attempt(PODS, pod("own"), pod("own"), sub="status"))
    check(attempt(NODES, node(labels={"kubernetes.io/hostname": "n1", "x.kubelet.kubernetes.io/y": "1", "own": "1"})))
    check(attempt(NODES, node() | {"spec": {"taints": []}}, node(), sub="status"))
    check(attempt(LEASES, {"metadata": {"name": "n1"}}, namespace="kube-node-lease"))
    admin = Attempt(Route(PODS, "ns"), "p", UserInfo("admin"), pod("p"), None)
    check(admin)


@pytest.mark.parametrize(
    ("ref", "audiences", "message"),
    [
        ({"name": "own", "uid": "u-own"}, [], ""),
        (None, [], "node requested token not bound to a pod"),
        ({"name": "own"}, [], "node requested token with a pod binding without a uid"),
        ({"name": "own", "uid": "other"}, [], "the UID in the bound object reference (other) does not match"),
        ({"name": "far", "uid": "u-far"}, [], "node requested token bound to a pod scheduled on a different node"),
        ({"name": "own", "uid": "u-own"}, ["vault"], 'audience "vault" not found in pod spec volume'),
        ({"name": "own", "uid": "u-own"}, ["a", "b"], "node may only request 0 or 1 audiences"),
        ({"name": "gone", "uid": "x"}, [], 'pods "gone" not found'),
    ],
)
def test_tokens_for_nodes(ref: JSON | None, audiences: list[str], message: str) -> None:
    full = ref and {"apiVersion": "v1", "kind": "Pod", **ref}
    route = Route(ACCOUNTS, "ns", "robot", "token")
    if not message:
        check_token_request(READER, N1, route, full, audiences)
        check_token_request(READER, UserInfo("admin"), route, None, [])
        return
    with pytest.raises(StatusError) as caught:
        check_token_request(READER, N1, route, full, audiences)
    assert message in caught.value.message
