"""Defaults of a PodSpec (core/v1), in Pods and in the templates of workloads. In place, on what lacks a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

_FILE_MODE = 0o644
_TOKEN_SECONDS = 3600
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PULL_ALWAYS, _PULL_IF_ABSENT = "Always", "IfNotPresent"


def containers(spec: JSON) -> Iterator[tuple[str, int, JSON]]:
    """(list, index, container) of all three kinds of containers, in the order in which they are checked."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(kind) or []):
            yield kind, i, container


def default_pod_spec(spec: JSON) -> None:
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    _same_service_account(spec)
    for volume in spec.get("volumes") or []:
        _default_volume(volume)
    for kind, _, container in containers(spec):
        _default_container(container, resources=kind != "ephemeralContainers")


def default_host_ports(spec: JSON) -> None:
    """Of a Pod, not of a template: on the host's network each port of a container is a port of the host."""
    if spec.get("hostNetwork"):
        for _, _, container in containers(spec):
            for port in container.get("ports") or []:
                if port.get("containerPort"):
                    port.setdefault("hostPort", port["containerPort"])


def default_requests(spec: JSON) -> None:
    """Of a Pod, not of a template: what is limited and not requested is requested."""
    for _, _, container in containers(spec):
        resources = container.get("resources") or {}
        limits = resources.get("limits")
        if limits:
            resources["requests"] = limits | (resources.get("requests") or {})
    resources = spec.get("resources")
    if resources and resources.get("limits"):
        resources["requests"] = resources["limits"] | (resources.get("requests") or {})


def _same_service_account(spec: JSON) -> None:
    """`serviceAccount` is the old name of `serviceAccountName`; both are always shown."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _default_container(container: JSON, *, resources: bool) -> None:
    if "imagePullPolicy" not in container:
        container["imagePullPolicy"] = _pull_policy(container.get("image") or "")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if resources:
        container.setdefault("resources", {})
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or []:
        _default_field_ref((variable.get("valueFrom") or {}).get("fieldRef"))
    for name in _PROBES:
        if name in container:
            _default_probe(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _default_http_get(handler)


def _pull_policy(image: str) -> str:
    """`Always` for the tag `latest`, said or unsaid; an image named by digest alone never changes."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not name:
        return _PULL_IF_ABSENT
    return _PULL_ALWAYS if tag == "latest" or (not tag and not digest) else _PULL_IF_ABSENT


def _default_probe(probe: JSON) -> None:
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe.setdefault(name, value)
    _default_http_get(probe)
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _default_http_get(handler: JSON) -> None:
    http_get = handler.get("httpGet")
    if http_get is not None:
        http_get.setdefault("path", "/")
        http_get.setdefault("scheme", "HTTP")


def _default_field_ref(reference: JSON | None) -> None:
    if reference is not None:
        reference.setdefault("apiVersion", "v1")


def _default_volume(volume: JSON) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", _FILE_MODE)
    _default_items(volume.get("downwardAPI"))
    for projection in (volume.get("projected") or {}).get("sources") or []:
        _default_items(projection.get("downwardAPI"))
        if "serviceAccountToken" in projection:
            projection["serviceAccountToken"].setdefault("expirationSeconds", _TOKEN_SECONDS)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "image" in volume:
        image = volume["image"]
        image.setdefault("pullPolicy", _pull_policy(image.get("reference") or ""))
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim:
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _default_items(downward: JSON | None) -> None:
    for item in (downward or {}).get("items") or []:
        _default_field_ref(item.get("fieldRef"))
