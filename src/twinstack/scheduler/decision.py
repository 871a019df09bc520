"""Where a Pod goes: the node that fits and carries least, or why none does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from twinstack.api.core import Node, Pod
from twinstack.scheduler import nodes as own
from twinstack.scheduler.filters import refusal
from twinstack.scheduler.loads import Loads
from twinstack.scheduler.neighbours import Neighbours
from twinstack.scheduler.preemption import Budget, Room, make_room
from twinstack.scheduler.refusals import Refusal
from twinstack.scheduler.requests import Footprint
from twinstack.scheduler.spreading import Spread
from twinstack.scheduler.terms import NamespaceLabels


class Decision(NamedTuple):
    """The name of the chosen node, or a message for people, and the room that others can be sent away for."""

    node: str | None
    message: str = ""
    room: Room | None = None


def decide(
    pod: Pod,
    taken: Footprint,
    nodes: Mapping[str, Node],
    loads: Loads,
    namespaces: NamespaceLabels,
    *,
    budgets: Callable[[], Sequence[Budget]] = tuple,
    ineligible: str = "",
) -> Decision:
    """Choose among `nodes` by name, given what is placed already and the labels of namespaces.

    Of the nodes that fit: that with the fewest preferred-against taints, then what the Pod prefers, then the fewest
    Pods of the same owner, then the fewest Pods at all. `ineligible`: why nobody is sent away for it. `budgets` are
    asked for when somebody may have to be.
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
    told = _told(len(nodes), Counter(reason for against in refusals.values() for reason in against.reasons))
    if pod.spec.preemption_policy == "Never":
        ineligible = "not eligible due to preemptionPolicy=Never."
    if ineligible:
        return Decision(None, f"{told} preemption: {ineligible}")

    def fits(node: Node) -> Refusal | None:
        return (
            refusal(pod, taken, node, loads[node.metadata.name])
            or Spread(pod, taken, nodes, loads).refusal(node)
            or Neighbours(pod, taken, nodes, loads, namespaces).refusal(node)
        )

    room, reasons = make_room(taken.priority, nodes, refusals, loads, fits, budgets())
    return Decision(None, told if room else f"{told} preemption: {_told(len(nodes), reasons)}", room)


def refused_everywhere(pod: Pod, nodes: Mapping[str, Node], why: Refusal) -> str:
    """The message about a Pod that no node may have, for the same reason, whoever else is there."""
    told = f"0/{len(nodes)} nodes are available: {', '.join(why.reasons)}."
    if pod.spec.preemption_policy == "Never":
        return f"{told} preemption: not eligible due to preemptionPolicy=Never."
    helpless = Counter({"Preemption is not helpful for scheduling": len(nodes)})
    return f"{told} preemption: {_told(len(nodes), helpless)}"


def _told(total: int, reasons: Counter[str]) -> str:
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{total} nodes are available: {listed}."
