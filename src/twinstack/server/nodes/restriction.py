"""Admission plugin NodeRestriction: a node writes to itself and its own Pods, and to nothing else (KEP-279, by
behaviour). Refusals are StatusErrors 403."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from twinstack.api.errors import StatusError, forbidden, go_value, not_found
from twinstack.api.nodelabels import is_restricted
from twinstack.api.resources import resource
from twinstack.server.admission import Attempt
from twinstack.server.messages import Route, UserInfo
from twinstack.server.nodes import references
from twinstack.server.nodes.identity import PREFIX, node_of
from twinstack.server.strategy.base import Reader

JSON = dict[str, Any]

MIRROR = "kubernetes.io/config.mirror"
PODS = resource("", "pods")
NODES = resource("", "nodes")
_LEASES = "kube-node-lease"
_NODE_SIGNERS = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving")


class NodeRestriction:
    """`admission.Check` of every write that a node makes. Also raises 404, for what such a write rests on."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __call__(self, attempt: Attempt) -> None:
        node = node_of(attempt.user)
        if node is None:
            return
        route = attempt.route
        problem = "" if node else f"could not determine node from user {go_value(attempt.user.name)}"
        match route.resource.plural, route.resource.group:
            case _ if problem:
                pass
            case "pods", "":
                problem = _pod(self._reader, node, attempt)
            case "nodes", "":
                problem = _node(node, attempt)
            case "persistentvolumeclaims", "":
                problem = "" if route.subresource == "status" else "may only update PVC status"
            case "leases", "coordination.k8s.io":
                problem = _lease(node, attempt)
            case "csinodes", "storage.k8s.io":
                if attempt.name != node:
                    problem = "can only access CSINode with the same name as the requesting node"
            case "certificatesigningrequests", "certificates.k8s.io":
                problem = _signing_request(node, attempt)
        if problem:
            raise _refusal(route, attempt.name, problem)


