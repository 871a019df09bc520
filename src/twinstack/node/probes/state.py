"""What the probes of one run of a container come to, and when the next one is due. Pure.

As kubelet 1.36 counts (pkg/kubelet/prober, by behaviour): thresholds count results in a row, a startup probe holds
the others back until it has succeeded once, and a container that failed its startup or liveness probe is probed no
more, since it will be replaced.

Attempts fall on a grid of periods from the container's start. A container that has yet to become started or ready
is asked more often until the first of them, so that what is up in a tenth of a second does not wait for ten; those
early attempts can only do good: nothing that fails then is counted before kubelet would have looked.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from twinstack.api import core

FIRST_PAUSE = 0.1  # seconds between the first early attempts; doubles
FIRST_EXEC_PAUSE = 0.4  # a program in a container is started for each
UNSEEN = 1.0  # seconds of a container's life in which kubelet would not yet know of it


class ProbeKind(enum.StrEnum):
    """Which of a container's probes; the value is how events name it."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


class ProbeSpec(NamedTuple):
    """v1 Probe. Times in seconds."""

    handler: Mapping[str, Any]  # with one of exec, httpGet, tcpSocket, grpc
    initial_delay: int = 0
    timeout: int = 1
    period: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    grace: int | None = None  # for the container that it fails; else the pod's

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> ProbeSpec:
        """From its JSON, whose defaults the API server has filled in."""
        return cls(
            probe,
            initial_delay=probe.get("initialDelaySeconds") or 0,
            timeout=max(1, probe.get("timeoutSeconds") or 1),
            period=max(1, probe.get("periodSeconds") or 10),
            success_threshold=max(1, probe.get("successThreshold") or 1),
            failure_threshold=max(1, probe.get("failureThreshold") or 3),
            grace=probe.get("terminationGracePeriodSeconds"),
        )


def specs(container: core.Container) -> dict[ProbeKind, ProbeSpec]:
    """The probes that a container has."""
    given = {
        ProbeKind.STARTUP: container.startup_probe,
        ProbeKind.LIVENESS: container.liveness_probe,
        ProbeKind.READINESS: container.readiness_probe,
    }
    return {kind: ProbeSpec.of(probe) for kind, probe in given.items() if probe is not None}


class Count(NamedTuple):
    """How often a probe of a container came to a result."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    kind: ProbeKind
    result: str
    times: int


class Health(NamedTuple):
    """What a pod's status and its restarts follow from. `failed`: the probe for which the container must go."""

    started: bool = True
    ready: bool = True
    failed: ProbeKind | None = None


class Attempt(NamedTuple):
    """When to probe (Unix seconds), and whether a failure then counts."""

    at: float
    counts: bool


class _Results:
    """The results of one probe: the last, how many times in a row, and the one that holds."""

    __slots__ = ("attempts", "held", "last", "row")

    def __init__(self, held: bool | None) -> None:
        self.held = held
        self.last: bool | None = None
        self.row = 0
        self.attempts = 0

    def add(self, success: bool, spec: ProbeSpec) -> None:
        self.row = self.row + 1 if success is self.last else 1
        self.last = success
        if self.row >= (spec.success_threshold if success else spec.failure_threshold):
            self.held = success


class Probed:
    """One run of a container with probes. Times are Unix seconds.

    `started` and `ready`: what is known of it already, when an earlier agent began the probing.
    """

    def __init__(
        self,
        probes: Mapping[ProbeKind, ProbeSpec],
        started_at: float,
        *,
        started: bool = False,
        ready: bool = False,
    ) -> None:
        self.probes = probes
        self._started_at = started_at
        self._started_since = started_at  # when the startup probe let the others go on
        held = {ProbeKind.STARTUP: started or None, ProbeKind.LIVENESS: True, ProbeKind.READINESS: ready}
        self._results = {kind: _Results(held[kind]) for kind in probes}
        self._retired = False

    @property
    def health(self) -> Health:
        failed = next((kind for kind in (ProbeKind.STARTUP, ProbeKind.LIVENESS) if self._held(kind) is False), None)
        started = not self._awaits_start
        return Health(started, started and self._held(ProbeKind.READINESS) is not False, failed)

    def _held(self, kind: ProbeKind) -> bool | None:
        results = self._results.get(kind)
        return results.held if results is not None else None

    @property
    def _awaits_start(self) -> bool:
        return ProbeKind.STARTUP in self.probes and self._held(ProbeKind.STARTUP) is not True

    def wants(self, kind: ProbeKind) -> bool:
        """Whether this probe is carried out at present."""
        if kind not in self.probes or self.health.failed is not None:
            return False
        if self._retired and kind is not ProbeKind.READINESS:
            return False
        return (kind is ProbeKind.STARTUP) is self._awaits_start

    def next(self, kind: ProbeKind, now: float) -> Attempt:
        """The attempt after those that have been recorded; `now` is not before the last one's time."""
        spec, results = self.probes[kind], self._results[kind]
        opened = self._started_at + spec.initial_delay
        if kind is not ProbeKind.STARTUP:
            opened = max(opened, self._started_since)
        first = self._started_at + spec.period * max(1, math.ceil((opened - self._started_at) / spec.period))
        if kind is not ProbeKind.LIVENESS and results.held is not True:
            early = max(opened, now + _pause(spec, results.attempts))
            if early < first:
                return Attempt(early, counts=kind is ProbeKind.READINESS and early >= opened + UNSEEN)
        if now < first:
            return Attempt(first, counts=True)
        passed = math.floor((now - self._started_at) / spec.period + 1e-6)
        return Attempt(self._started_at + spec.period * (passed + 1), counts=True)

    def record(self, kind: ProbeKind, success: bool | None, now: float, *, counts: bool = True) -> bool:
        """Take a result in, or None when the probe itself went wrong; whether the health is another now.

        A failure that does not count is only noted as an attempt.
        """
        results = self._results[kind]
        results.attempts += 1
        if success is None or not self.wants(kind) or not (success or counts):
            return False
        before = self.health
        results.add(success, self.probes[kind])
        if kind is ProbeKind.STARTUP and self.health.started:
            self._started_since = now
        return self.health != before

    def retire(self) -> None:
        """The pod is being deleted: from now on only readiness is of interest."""
        self._retired = True


def _pause(spec: ProbeSpec, attempts: int) -> float:
    """Between early attempts."""
    first = FIRST_EXEC_PAUSE if "exec" in spec.handler else FIRST_PAUSE
    return first * 2.0 ** (attempts - 1) if attempts else 0.0
