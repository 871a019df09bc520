"""The mode Node: a kubelet may do what it needs for its own node and the pods bound to it (KEP-279, KEP-4601).

Has no opinion on anybody else, and none on what it does not allow: RBAC may still do so.
"""

from __future__ import annotations

from collections.abc import Callable

from twinstack.api.errors import go_value
from twinstack.server.authorization.decisions import Attributes, Decision, Rules, Verdict
from twinstack.server.authorization.rbac.rules import PolicyRule, Rule
from twinstack.server.messages import UserInfo
from twinstack.server.nodes.graph import NodeGraph, Target
from twinstack.server.nodes.identity import node_of

_ALLOWED = Decision(Verdict.ALLOW)
_NO_OPINION = Decision(Verdict.NO_OPINION)
_READS = ("get", "list", "watch")
_OWN_WRITES = ("get", "create", "update", "patch", "delete")
_LEASES = "kube-node-lease"


def _rule(verbs: str, group: str, resources: str) -> Rule:
    return Rule(PolicyRule(verbs=verbs.split(), api_groups=[group], resources=resources.split()))


# What no node has of its own.
_COMMON = (
    _rule("get list watch", "", "services"),
    _rule("get", "", "endpoints"),
    _rule("create update patch", "", "events"),
    _rule("create update patch", "events.k8s.io", "events"),
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    _rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    _rule("get list watch", "certificates.k8s.io", "clustertrustbundles"),
    _rule("get list watch", "storage.k8s.io", "csidrivers"),
    _rule("get list watch", "node.k8s.io", "runtimeclasses"),
)


class NodeAuthorizer:
    """`authorization.decisions.Authorizer` on a graph that somebody keeps."""

    def __init__(self, graph: NodeGraph) -> None:
        self._graph = graph
        self._special: dict[tuple[str, str], Callable[[str, Attributes], Decision]] = {
            ("", "secrets"): self._read,
            ("", "configmaps"): self._read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): _lease,
            ("storage.k8s.io", "csinodes"): _csi_node,
            ("resource.k8s.io", "resourceslices"): _resource_slice,
            ("", "nodes"): _node,
            ("", "pods"): self._pod,
        }

    def authorize(self, attributes: Attributes) -> Decision:
        node = node_of(attributes.user)
        if node is None:
            return _NO_OPINION
        if not node:
            return _no(f"unknown node for user {go_value(attributes.user.name)}")
        if attributes.resource_request:
            special = self._special.get((attributes.group, attributes.resource))
            if special is not None:
                return special(node, attributes)
        return _ALLOWED if any(rule.allows(attributes) for rule in _COMMON) else _NO_OPINION

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        return Rules(incomplete=True, error="node authorizer does not support user rule resolution")

    def _related(self, node: str, asked: Attributes) -> Decision:
        if not asked.name:
            return _no("No Object name found")
        if self._graph.relates(node, Target(asked.resource, asked.namespace, asked.name)):
            return _ALLOWED
        return _no(f"no relationship found between node '{node}' and this object")

    def _read(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in _READS:
            return _no("can only read resources of this type")
        if asked.subresource:
            return _no("cannot read subresource")
        if not asked.namespace:
            return _no("can only read namespaced object of this type")
        return self._related(node, asked)

    def _get(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return _no("can only get individual resources of this type")
        if asked.subresource:
            return _no("cannot get subresource")
        return self._related(node, asked)

    def _claim(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource != "status":
            return self._get(node, asked)
        if asked.verb not in ("get", "update", "patch"):
            return _no("can only get/update/patch this type")
        return self._related(node, asked)

    def _account(self, node: str, asked: Attributes) -> Decision:
        if asked.verb == "get" and not asked.subresource:
            return self._related(node, asked)
        if asked.verb != "create" or not asked.name:
            return _no("can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return _no("can only create token subresource of serviceaccount")
        return self._related(node, asked)

    def _pod(self, node: str, asked: Attributes) -> Decision:
        match asked.subresource, asked.verb:
            case "", "get":
                return self._related(node, asked)
            case "", "list" | "watch":
                if asked.fields.get("spec.nodeName") == node:
                    return _ALLOWED
                if asked.name:
                    return self._related(node, asked)
                return _no("can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return _ALLOWED  # of its own pods only: NodeRestriction sees to that
        return _NO_OPINION


def _node(node: str, asked: Attributes) -> Decision:
    match asked.subresource, asked.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return _ALLOWED  # itself only: NodeRestriction sees to that
        case "", "get" | "list" | "watch":
            if asked.name == node:
                return _ALLOWED
            if not asked.name:
                return _no(f"node '{node}' cannot read all nodes, only its own Node object")
            return _no(f"node '{node}' cannot read '{asked.name}', only its own Node object")
    return _NO_OPINION


def _lease(node: str, asked: Attributes) -> Decision:
    if asked.verb not in _OWN_WRITES:
        return _no("can only get, create, update, patch, or delete a node lease")
    if asked.namespace != _LEASES:
        return _no(f'can only access leases in the "{_LEASES}" system namespace')
    if asked.verb != "create" and asked.name != node:
        return _no("can only access node lease with the same name as the requesting node")
    return _ALLOWED


def _csi_node(node: str, asked: Attributes) -> Decision:
    if asked.subresource:
        return _no("cannot authorize CSINode subresources")
    if asked.verb not in _OWN_WRITES:
        return _no("can only get, create, update, patch, or delete a CSINode")
    if asked.verb != "create" and asked.name != node:
        return _no("can only access CSINode with the same name as the requesting node")
    return _ALLOWED


def _resource_slice(node: str, asked: Attributes) -> Decision:
    """No slices are served here; a kubelet asks at its start for the removal of its own all the same."""
    if asked.subresource:
        return _no("cannot authorize ResourceSlice subresources")
    if asked.verb == "create" or asked.fields.get("spec.nodeName") == node:
        return _ALLOWED
    if asked.verb in ("list", "watch", "deletecollection"):
        return _no("can only list/watch/deletecollection resourceslices with nodeName field selector")
    return _no(f"no relationship found between node '{node}' and this object")


def _no(reason: str) -> Decision:
    return Decision(Verdict.NO_OPINION, reason)
