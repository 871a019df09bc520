"""What becomes of a packet on a node, in words and as JSON: the data plane's computation, nothing of the kernel's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from twinstack.client.kubeconfig import ClusterAccess
from twinstack.dataplane.endpoints import Endpoint
from twinstack.dataplane.fate import Fate, Origin, Outcome, Packet, comes_back, fate, left_out, origin_of
from twinstack.dataplane.model import FrontEnd, Protocol, Target
from twinstack.ip import Address, IPFamily
from twinstack.proxy import snapshot
from twinstack.proxy.configuration import Configuration
from twinstack.proxy.snapshot import Snapshot

_DESTINATION = re.compile(
    r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^/\[\]]+)):(?P<port>\d{1,5})(?:/(?P<protocol>\w+))?"
)


class Question(NamedTuple):
    """The packet asked about. Without a source, every origin is answered for."""

    address: Address
    port: int
    protocol: Protocol
    source: Address | None = None

    @classmethod
    def parse(cls, text: str, source: str = "") -> Question:
        """`10.96.0.1:80/TCP`, `[fd00::1]:53/udp`, `fd00::1:53/UDP`; TCP may be left out. Raises ValueError."""
        found = _DESTINATION.fullmatch(text.strip())
        protocol = Protocol.parse((found["protocol"] or "TCP").upper()) if found is not None else None
        if found is None or protocol is None or not 0 < int(found["port"]) < 1 << 16:
            raise ValueError(f"{text!r} is not ADDRESS:PORT/PROTO, like 10.96.0.1:443/TCP or [fd00::1]:53/UDP")
        address = Address.parse(found["bracketed"] or found["plain"])
        origin = Address.parse(source) if source else None
        if origin is not None and origin.family is not address.family:
            raise ValueError(f"{source} and {address} are of different families: no packet goes from one to the other")
        return cls(address, int(found["port"]), protocol, origin)

    def __str__(self) -> str:
        return f"{Target(self.address, self.port)}/{self.protocol.name}"


class Explanation(NamedTuple):
    """One packet's way."""

    packet: Packet
    fate: Fate
    endpoints: dict[Target, Endpoint]  # all there are behind the front end
    left_out: dict[Target, str]


async def ask(access: ClusterAccess, configuration: Configuration, question: Question) -> list[Explanation]:
    """Read the cluster and answer. Raises TimeoutError when the API server is silent."""
    taken = await snapshot.take(access, configuration, list(IPFamily))
    return explain(taken, question, masquerade_all=configuration.masquerade_all)


def explain(taken: Snapshot, question: Question, *, masquerade_all: bool = False) -> list[Explanation]:
    """One explanation for the source, or one for each origin without a source."""
    family = question.address.family
    claims, around = taken.claims[family], taken.surroundings[family]
    source = question.source
    origins = list(Origin) if source is None else [origin_of(source, around, taken.desired.node)]
    found = []
    for origin in origins:
        packet = Packet(origin, question.address, question.port, question.protocol, source)
        outcome = fate(packet, claims, around, masquerade_all=masquerade_all)
        front_end = outcome.front_end
        local = front_end is not None and front_end.local and outcome.targets is not front_end.near
        endpoints = taken.desired.endpoints(front_end.name, family) if front_end is not None else {}
        found.append(Explanation(packet, outcome, endpoints, left_out(endpoints, outcome.targets, local=local)))
    return found


def as_json(question: Question, explanations: list[Explanation]) -> str:
    document = {"destination": str(question), "packets": [_packet(each) for each in explanations]}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _packet(each: Explanation) -> dict[str, object]:
    packet, outcome = each.packet, each.fate
    front_end = outcome.front_end
    return {
        "from": packet.origin.name,
        "source": str(packet.source) if packet.source is not None else None,
        "outcome": outcome.outcome.value,
        "reason": outcome.reason,
        "service": f"{front_end.name.namespace}/{front_end.name.service}" if front_end is not None else None,
        "portName": front_end.name.port if front_end is not None else None,
        "via": str(front_end.via) if front_end is not None else None,
        "masquerade": outcome.masquerade,
        "masqueradeReason": outcome.masquerade_reason,
        "affinitySeconds": front_end.affinity if front_end is not None else 0,
        "candidates": [
            {"endpoint": str(target), "local": each.endpoints[target].local, "hairpin": _is_hairpin(each, target)}
            for target in outcome.targets
        ],
        "leftOut": [{"endpoint": str(target), "reason": reason} for target, reason in each.left_out.items()],
    }


def _is_hairpin(each: Explanation, target: Target) -> bool:
    return comes_back(each.packet, target, each.endpoints.get(target))


def as_text(question: Question, explanations: list[Explanation]) -> str:
    """For people. What is the same for every origin is said once."""
    first = explanations[0]
    lines = [f"{question}: {_meets(first.fate.front_end)}"]
    alike = all((each.fate, each.left_out) == (first.fate, first.left_out) for each in explanations)
    if alike and first.packet.source is None:
        return "\n".join([*lines, *_way("", first)]) + "\n"
    for each in explanations:
        who = f"{each.packet.source}, {each.packet.origin.value}" if each.packet.source else each.packet.origin.value
        lines += _way(f"from {who}: ", each)
    return "\n".join(lines) + "\n"


def _meets(front_end: FrontEnd | None) -> str:
    if front_end is None:
        return "no front end"
    traits = [str(front_end.via)]
    traits += [f"clients stay with their endpoint for {front_end.affinity} s"] if front_end.affinity else []
    traits += [f"open to {', '.join(map(str, front_end.sources))}"] if front_end.sources is not None else []
    return f"Service port {front_end.name} ({'; '.join(traits)})"


def _way(start: str, each: Explanation) -> Iterator[str]:
    outcome = each.fate
    yield f"  {start}{outcome.outcome.value}: {outcome.reason}"
    if outcome.outcome is Outcome.FORWARD:
        what = "masqueraded" if outcome.masquerade else "source kept"
        yield f"    {what}: {outcome.masquerade_reason}"
    for target in outcome.targets:
        notes = ["on this node"] if each.endpoints[target].local else []
        notes += ["the source itself, so masqueraded"] if _is_hairpin(each, target) else []
        yield f"    → {target}" + (f"  ({', '.join(notes)})" if notes else "")
    for target, reason in each.left_out.items():
        yield f"    ✗ {target}  ({reason})"
