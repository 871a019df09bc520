"""Endpoints laid into EndpointSlices with the fewest writes, whatever they are of (discovery/v1). Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from twinstack.api.discovery import Endpoint, EndpointPort, EndpointSlice
from twinstack.api.meta import Object, ObjectMeta
from twinstack.controllers.endpoints import Group, PortKey, port_key
from twinstack.controllers.owners import reference_to
from twinstack.ip import IPFamily

_NAME_ROOM = 58  # characters of a generateName that the server keeps

Identity = tuple[str, tuple[str, ...]]


class Plan(NamedTuple):
    """The writes that bring the slices to what they should be. Updates keep name and resourceVersion."""

    creates: list[EndpointSlice]
    updates: list[EndpointSlice]
    deletes: list[EndpointSlice]

    def __bool__(self) -> bool:
        return bool(self.creates or self.updates or self.deletes)


class _Draft:
    """A slice being filled. `old` is the existing one, None for a new one; `changed` if it must be written."""

    def __init__(self, old: EndpointSlice | None, ports: list[EndpointPort], endpoints: list[Endpoint]) -> None:
        self.old = old
        self.ports = ports
        self.endpoints = endpoints
        self.changed = old is None


class Writer(ABC):
    """Makes the slices of one owner and family."""

    def __init__(self, owner: Object, family: IPFamily, labels: dict[str, str]) -> None:
        self._owner = owner
        self._family = family
        self._labels = labels

    @abstractmethod
    def differs(self, slice_: EndpointSlice) -> bool:
        """Whether an existing slice must be written for its labels or annotations alone."""

    @abstractmethod
    def annotations(self, before: dict[str, str]) -> dict[str, str]:
        """The annotations of a slice that is written."""

    def new(self, ports: list[EndpointPort], endpoints: list[Endpoint]) -> EndpointSlice:
        meta = self._owner.metadata
        prefix = f"{meta.name}-"
        return EndpointSlice(
            metadata=ObjectMeta(
                generate_name=prefix if len(prefix) <= _NAME_ROOM else meta.name,
                namespace=meta.namespace,
                labels=dict(self._labels),
                annotations=self.annotations({}),
                owner_references=[reference_to(self._owner)],
            ),
            address_type=self._family.value,
            endpoints=endpoints,
            ports=ports,
        )

    def changed(self, old: EndpointSlice, ports: list[EndpointPort], endpoints: list[Endpoint]) -> EndpointSlice:
        metadata = msgspec.structs.replace(
            old.metadata, labels=dict(self._labels), annotations=self.annotations(old.metadata.annotations)
        )
        return msgspec.structs.replace(old, metadata=metadata, ports=ports, endpoints=endpoints)


def plan(
    families: Mapping[IPFamily, Mapping[PortKey, Group]],
    existing: Iterable[EndpointSlice],
    maximum: int,
    writer: Callable[[IPFamily], Writer],
    *,
    placeholders: bool = True,
) -> Plan:
    """Compare the slices that an owner has with what it should have.

    At most `maximum` endpoints go into one slice. Slices of a family that is not among `families` are deleted.
    `placeholders`: a family without endpoints has one empty slice, not none.
    """
    result = Plan([], [], [])
    by_family: dict[str, list[EndpointSlice]] = {}
    for slice_ in existing:
        by_family.setdefault(slice_.address_type, []).append(slice_)
    for family, groups in families.items():
        own = by_family.pop(family.value, [])
        _plan_family(result, writer(family), groups, own, maximum, placeholders)
    for stale in by_family.values():
        result.deletes.extend(stale)
    return result


def _plan_family(
    result: Plan,
    writer: Writer,
    groups: Mapping[PortKey, Group],
    existing: list[EndpointSlice],
    maximum: int,
    placeholders: bool,
) -> None:
    drafts: list[_Draft] = []
    deletes: list[EndpointSlice] = []
    by_ports: dict[PortKey, list[EndpointSlice]] = {}
    for slice_ in existing:
        by_ports.setdefault(port_key(slice_.ports), []).append(slice_)
    for key, group in groups.items():
        kept = _keep(group, by_ports.pop(key, []), deletes)
        drafts += _pack(group, kept, maximum)
    for stale in by_ports.values():
        deletes += stale
    if not drafts and placeholders:
        placeholder = next((slice_ for slice_ in deletes if not slice_.endpoints and not slice_.ports), None)
        if placeholder is not None:
            deletes.remove(placeholder)
        drafts.append(_Draft(placeholder, [], []))
    for draft in drafts:
        if draft.old is None and deletes:
            draft.old = deletes.pop()  # one update instead of a deletion and a creation
        if draft.old is None:
            result.creates.append(writer.new(draft.ports, draft.endpoints))
        elif draft.changed or writer.differs(draft.old):
            result.updates.append(writer.changed(draft.old, draft.ports, draft.endpoints))
    result.deletes.extend(deletes)


def _keep(
    group: Group, existing: list[EndpointSlice], deletes: list[EndpointSlice]
) -> tuple[list[_Draft], list[Endpoint]]:
    """Existing slices without endpoints that are unwanted and with those that changed; and what none holds yet."""
    wanted = {_identity(endpoint): endpoint for endpoint in group.endpoints}
    drafts = []
    for slice_ in existing:
        before = slice_.endpoints or []
        after = []
        for endpoint in before:
            current = wanted.pop(_identity(endpoint), None)
            if current is not None:
                after.append(current)
        if not after:
            deletes.append(slice_)
            continue
        draft = _Draft(slice_, group.ports, after)
        draft.changed = after != before
        drafts.append(draft)
    return drafts, list(wanted.values())


def _pack(group: Group, kept: tuple[list[_Draft], list[Endpoint]], maximum: int) -> list[_Draft]:
    """Place what no slice holds: into slices that are written anyway, the fullest first, then where it all fits."""
    drafts, rest = kept
    for draft in sorted((d for d in drafts if d.changed), key=lambda d: -len(d.endpoints)):
        room = max(0, maximum - len(draft.endpoints))
        draft.endpoints += rest[:room]
        rest = rest[room:]
    if rest and len(rest) < maximum:
        fitting = [d for d in drafts if not d.changed and len(d.endpoints) + len(rest) <= maximum]
        if fitting:
            best = max(fitting, key=lambda d: len(d.endpoints))
            best.endpoints += rest
            best.changed = True
            rest = []
    drafts += [_Draft(None, group.ports, rest[at : at + maximum]) for at in range(0, len(rest), maximum)]
    return drafts


def _identity(endpoint: Endpoint) -> Identity:
    target = endpoint.target_ref
    return (target.uid if target is not None else "", tuple(endpoint.addresses))