def check_token_request(reader: Reader, user: UserInfo, route: Route, ref: JSON | None, audiences: list[str]) -> None:
    """A node asks for tokens of its own Pods' accounts, bound to the Pod, for those whom the Pod names."""
    node = node_of(user)
    if node is None:
        return
    problem = ""
    ref = ref or {}
    if ref.get("apiVersion") != "v1" or ref.get("kind") != "Pod" or not ref.get("name"):
        problem = "node requested token not bound to a pod"
    elif not ref.get("uid"):
        problem = "node requested token with a pod binding without a uid"
    if problem:
        raise _refusal(route, route.name, problem)
    pod = reader.get(PODS, route.namespace, ref["name"])
    if pod is None:
        raise not_found("pods", ref["name"])
    wanted = audiences[0] if audiences else ""
    if pod["metadata"]["uid"] != ref["uid"]:
        problem = (
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
    elif pod["spec"].get("nodeName") != node:
        problem = "node requested token bound to a pod scheduled on a different node"
    elif len(audiences) > 1:
        problem = "node may only request 0 or 1 audiences"
    elif wanted not in references.token_audiences(pod["spec"]):
        problem = (
            f"audience {go_value(wanted)} not found in pod spec volume, "
            f"{user.name} is not authorized to request tokens for this audience"
        )
    if problem:
        raise _refusal(route, route.name, problem)


def _pod(reader: Reader, node: str, attempt: Attempt) -> str:
    shown, subresource, operation = go_value(node), attempt.route.subresource, _operation(attempt)
    stored = (attempt.old or {}).get("spec", {}).get("nodeName", "")
    match subresource, operation:
        case "", "CREATE":
            return _mirror_pod(reader, node, attempt.new or {})
        case "", "DELETE":
            return "" if stored == node else f"node {shown} can only delete pods with spec.nodeName set to itself"
        case "", _:
            return f"unexpected operation {go_value(operation)}, node {shown} can only create and delete mirror pods"
        case "status", "UPDATE":
            if stored != node:
                return f"node {shown} can only update pod status for pods with spec.nodeName set to itself"
            same = _labels(attempt.new) == _labels(attempt.old)
            return "" if same else f"node {shown} cannot update labels through pod status"
        case "eviction", _:
            return "" if stored == node else f"node {node} can only evict pods with spec.nodeName set to itself"
        case "status", _:
            return f"unexpected operation {go_value(operation)}"
    return f"unexpected pod subresource {go_value(subresource)}, only 'status' and 'eviction' are allowed"


def _mirror_pod(reader: Reader, node: str, pod: JSON) -> str:
    """A node makes Pods only to show those that it runs from its own files."""
    shown, spec = go_value(node), pod.get("spec") or {}
    if MIRROR not in (pod["metadata"].get("annotations") or {}):
        return f'pod does not have "{MIRROR}" annotation, node {shown} can only create mirror pods'
    if spec.get("nodeName") != node:
        return f"node {shown} can only create pods with spec.nodeName set to itself"
    problem = _owner_problem(reader, node, pod["metadata"].get("ownerReferences") or [])
    if problem:
        return problem
    what = ""
    if spec.get("serviceAccountName"):
        what = "a service account"
    elif any(True for _ in references.secrets(spec)):
        what = "secrets"
    elif any(True for _ in references.config_maps(spec)):
        what = "configmaps"
    elif any(True for _ in references.token_audiences(spec)):
        what = "service account tokens"
    elif any(True for _ in references.claims(pod)):
        what = "persistentvolumeclaims"
    elif spec.get("resourceClaims"):
        what = "resourceclaims"
    return f"node {shown} can not create pods that reference {what}" if what else ""


def _owner_problem(reader: Reader, node: str, owners: list[JSON]) -> str:
    shown = go_value(node)
    if len(owners) > 1:
        return f"node {shown} can only create pods with a single owner reference set to itself"
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        return f"node {shown} can only create pods with an owner reference set to itself"
    if not owner.get("controller"):
        return f"node {shown} can only create pods with a controller owner reference set to itself"
    if owner.get("blockOwnerDeletion"):
        return f"node {shown} must not set blockOwnerDeletion on an owner reference"
    stored = reader.get(NODES, "", node)
    if stored is None:
        raise not_found("nodes", node)
    uid = stored["metadata"]["uid"]
    return "" if owner.get("uid") == uid else f"node {node} UID mismatch: expected {uid} got {owner.get('uid', '')}"


def _node(node: str, attempt: Attempt) -> str:
    shown, new, old = go_value(node), attempt.new, attempt.old
    if attempt.name != node:
        return f"node {shown} is not allowed to modify node {go_value(attempt.name)}"
    if new is None:
        return ""
    refused = ", ".join(sorted(filter(is_restricted, _changed(_labels(new), _labels(old)))))
    spec = new.get("spec") or {}
    if old is None:
        if spec.get("configSource"):
            return f"node {shown} is not allowed to create pods with a non-nil configSource"
        return f"node {shown} is not allowed to set the following labels: {refused}" if refused else ""
    stored = old.get("spec") or {}
    if not attempt.route.subresource and (spec.get("taints") or []) != (stored.get("taints") or []):
        return f"node {shown} is not allowed to modify taints"
    if refused:
        return f"is not allowed to modify labels: {refused}"
    owners, owned = (each["metadata"].get("ownerReferences") or [] for each in (new, old))
    return "" if owners == owned else f"node {shown} is not allowed to modify ownerReferences"


def _lease(node: str, attempt: Attempt) -> str:
    if attempt.route.namespace != _LEASES:
        return f'can only access leases in the "{_LEASES}" system namespace'
    if attempt.name != node:
        return "can only access node lease with the same name as the requesting node"
    return ""


def _signing_request(node: str, attempt: Attempt) -> str:
    """A node asks for certificates that name itself."""
    spec = (attempt.new or {}).get("spec") or {}
    if attempt.old is not None or spec.get("signerName") not in _NODE_SIGNERS:
        return ""
    from cryptography import x509  # heavy, and rarely needed
    from cryptography.x509.oid import NameOID

    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or ""))
    except ValueError as error:
        return f"unable to parse csr: {error}"
    names = [attribute.value for attribute in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names[-1:] == [f"{PREFIX}{node}"]:
        return ""
    return f"can only create a node CSR with CN={PREFIX}{node}"


def _changed(new: Mapping[str, str], old: Mapping[str, str]) -> Iterable[str]:
    return (key for key in new.keys() | old.keys() if new.get(key) != old.get(key))


def _labels(obj: JSON | None) -> Mapping[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _operation(attempt: Attempt) -> str:
    if attempt.old is None:
        return "CREATE"
    return "DELETE" if attempt.new is None else "UPDATE"


def _refusal(route: Route, name: str, problem: str) -> StatusError:
    return forbidden(route.resource.plural, name, problem, route.resource.group)
