"""Where a Pod goes: the node that fits and carries least, or why none does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from twinstack.api.core import Node, Pod
from twinstack.scheduler import nodes as own
from twinstack.scheduler.filters import refusal
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.neighbours import Neighbours
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import Footprint
from twinstack.scheduler.spreading import Spread
from twinstack.scheduler.terms import NamespaceLabels


class Decision(NamedTuple):
    """The name of the chosen node, or a message for people."""

    node: str | None
    message: str = ""


def decide(
    pod: Pod, taken: Footprint, nodes: Mapping[str, Node], loads: Loads, namespaces: NamespaceLabels
) -> Decision:
    """Choose among `nodes` by name, given what is placed already and the labels of namespaces.

    Of the nodes that fit: that with the fewest preferred-against taints, then what the Pod prefers, then the fewest
    Pods of the same owner, then the fewest Pods at all.
    """
    if not nodes:
        return Decision(None, "no nodes available to schedule pods")
    spread = Spread(pod, taken, nodes, loads)
    neighbours = Neighbours(pod, taken, nodes, loads, namespaces)
    refusals: dict[str, Refusal] = {}
    best: tuple[tuple[int, int, int, int, str], str] | None = None
    for name, node in nodes.items():
        load = loads[name]
        against = refusal(pod, taken, node, load) or spread.refusal(node) or neighbours.refusal(node)
        if against is not None:
            refusals[name] = against
            continue
        cost = (
            own.disliked(pod, node),
            -own.preference(pod, node) - neighbours.preference(node),
            load.owners[taken.owner] if taken.owner else 0,
            load.pods,
            name,
        )
        if best is None or cost < best[0]:
            best = (cost, name)
    if best is not None:
        return Decision(best[1])
    reasons = Counter(reason for against in refusals.values() for reason in against.reasons)
    return Decision(None, f"{_told(len(nodes), reasons)} {_preemption(pod, taken, refusals, loads)}")


def refused_everywhere(pod: Pod, taken: Footprint, nodes: Mapping[str, Node], loads: Loads, why: Refusal) -> str:
    """The message about a Pod that no node may have, for the same reason."""
    told = f"0/{len(nodes)} nodes are available: {', '.join(why.reasons)}."
    return f"{told} {_preemption(pod, taken, dict.fromkeys(nodes, why), loads)}"


def _told(total: int, reasons: Counter[str]) -> str:
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{total} nodes are available: {listed}."


def _preemption(pod: Pod, taken: Footprint, refusals: dict[str, Refusal], loads: Loads) -> str:
    """Whether Pods of lower priority could make room. This scheduler never takes it."""
    if pod.spec.preemption_policy == "Never":
        return "preemption: not eligible due to preemptionPolicy=Never."
    reasons: Counter[str] = Counter()
    for name, against in refusals.items():
        if not against.resolvable:
            reasons["Preemption is not helpful for scheduling"] += 1
        elif loads[name].lowest_priority >= taken.priority:
            reasons["No preemption victims found for incoming pod"] += 1
        else:
            reasons["node(s) have Pods of lower priority, which this scheduler lets run"] += 1
    return f"preemption: {_told(len(refusals), reasons)}"
