"""Carries out what a repair has found: mends in one transaction, then tells in events."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twinstack.server.recorder import Recorder
from twinstack.server.registry import Registry
from twinstack.server.repair.findings import Finding, reference
from twinstack.store import Operation

_ATTEMPTS = 20  # against others that are faster
_MOST_EVENTS = 100  # of one look: a cluster whose range is gone must not fill the store with its complaints


class Mender:
    """Mends through the registry and tells as `controller`."""

    def __init__(self, registry: Registry, controller: str) -> None:
        self._registry = registry
        self._recorder = Recorder(registry, controller)
        self._told = 0

    def begin(self) -> None:
        """A new look begins."""
        self._told = 0

    async def settle(self, judge: Callable[[], Iterable[Finding]]) -> None:
        """Judge, mend and tell; judge again after a lost race, or when one mend had to wait for another.

        Raises StatusError when the store fails.
        """
        told: set[str] = set()
        for _ in range(_ATTEMPTS):
            findings, waiting = _without_collisions(judge())
            if not await self._registry.commit([finding.mend for finding in findings if finding.mend is not None]):
                continue
            for finding in findings:
                if finding.reason and finding.note not in told:
                    told.add(finding.note)
                    await self._tell(finding)
            if not waiting:
                return

    async def _tell(self, finding: Finding) -> None:
        self._told += 1
        if self._told <= _MOST_EVENTS:
            await self._recorder.warn(reference(finding.about), finding.action, finding.reason, finding.note)


def _without_collisions(findings: Iterable[Finding]) -> tuple[list[Finding], bool]:
    """Those that can be mended together, and whether there are others: one transaction writes a key once."""
    operations: dict[str, Operation] = {}
    chosen: list[Finding] = []
    waiting = False
    for finding in findings:
        if finding.mend is not None and operations.setdefault(finding.mend.key, finding.mend) is not finding.mend:
            waiting = True
        else:
            chosen.append(finding)
    return chosen, waiting
