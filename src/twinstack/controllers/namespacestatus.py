"""What the status of a namespace says while it is being emptied (core/v1 NamespaceCondition). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from twinstack.api.meta import Condition
from twinstack.controllers.podstate import condition


class Remains(NamedTuple):
    """What is left of one resource: how many objects, and the finalizers of each."""

    number: int
    finalizers: tuple[str, ...] = ()


class Findings(NamedTuple):
    """One round of deletion: what went wrong, by text, and what is left, by `pods.` or `deployments.apps`."""

    undiscovered: Mapping[str, str] = {}  # group version → why its resources are unknown
    failures: Sequence[str] = ()
    remains: Mapping[str, Remains] = {}

    @property
    def is_empty(self) -> bool:
        """Whether the namespace is known to hold nothing."""
        return not (self.undiscovered or self.failures or self.remains)


# type → reason and message while all is well
_WELL = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


def changes(before: Sequence[Condition], findings: Findings, now: str) -> list[Condition]:
    """The conditions to write: those that differ from `before`. `now` is the meta/v1 Time of those that turn."""
    problems = dict(_problems(findings))
    result = []
    for type_, well in _WELL.items():
        status = "True" if type_ in problems else "False"
        reason, message = problems.get(type_, well)
        known = condition(list(before), type_)
        if known is not None and (known.status, known.reason, known.message) == (status, reason, message):
            continue
        turned = known.last_transition_time if known is not None and known.status == status else now
        result.append(Condition(type=type_, status=status, reason=reason, message=message, last_transition_time=turned))
    return result


def _problems(findings: Findings) -> Iterable[tuple[str, tuple[str, str]]]:
    if findings.undiscovered:
        told = ", ".join(f"{group}: {why}" for group, why in sorted(findings.undiscovered.items()))
        message = (
            f"Discovery failed for some groups, {len(findings.undiscovered)} failing: "
            f"unable to retrieve the complete list of server APIs: {told}"
        )
        yield "NamespaceDeletionDiscoveryFailure", ("DiscoveryFailed", message)
    if findings.failures:
        told = ", ".join(sorted(findings.failures))
        message = f"Failed to delete all resource types, {len(findings.failures)} remaining: {told}"
        yield "NamespaceDeletionContentFailure", ("ContentDeletionFailed", message)
    if findings.remains:
        told = ", ".join(
            f"{name} has {left.number} resource instances" for name, left in sorted(findings.remains.items())
        )
        yield "NamespaceContentRemaining", ("SomeResourcesRemain", f"Some resources are remaining: {told}")
    holders = Counter(finalizer for left in findings.remains.values() for finalizer in left.finalizers)
    if holders:
        told = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(holders.items()))
        message = f"Some content in the namespace has finalizers remaining: {told}"
        yield "NamespaceFinalizersRemaining", ("SomeFinalizersRemain", message)
