"""The room that is kept for Pods whose victims are on their way out: nobody less important may take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from twinstack.scheduler.loads import Loads
from twinstack.scheduler.preemption import Room
from twinstack.scheduler.requests import Footprint


class _Nomination(NamedTuple):
    room: Room
    taken: Footprint


class Nominations:
    """By the uid of the Pod that waits."""

    def __init__(self) -> None:
        self._all: dict[str, _Nomination] = {}

    def add(self, uid: str, room: Room, taken: Footprint) -> None:
        self._all[uid] = _Nomination(room, taken)

    def remove(self, uid: str) -> bool:
        """Whether there was one."""
        return self._all.pop(uid, None) is not None

    def awaits_victims(self, uid: str, loads: Loads) -> bool:
        """Whether some of those whom the Pod sent away are still there."""
        nomination = self._all.get(uid)
        return nomination is not None and any(
            loads.node_of(victim) == nomination.room.node for victim in nomination.room.victims
        )

    @contextmanager
    def reserved(self, uid: str, priority: int, loads: Loads) -> Iterator[None]:
        """Count the nominated Pods that a Pod of this priority must not crowd out as if they were placed."""
        counted = [
            other
            for other, nomination in self._all.items()
            if other != uid and nomination.taken.priority >= priority and loads.node_of(other) is None
        ]
        try:
            for other in counted:
                loads.place(other, self._all[other].room.node, self._all[other].taken)
            yield
        finally:
            for other in counted:
                loads.remove(other)
