"""The Pods a Job makes: their names, labels and, of Indexed ones, annotations, host name and environment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinstack.api.batch import Job
from twinstack.controllers import jobindexes
from twinstack.controllers.ownedpods import pod_metadata

FINALIZER = "batch.kubernetes.io/job-tracking"  # until the Pod is counted
_VARIABLE = "JOB_COMPLETION_INDEX"
_LONGEST_HOST_NAME = 63
_LONGEST_PREFIX = 58  # of generateName: five random characters follow


@dataclass(frozen=True)
class Slot:
    """One Pod to make. `index` is None in Jobs that are not Indexed; the counts are of earlier Pods of it."""

    index: int | None = None
    failures: int = 0
    ignored: int = 0


def pod_body(job: Job, slot: Slot) -> dict[str, Any]:
    """The Pod for a slot; the server completes its name."""
    metadata, spec = pod_metadata(job, job.spec.template), job.spec.template.spec
    metadata["finalizers"] = [*metadata.get("finalizers", ()), FINALIZER]
    name = job.metadata.name
    if slot.index is None:
        return {"metadata": metadata | {"generateName": f"{name}-"}, "spec": spec}
    text = str(slot.index)
    own = {jobindexes.INDEX: text}
    annotations = metadata.get("annotations", {}) | own
    if job.spec.backoff_limit_per_index is not None:
        annotations[jobindexes.FAILURES] = str(slot.failures)
        if slot.ignored:
            annotations[jobindexes.IGNORED] = str(slot.ignored)
    metadata |= {
        "annotations": annotations,
        "labels": metadata.get("labels", {}) | own,
        "generateName": f"{name[: _LONGEST_PREFIX - len(text) - 2]}-{text}-",
    }
    named = {"hostname": f"{name[: _LONGEST_HOST_NAME - len(text) - 1]}-{text}"}
    containers = {
        field: [_with_index(container) for container in spec[field]]
        for field in ("containers", "initContainers")
        if spec.get(field)
    }
    return {"metadata": metadata, "spec": named | spec | containers}


def _with_index(container: dict[str, Any]) -> dict[str, Any]:
    environment = container.get("env") or []
    if any(variable["name"] == _VARIABLE for variable in environment):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{jobindexes.INDEX}']"}}
    return container | {"env": [*environment, {"name": _VARIABLE, "valueFrom": source}]}
