"""What is stored but not acted on: one sentence a kind, said as a warning whenever somebody writes such an object.

What the server itself would have to enforce is known here. Which other kinds have nobody who acts on them is known to
who starts the cluster's parts, who says it with `--unacted-resources`.
"""

from __future__ import annotations

from collections.abc import Set

from twinstack.api.resources import Resource

_UNENFORCED = "{} is stored but not enforced by this cluster"
_UNCONTROLLED = "{} is stored, but this cluster has no controller that acts on it"

_POLICIES = frozenset({"networkpolicies.networking.k8s.io"})
_OWN = frozenset(
    {
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "runtimeclasses.node.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)


def warnings(resource: Resource, unacted: Set[str]) -> list[str]:
    """About a write of such an object, its subresources apart. `unacted`: `plural.group` of the cluster's."""
    name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    if name in _OWN or (name in _POLICIES and name in unacted):
        return [_UNENFORCED.format(resource.kind)]
    return [_UNCONTROLLED.format(resource.kind)] if name in unacted else []
