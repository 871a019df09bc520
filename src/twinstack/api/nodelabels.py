"""Which labels a node may give itself (KEP-279; k8s.io/kubelet/pkg/apis well-known labels). Pure."""

from __future__ import annotations

from collections.abc import Iterable

_KUBELET_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KUBERNETES_NAMESPACES = ("kubernetes.io", "k8s.io")
_RESTRICTED = ("node-restriction.kubernetes.io",)


def is_restricted(label: str) -> bool:
    """Whether a node may not set a label itself: by such labels Pods are kept away from nodes."""
    namespace = label.rpartition("/")[0]
    if _is_within(namespace, _RESTRICTED):
        return True
    kubelets = label in _KUBELET_LABELS or _is_within(namespace, _KUBELET_NAMESPACES)
    return _is_within(namespace, _KUBERNETES_NAMESPACES) and not kubelets


def _is_within(namespace: str, domains: Iterable[str]) -> bool:
    return any(namespace == domain or namespace.endswith(f".{domain}") for domain in domains)
