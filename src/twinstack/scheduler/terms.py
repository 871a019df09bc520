"""Which other Pods a term of pod affinity speaks of (core/v1 PodAffinityTerm). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from twinstack.api.core import Pod
from twinstack.api.meta import LabelSelector as TypedSelector
from twinstack.api.selectors import LabelSelector, Operator, Requirement

Labels = Mapping[str, str]
NamespaceLabels = Callable[[str], Labels]  # of a namespace by name

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


class Term(NamedTuple):
    """Pods that `selector` matches, in `namespaces` or in those that `namespace_selector` matches."""

    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector
    topology_key: str

    def selects(self, namespace: str, labels: Labels, namespace_labels: NamespaceLabels) -> bool:
        return self.covers(namespace, namespace_labels) and self.selector.matches(labels)

    def covers(self, namespace: str, namespace_labels: NamespaceLabels) -> bool:
        """Whether it speaks of a namespace at all."""
        return namespace in self.namespaces or self.namespace_selector.matches(namespace_labels(namespace))


def required_terms(pod: Pod, kind: str) -> tuple[Term, ...]:
    """All of them must hold. `kind` is podAffinity or podAntiAffinity."""
    return tuple(_term(entry, pod) for entry in _entries(pod, kind, REQUIRED))


def preferred_terms(pod: Pod, kind: str) -> list[tuple[int, Term]]:
    """With their weights."""
    return [(entry["weight"], _term(entry["podAffinityTerm"], pod)) for entry in _entries(pod, kind, PREFERRED)]


def _entries(pod: Pod, kind: str, when: str) -> Iterable[dict[str, Any]]:
    return ((pod.spec.affinity or {}).get(kind) or {}).get(when) or ()


def _term(entry: dict[str, Any], pod: Pod) -> Term:
    """A term that names no namespaces speaks of the Pod's own."""
    named, selected = entry.get("namespaces") or (), entry.get("namespaceSelector")
    own = (pod.metadata.namespace,) if not named and selected is None else ()
    return Term(
        selector=with_keys(read_selector(entry.get("labelSelector")), pod, entry),
        namespaces=frozenset((*named, *own)),
        namespace_selector=read_selector(selected),
        topology_key=entry["topologyKey"],
    )


def read_selector(entry: dict[str, Any] | None) -> LabelSelector:
    """Nothing selects nothing, an empty one everything."""
    return LabelSelector.from_object(None if entry is None else msgspec.convert(entry, TypedSelector))


def with_keys(selector: LabelSelector, pod: Pod, entry: dict[str, Any]) -> LabelSelector:
    """Only Pods that agree with this one in `matchLabelKeys`, and differ from it in `mismatchLabelKeys` (KEP-3633)."""
    more = [
        Requirement(key, operator, frozenset({pod.metadata.labels[key]}))
        for field, operator in (("matchLabelKeys", Operator.IN), ("mismatchLabelKeys", Operator.NOT_IN))
        for key in entry.get(field) or ()
        if key in pod.metadata.labels
    ]
    return selector.narrowed(more) if more else selector
