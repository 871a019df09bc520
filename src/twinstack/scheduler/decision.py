"""Where a Pod goes: the node that fits and carries least, or why none does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from twinstack.api.core import Node, Pod
from twinstack.scheduler.filters import obstacles, tolerated
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.requests import Footprint


class Decision(NamedTuple):
    """The name of the chosen node, or a message for people."""

    node: str | None
    message: str = ""


def decide(pod: Pod, taken: Footprint, nodes: Iterable[Node], loads: Loads) -> Decision:
    """Of the nodes that fit: the fewest preferred-against taints, then Pods of the same owner, then Pods at all."""
    fitting: list[Node] = []
    reasons: Counter[str] = Counter()
    total = 0
    for node in nodes:
        total += 1
        against = obstacles(pod, taken, node, loads[node.metadata.name])
        if against:
            reasons.update(against)
        else:
            fitting.append(node)
    if fitting:
        return Decision(min(fitting, key=lambda node: _cost(pod, taken, node, loads)).metadata.name)
    if total == 0:
        return Decision(None, "no nodes available to schedule pods")
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return Decision(None, f"0/{total} nodes are available: {told}.")


def _cost(pod: Pod, taken: Footprint, node: Node, loads: Loads) -> tuple[int, int, int, str]:
    load = loads[node.metadata.name]
    unloved = sum(
        taint.effect == "PreferNoSchedule" and not tolerated(taint, pod.spec.tolerations) for taint in node.spec.taints
    )
    siblings = load.owners[taken.owner] if taken.owner else 0
    return unloved, siblings, load.pods, node.metadata.name
