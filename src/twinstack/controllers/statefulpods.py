"""The Pods of a StatefulSet: each with a number, and a name, host name and claims that follow from it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.apps import StatefulSet
from twinstack.api.core import Pod, PodTemplateSpec
from twinstack.controllers.ownedpods import pod_metadata
from twinstack.controllers.owners import reference_to

REVISION_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
HASH_LABEL = "controller.kubernetes.io/hash"  # of ControllerRevisions


def ordinal_of(owner: StatefulSet, pod: Pod) -> int:
    """The number in the name of a Pod; -1 when the name is none of this set's."""
    parent, _, text = pod.metadata.name.rpartition("-")
    return int(text) if parent == owner.metadata.name and text.isdecimal() and str(int(text)) == text else -1


def pod_name(owner: StatefulSet, ordinal: int) -> str:
    return f"{owner.metadata.name}-{ordinal}"


def identity(owner: StatefulSet, ordinal: int) -> dict[str, str]:
    """The labels by which one Pod is told from the others."""
    return {NAME_LABEL: pod_name(owner, ordinal), INDEX_LABEL: str(ordinal)}


def pod_body(owner: StatefulSet, ordinal: int, template: PodTemplateSpec, revision: str) -> dict[str, Any]:
    """The Pod with a number, of a template that `revision` names."""
    name, metadata = pod_name(owner, ordinal), pod_metadata(owner, template)
    labels = metadata.get("labels", {}) | identity(owner, ordinal) | {REVISION_LABEL: revision}
    spec = template.spec | {"hostname": name}
    if owner.spec.service_name:
        spec["subdomain"] = owner.spec.service_name
    claims = {
        template["metadata"]["name"]: claim_name(template, name) for template in owner.spec.volume_claim_templates
    }
    if claims:
        volumes = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
        spec["volumes"] = volumes + [
            {"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, claim in claims.items()
        ]
    return {"metadata": metadata | {"name": name, "labels": labels}, "spec": spec}


def claim_name(template: dict[str, Any], pod: str) -> str:
    return f"{template['metadata']['name']}-{pod}"


def claim_bodies(owner: StatefulSet, ordinal: int) -> list[dict[str, Any]]:
    """The claims of a Pod. They outlive it, and the set too unless it says otherwise (KEP-1847)."""
    selected = owner.spec.selector.match_labels if owner.spec.selector is not None else {}
    found = []
    for template in owner.spec.volume_claim_templates:
        metadata: dict[str, Any] = {
            "name": claim_name(template, pod_name(owner, ordinal)),
            "namespace": owner.metadata.namespace,
            "labels": (template["metadata"].get("labels") or {}) | selected,
        }
        if template["metadata"].get("annotations"):
            metadata["annotations"] = template["metadata"]["annotations"]
        if owner.spec.persistent_volume_claim_retention_policy.get("whenDeleted") == "Delete":
            metadata["ownerReferences"] = [msgspec.to_builtins(reference_to(owner))]
        found.append({"metadata": metadata, "spec": template["spec"]})
    return found
