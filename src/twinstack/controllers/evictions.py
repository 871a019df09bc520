"""When a Pod must leave a Node that has NoExecute taints (core/v1 Toleration, tolerationSeconds). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from twinstack.api.core import Node, Taint, Toleration
from twinstack.controllers.taints import NO_EXECUTE


def evicting_taints(node: Node) -> list[Taint]:
    """The taints of a Node for which Pods leave it."""
    return [taint for taint in node.spec.taints if taint.effect == NO_EXECUTE]


def leaves_at(tolerations: Iterable[Toleration], taints: Iterable[Taint], since: Callable[[Taint], float]) -> float:
    """The time at which a Pod leaves: infinite when it bears every taint, minus infinity when one not at all.

    `since` gives the time at which a taint was put there. Of several tolerations of a taint the first one counts.
    """
    tolerations = list(tolerations)
    return min((_leaves_for(taint, tolerations, since) for taint in taints), default=math.inf)


def _leaves_for(taint: Taint, tolerations: list[Toleration], since: Callable[[Taint], float]) -> float:
    for toleration in tolerations:
        if toleration.tolerates(taint):
            seconds = toleration.toleration_seconds
            return math.inf if seconds is None else since(taint) + max(seconds, 0)
    return -math.inf
