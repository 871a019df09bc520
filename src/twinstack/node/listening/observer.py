"""Looks at the sockets of pods: soon after something happened to one, then ever more rarely.

A look costs 0.13 ms of CPU; many pods are looked at in one go, by one thread. What is found is told once it is good,
or once it was bad for a while: a container that is restarted, or has just begun, is no news.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from twinstack.ip import Address
from twinstack.linux import namespaces
from twinstack.linux.listeners import Listener, ListenerReader
from twinstack.node.listening.verdict import PROTOCOLS, Finding, Port, judge

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds between looks; doubles
DOUBT = 2.0  # seconds that something must be worse before that is told
GATHERED = 0.25  # of its pause that a look may come early, to be one with another

log = logging.getLogger(__name__)

Findings = tuple[Finding, ...]


class Target(NamedTuple):
    """What to look at. `signs`: when they change, something has happened to the pod."""

    namespace: Path
    addresses: tuple[Address, ...]
    ports: tuple[Port, ...]
    signs: frozenset[str] = frozenset()


class _Watched:
    __slots__ = ("doubted_since", "due", "pause", "target", "told")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.told: Findings = ()
        self.doubted_since: float | None = None
        self.pause = FIRST_PAUSE
        self.due = 0.0

    def hurry(self, now: float) -> None:
        self.pause, self.due = FIRST_PAUSE, now + FIRST_PAUSE

    def note(self, found: Findings, now: float) -> bool:
        """Whether that is to be told."""
        news = found != self.told and (_is_better(found, self.told) or self._has_lasted(now))
        if news:
            self.told = found
        if found == self.told:
            self.doubted_since = None
        elif self.doubted_since is None:
            self.doubted_since = now
        longest = LONGEST_PAUSE if self.doubted_since is None else DOUBT / 2
        self.pause = min(self.pause * 2, longest)
        self.due = now + self.pause
        return news

    def _has_lasted(self, now: float) -> bool:
        return self.doubted_since is not None and now - self.doubted_since >= DOUBT


def _is_better(found: Findings, told: Findings) -> bool:
    before = {finding.address: finding for finding in told}
    if not before.keys() >= {finding.address for finding in found}:
        return all(not finding.refusing for finding in found)
    return all(finding.improves(before[finding.address]) for finding in found)


class Observer:
    """Of one node. `changed` is called with the uid of a pod of which there is something new to tell."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self._wake = asyncio.Event()
        self._complained = False
        self.looks = 0
        self.seconds = 0.0  # of CPU

    def follow(self, uid: str, target: Target) -> None:
        """Look at a pod from now on. Idempotent; soon again if something about it is new."""
        known = self._watched.get(uid)
        if known is not None and known.target == target:
            return
        if known is None:
            known = self._watched[uid] = _Watched(target)
        elif known.target.addresses != target.addresses:
            known.told = ()
        known.target = target
        known.hurry(time.monotonic())
        self._wake.set()

    def forget(self, uid: str) -> None:
        self._watched.pop(uid, None)

    def all(self) -> dict[str, Findings]:
        """What was told of each pod, by uid."""
        return {uid: watched.told for uid, watched in self._watched.items()}

    def findings(self, uid: str) -> Findings:
        """What was last told, a Finding for each address; empty before the first."""
        known = self._watched.get(uid)
        return known.told if known is not None else ()

    async def run(self) -> None:
        """For ever; cancel to stop."""
        while True:
            self._wake.clear()
            due = min((watched.due for watched in self._watched.values()), default=None)
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        now = time.monotonic()
        chosen = {uid: w.target for uid, w in self._watched.items() if w.due - GATHERED * w.pause <= now}
        found = await asyncio.to_thread(namespaces.in_thread, lambda: self._read(chosen))
        now = time.monotonic()
        for uid, target in chosen.items():
            watched = self._watched.get(uid)
            if watched is None or watched.target != target:
                continue  # it went, or something has happened meanwhile
            listeners = found.get(uid)
            if listeners is None:
                watched.due = now + LONGEST_PAUSE  # its network is gone, and so will it be
            elif watched.note(tuple(judge(target.ports, a, listeners) for a in target.addresses), now):
                self._changed(uid)

    def _read(self, targets: Mapping[str, Target]) -> dict[str, list[Listener]]:
        """The listeners of each pod that has a network; in a thread of its own."""
        found: dict[str, list[Listener]] = {}
        for uid, target in targets.items():
            try:
                namespaces.enter(target.namespace)
                reader = ListenerReader()
            except OSError:
                continue  # it has just been taken away
            try:
                found[uid] = reader.read({PROTOCOLS[port.protocol] for port in target.ports})
            except OSError as error:
                if not self._complained:
                    log.warning(
                        "this kernel does not list the sockets of pods, so nothing tells who listens: %s", error
                    )
                self._complained = True
            finally:
                reader.close()
        self.looks += len(targets)
        self.seconds += time.thread_time()
        return found
