"""Where a Pod may go for the sake of other Pods: required and preferred pod affinity and anti-affinity. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from twinstack.api.core import Node, Pod
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import Footprint
from twinstack.scheduler.terms import NamespaceLabels, Term, preferred_terms, required_terms

AFFINITY = Refusal(("node(s) didn't match pod affinity rules",), resolvable=False)
ANTI_AFFINITY = Refusal(("node(s) didn't match pod anti-affinity rules",))
OTHERS = Refusal(("node(s) didn't satisfy existing pods anti-affinity rules",))

Domain = tuple[str, str]  # topology key, its value on a node


class Neighbours:
    """What the Pods that are placed mean for one that is not; made anew for each decision."""

    def __init__(
        self, pod: Pod, taken: Footprint, nodes: Mapping[str, Node], loads: Loads, namespaces: NamespaceLabels
    ) -> None:
        self._nodes = nodes
        self._loads = loads
        self._namespaces = namespaces
        self._wants = required_terms(pod, "podAffinity")
        self._repelled = {
            domain
            for node, other in loads.repelling()
            for term in other.repels
            if term.selects(taken.namespace, taken.labels, namespaces)
            for domain in self._domain(term, node)
        }
        self._avoided = {domain for term in taken.repels for domain in self._domains(term)}
        self._wanted = self._domains_of_all() if self._wants else Counter[Domain]()
        # The first of a group that wants to be with its own kind may go anywhere.
        self._is_first = not self._wanted and all(
            term.selects(taken.namespace, taken.labels, namespaces) for term in self._wants
        )
        self._preferred = self._weigh(pod)

    def refusal(self, node: Node) -> Refusal | None:
        """Why not there, on account of others."""
        labels = node.metadata.labels
        for term in self._wants:
            value = labels.get(term.topology_key)
            if value is None or not (self._is_first or self._wanted[term.topology_key, value]):
                return AFFINITY
        if any(labels.get(key) == value for key, value in self._avoided):
            return ANTI_AFFINITY
        if any(labels.get(key) == value for key, value in self._repelled):
            return OTHERS
        return None

    def preference(self, node: Node) -> int:
        """The sum of the weights of those preferred or, negative, not preferred."""
        labels = node.metadata.labels
        return sum(weight for (key, value), weight in self._preferred.items() if labels.get(key) == value)

    def _domains_of_all(self) -> Counter[Domain]:
        """The domains of the Pods that every term selects."""
        domains: Counter[Domain] = Counter()
        first, *rest = self._wants
        for node, other in self._selected(first):
            if all(term.selects(other.namespace, other.labels, self._namespaces) for term in rest):
                for term in self._wants:
                    domains.update(self._domain(term, node))
        return domains

    def _weigh(self, pod: Pod) -> Counter[Domain]:
        weights: Counter[Domain] = Counter()
        for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
            for weight, term in preferred_terms(pod, kind):
                for domain in self._domains(term):
                    weights[domain] += sign * weight
        return weights

    def _domains(self, term: Term) -> Iterator[Domain]:
        """One for each Pod that the term selects."""
        for node, _ in self._selected(term):
            yield from self._domain(term, node)

    def _selected(self, term: Term) -> Iterator[tuple[str, Footprint]]:
        for namespace in self._loads.namespaces():
            if term.covers(namespace, self._namespaces):
                for node, other in self._loads.in_namespace(namespace):
                    if term.selector.matches(other.labels):
                        yield node, other

    def _domain(self, term: Term, node: str) -> tuple[Domain, ...]:
        known = self._nodes.get(node)
        value = known.metadata.labels.get(term.topology_key) if known is not None else None
        return ((term.topology_key, value),) if value is not None else ()
