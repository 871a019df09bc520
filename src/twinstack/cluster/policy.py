"""Who may do what in a local cluster, beside the default roles: what kubeadm and its controller manager would bind.

The server makes and mends these at its start (`--rbac-manifest`), before it lets anybody in, so no part is ever
refused for being early. A binding of a default name adds its subjects to the default ones.
"""

from __future__ import annotations

import json
from typing import Any

from twinstack.cluster.state import ClusterPaths
from twinstack.pki.files import write_secret

JSON = dict[str, Any]

ADMINS = "kubeadm:cluster-admins"
_GROUP = "rbac.authorization.k8s.io"
_VERSION = f"{_GROUP}/v1"
# Node agents make the routes to the pods of other nodes, so they read all of them, which the mode Node does not grant.
_ROUTES: JSON = {
    "kind": "ClusterRole",
    "apiVersion": _VERSION,
    "metadata": {"name": "twinstack:node-routes"},
    "rules": [{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["nodes"]}],
}
_CONTROLLER_MANAGER: JSON = {"kind": "User", "apiGroup": _GROUP, "name": "system:kube-controller-manager"}
# Upstream's controllers have a service account each; ours are one process and one user, with what these need.
_CONTROLLERS = (
    "certificate-controller",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "namespace-controller",
    "node-controller",
    "pod-garbage-collector",
    "replicaset-controller",
    "replication-controller",
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
    "ttl-controller",
)


def write(own: ClusterPaths) -> None:
    """Lay the file that the server reads."""
    write_secret(own.policy, json.dumps({"kind": "List", "apiVersion": "v1", "items": manifest()}).encode())


def manifest() -> list[JSON]:
    """ClusterRoles and ClusterRoleBindings, each as it is written."""
    return [
        _ROUTES,
        _binding(_ROUTES["metadata"]["name"], _ROUTES["metadata"]["name"], _group("system:nodes")),
        _binding(ADMINS, "cluster-admin", _group(ADMINS)),
        *(_binding(name, name, _CONTROLLER_MANAGER) for name in map("system:controller:{}".format, _CONTROLLERS)),
    ]


def _group(name: str) -> JSON:
    return {"kind": "Group", "apiGroup": _GROUP, "name": name}


def _binding(name: str, role: str, subject: JSON) -> JSON:
    return {
        "kind": "ClusterRoleBinding",
        "apiVersion": _VERSION,
        "metadata": {"name": name},
        "subjects": [subject],
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
    }
