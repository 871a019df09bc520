"""Which Pods a Service selects, and which Services select a Pod: each costs what it finds, not what there is."""

from __future__ import annotations

from collections.abc import Iterator

from twinstack.api.core import Pod, Service
from twinstack.client.informer import Informer
from twinstack.controllers.podstate import is_ready


def is_served(service: Service) -> bool:
    """Whether Pods become endpoints of a Service at all."""
    return service.spec.type != "ExternalName" and bool(service.spec.selector)


class ServicePods:
    """Follows Services and Pods. One is shared by the controllers that make endpoints of them."""

    def __init__(self, services: Informer[Service], pods: Informer[Pod]) -> None:
        self._pods_by_label = pods.index(_labels)
        self._services_by_label = services.index(_first_selector)

    def services_of(self, pod: Pod) -> Iterator[str]:
        """The keys of the Services that select a Pod and get endpoints."""
        for label in _labels(pod):
            for service in self._services_by_label[label].values():
                if is_served(service) and _selects(service, pod):
                    yield service.key

    def pods_of(self, service: Service) -> list[Pod]:
        """The Pods that a Service with a selector selects."""
        namespace, selector = service.metadata.namespace, service.spec.selector or {}
        fewest = min((self._pods_by_label[_label(namespace, name, value)] for name, value in selector.items()), key=len)
        return [pod for pod in fewest.values() if _selects(service, pod)]

    def touched(self, old: Pod | None, new: Pod | None) -> set[str]:
        """The keys of the Services to which a change of a Pod matters."""
        if old is not None and new is not None and _same_endpoint(old, new):
            return set()
        return {key for pod in (old, new) if pod is not None for key in self.services_of(pod)}


def _label(namespace: str, name: str, value: str) -> str:
    return f"{namespace}/{name}={value}"


def _labels(pod: Pod) -> list[str]:
    meta = pod.metadata
    return [_label(meta.namespace, name, value) for name, value in meta.labels.items()]


def _first_selector(service: Service) -> list[str]:
    """One label that every selected Pod carries: enough to find the Services that may select a Pod."""
    selector = service.spec.selector
    return [_label(service.metadata.namespace, *next(iter(selector.items())))] if selector else []


def _selects(service: Service, pod: Pod) -> bool:
    labels = pod.metadata.labels
    return all(labels.get(name) == value for name, value in (service.spec.selector or {}).items())


def _same_endpoint(old: Pod, new: Pod) -> bool:
    """Whether nothing changed that an endpoint is made of. A Pod's spec is fixed once it runs."""
    return (
        old.metadata.uid == new.metadata.uid
        and old.metadata.labels == new.metadata.labels
        and old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        and old.spec.node_name == new.spec.node_name
        and old.status.phase == new.status.phase
        and old.status.pod_ips == new.status.pod_ips
        and is_ready(old) == is_ready(new)
    )
