"""What is stored but not acted on: one sentence a kind, said as a warning whenever somebody writes such an object.

Kinds are not listed that upstream's own components do not act on either (Ingresses want an ingress controller), nor
those that are data for others (PodTemplates). That roles are not enforced is said when the server starts.
"""

from __future__ import annotations

from twinstack.api.resources import Resource

_UNENFORCED = "{} is stored but not enforced by this cluster"
_UNCONTROLLED = "{} is stored, but Twinstack has no controller that acts on it"

_SENTENCES = {
    ("", "limitranges"): _UNENFORCED,
    ("", "persistentvolumeclaims"): _UNCONTROLLED,
    ("", "persistentvolumes"): _UNCONTROLLED,
    ("", "resourcequotas"): _UNENFORCED,
    ("apps", "daemonsets"): _UNCONTROLLED,
    ("apps", "statefulsets"): _UNCONTROLLED,
    ("autoscaling", "horizontalpodautoscalers"): _UNCONTROLLED,
    ("batch", "cronjobs"): _UNCONTROLLED,
    ("batch", "jobs"): _UNCONTROLLED,
    ("certificates.k8s.io", "certificatesigningrequests"): _UNCONTROLLED,
    ("networking.k8s.io", "networkpolicies"): _UNENFORCED,
    ("node.k8s.io", "runtimeclasses"): _UNENFORCED,
    ("policy", "poddisruptionbudgets"): _UNENFORCED,
    ("storage.k8s.io", "csidrivers"): _UNCONTROLLED,
    ("storage.k8s.io", "storageclasses"): _UNCONTROLLED,
    ("storage.k8s.io", "volumeattachments"): _UNCONTROLLED,
    ("storage.k8s.io", "volumeattributesclasses"): _UNCONTROLLED,
}


def warnings(resource: Resource) -> list[str]:
    """About a write of an object of the resource, its subresources apart."""
    sentence = _SENTENCES.get((resource.group, resource.plural))
    return [sentence.format(resource.kind)] if sentence else []
